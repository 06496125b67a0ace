//! A host that links its plugins, or loads them: linked for a debugger and for platforms that cannot unload,
//! loaded to be reloaded.
//!
//! Commands such as the first one below generated the crate `sample-host/static-plugins`, a command for each
//! plugin. With `--clean` it removes the plugin from the crate.
//!
//! Try: run it, and press Enter. It calls the same functions as when it loads its plugins, also a live one,
//! and the reload says why it is refused. Then run it with `loaded`, as below: there a reload works. Or stop
//! in a linked plugin with a debugger, as in any program. If it was built with `CARGO_PROFILE_DEV_DEBUG=full`,
//! `break dog::bark` works too, and the debugger shows variables.
//!
//! `cargo run -p hotswap-console --bin hotswap -- build --static-linking sample-plugins/dog sample-host/static-plugins`
//! `cargo run -p sample-host --example slink`
//! `gdb -ex 'break dog/src/lib.rs:34' -ex run -ex backtrace target/debug/examples/slink`
//! `for p in dog guardian world; do cargo run -p hotswap-console --bin hotswap -- build sample-plugins/$p target/hotswap/plugins/slink; done`
//! `cargo run -p sample-host --example slink -- loaded`

use std::{env, io::stdin};

use eyre::{Result, eyre};
use hotswap_engine::{ConsoleSocket, Data, Engine, Value, args};

fn main() -> Result<()> {
    let is_loaded = env::args().nth(1).is_some_and(|mode| mode == "loaded");
    let builder = match is_loaded {
        true => Engine::builder("target/hotswap/plugins/slink").only(["dog", "guardian", "world"]),
        false => Engine::builder_static(static_plugins::plugins()),
    };
    // With HOTSWAP_CONSOLE=1: `hotswap status`.
    let engine = builder.console(ConsoleSocket::from_env()).build()?;
    println!("{}; statically linked: {}", engine.load(())?, engine.is_statically_linked());
    loop {
        let greeting: String = engine.plugin("world")?.invoke("greet", args!["Ada", 2])?;
        let bark: String = engine.plugin("dog")?.invoke("bark", args![3])?;
        println!("{greeting}\n{bark}\n{}\nEnter reloads, Ctrl-D ends", fire(&engine)?);
        if stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}

/// Calls a live function of any plugin.
fn fire(engine: &Engine) -> Result<String> {
    let rounds = Value::Map(vec![("rounds".to_owned(), 3_u32.into())]);
    let job = Data::named("LiveFire", rounds);
    let answer = engine.vault().live().call("live_fire", &[job.value().clone()]);
    answer.and_then(|answer| answer.to()).map_err(|error| eyre!("{error}"))
}
