//! A host whose plugins are linked into it: for a debugger, and for platforms that cannot unload.
//!
//! `sample-host/static-plugins` was generated, one plugin after the other, by the first command below;
//! with `--clean` it takes the plugin out again.
//!
//! Try: run it, and press Enter: the same plugins as elsewhere, and a reload that says why there is
//! none. Then stop in a plugin with a debugger, as in any program; with `CARGO_PROFILE_DEV_DEBUG=full`
//! at the build also by name, `break dog::bark`, and with the variables to look at.
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
