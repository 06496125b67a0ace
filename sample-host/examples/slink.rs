//! A host whose plugins are linked into it: for a debugger, and for platforms that cannot unload.
//!
//! The first command below generated the crate `sample-host/static-plugins`, a call for each plugin. With
//! `--clean` it removes the plugin from the crate.
//!
//! Try: run it, and press Enter. It calls the same plugins as the other hosts, and the reload says why
//! it is refused. Then stop in a plugin with a debugger, as in any program. If it was built with
//! `CARGO_PROFILE_DEV_DEBUG=full`, `break dog::bark` works too, and the debugger shows variables.
//!
//! `hotswap build --static-linking sample-plugins/dog sample-host/static-plugins`
//! `cargo run -p sample-host --example slink`
//! `gdb -ex 'break dog/src/lib.rs:34' -ex run -ex backtrace target/debug/examples/slink`

use std::io::stdin;

use color_eyre::eyre::Result;
use hotswap_engine::{ConsoleSocket, Engine, args};

fn main() -> Result<()> {
    let engine = Engine::builder_static(static_plugins::plugins())
        .console(ConsoleSocket::from_env()) // with HOTSWAP_CONSOLE=1: `hotswap status`
        .build()?;
    println!("{}", engine.load(())?);
    loop {
        let greeting: String = engine.plugin("world")?.invoke("greet", args!["Ada", 2])?;
        let bark: String = engine.plugin("dog")?.invoke("bark", args![3])?;
        println!("{greeting}\n{bark}\nEnter reloads, Ctrl-D ends");
        if stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}
