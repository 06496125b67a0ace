//! A host with a queue of jobs that outlives reloads: the newest code does each job.
//!
//! Try: run it and press Enter several times, which queues jobs. Change what `live_fire` says in
//! `sample-plugins/guardian/src/lib.rs`, build it in another terminal with the first command below, and
//! type `go`: the new code does the jobs that were queued before the reload.
//!
//! `hotswap build sample-plugins/guardian target/hotswap/plugins/livex`
//! `cargo run -p sample-host --example livex`

use std::{collections::VecDeque, io::stdin};

use color_eyre::eyre::Result;
use hotswap_engine::{Data, Engine, plugin::JsonSchema};

/// A job as the host knows it. The plugin's type has the same name and the same fields, and may change.
#[derive(serde::Serialize, JsonSchema)]
#[schemars(crate = "hotswap_engine::plugin::schemars")]
struct LiveFire {
    rounds: u32,
}

fn main() -> Result<()> {
    let engine = Engine::builder("target/hotswap/plugins/livex").only(["guardian"]).build()?;
    println!("{}", engine.load(())?);
    let mut queue = VecDeque::new();
    loop {
        println!("jobs that wait: {}; Enter queues one, `go` reloads and does them", queue.len());
        let mut line = String::new();
        if stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim() != "go" {
            let fire = LiveFire { rounds: queue.len() as u32 + 1 };
            let data = Data::wrap(&fire).map_err(|error| color_eyre::eyre::eyre!("{error}"))?;
            queue.push_back(("live_fire", data));
            continue;
        }
        match engine.reload() {
            Ok(report) => println!("{report}"),
            Err(error) => println!("refused: {error}"),
        }
        for (function, data) in queue.drain(..) {
            match engine.vault().live().call(function, &[data.value().clone()]) {
                Ok(answer) => println!("{}", answer.to::<String>().unwrap_or_default()),
                Err(error) => println!("failed: {error:?}"),
            }
        }
    }
}
