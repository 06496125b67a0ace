//! A host with three plugins that need each other: `gamma` imports `alpha` and `beta`, `beta` imports
//! `alpha`.
//!
//! Try: run it with the commands below, change the number in `sample-plugins/alpha/src/lib.rs`, run the first
//! command again in another terminal, and press Enter here: `alpha: ok, beta: rebound, gamma: rebound`.
//!
//! `for p in alpha beta gamma; do cargo run -p hotswap-console --bin hotswap -- build sample-plugins/$p target/hotswap/plugins/trine; done`
//! `cargo run -p sample-host --example trine`

use std::io::stdin;

use eyre::Result;
use hotswap_engine::Engine;

fn main() -> Result<()> {
    let engine =
        Engine::builder("target/hotswap/plugins/trine").only(["alpha", "beta", "gamma"]).build()?;
    println!("{}", engine.load(())?);
    // A typed function: it is checked once, and follows every reload.
    let sum = engine.func::<fn() -> u32>("gamma", "sum")?;
    loop {
        println!("alpha + beta = {}\nEnter reloads, Ctrl-D ends", sum.call()?);
        if stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}
