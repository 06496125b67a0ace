//! A minimal host: it calls one plugin, which can be replaced from one call to the next.
//!
//! Try: run it, change the greeting in `sample-plugins/world/src/lib.rs`, build it in another terminal
//! with `hotswap build sample-plugins/world target/hotswap/plugins/hello`, and press Enter here.
//!
//! `hotswap build sample-plugins/world target/hotswap/plugins/hello`
//! `cargo run -p sample-host --example hello`

use std::io::stdin;

use color_eyre::eyre::Result;
use hotswap_engine::{Engine, args};

fn main() -> Result<()> {
    let engine = Engine::builder("target/hotswap/plugins/hello").only(["world"]).build()?;
    println!("{}", engine.load(())?);
    loop {
        let greeting: String = engine.plugin("world")?.invoke("greet", args!["Ada", 2])?;
        println!("{greeting}\nEnter reloads, Ctrl-D ends");
        if stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        // If the reload is refused, the old version keeps serving.
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}
