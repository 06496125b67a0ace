//! A host that calls its plugins through objects that they register in its Extension.
//!
//! Try: run it with the commands below, change the cat's sound in `sample-plugins/cat/src/lib.rs`, run the
//! first command again in another terminal, and press Enter here: the host finds the new version's object.
//!
//! `cargo run -p hotswap-console --bin hotswap -- build sample-plugins/cat target/hotswap/plugins/extension`
//! `cargo run -p sample-host --example extension`

use std::io::stdin;

use eyre::Result;
use hotswap_engine::Engine;
use sample_api::Animal;

/// The host's own object. Each generation gets a new one, made from the one before.
#[derive(serde::Serialize)]
struct House {
    generations: u32,
}

fn main() -> Result<()> {
    let engine = Engine::builder("target/hotswap/plugins/extension")
        .only(["cat"])
        .extension(|previous: Option<&House>| House {
            generations: previous.map_or(0, |house| house.generations + 1),
        })
        .build()?;
    println!("{}", engine.load(())?);
    loop {
        let current = engine.current();
        let generations = current.extension::<House>().map_or(0, |house| house.generations);
        println!("generation {generations} of the house");
        for animal in current.registered::<dyn Animal>()? {
            println!("{} of {}: {}", animal.name, animal.owner, animal.object.speak(3));
        }
        // A handle keeps its generation in use, so it is dropped before the reload.
        drop(current);
        println!("Enter reloads, Ctrl-D ends");
        if stdin().read_line(&mut String::new())? == 0 {
            return Ok(());
        }
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}
