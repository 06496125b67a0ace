//! The plugin `guardian`: does the jobs in the host's queue, always with the newest code.
//!
//! Try: run `curl -d '{"rounds": 3}' localhost:PORT/jobs/LiveFire` several times, change what
//! `live_fire` says below, and save. The new code does the jobs that are still queued. Then add another
//! field to `LiveFire`, with `#[serde(default)]`.

use hotswap_plugin::prelude::*;
use sample_api::JobQueue;
use serde::{Deserialize, Serialize};

/// The key of the number of jobs done in the DataBag. The number outlives reloads.
const JOBS_DONE: &str = "jobs done";

/// Guards the gate.
#[derive(Default)]
struct Guardian;

#[plugin]
impl Plugin for Guardian {
    fn on_init(&self, vault: &Vault) -> Result<()> {
        vault.data_bag().carry(JOBS_DONE, || 0_u64)?;
        Ok(())
    }
}

/// The jobs that the host's queue can have done.
#[live]
mod jobs {
    use super::{Deserialize, JOBS_DONE, Result, Serialize, Vault};

    /// An order to fire.
    #[derive(Serialize, Deserialize)]
    pub struct LiveFire {
        /// How many shots.
        pub rounds: u32,
    }

    /// Fires.
    pub fn live_fire(vault: &Vault, fire: LiveFire) -> Result<String> {
        done(vault)?;
        Ok(vec!["Bang!"; fire.rounds.min(100) as usize].join(" "))
    }

    /// An order to call somebody's name.
    #[derive(Serialize, Deserialize)]
    pub struct LiveRollCall {
        /// The name to call.
        name: String,
    }

    /// Calls a name.
    pub fn live_roll_call(vault: &Vault, call: LiveRollCall) -> Result<String> {
        done(vault)?;
        Ok(format!("{}! Present.", call.name))
    }

    fn done(vault: &Vault) -> Result<u64> {
        vault.data_bag().update(
            JOBS_DONE,
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )
    }
}

/// Orders itself to fire: hands the job to the queue that the host has registered.
#[invoke]
fn order(vault: &Vault, rounds: u32) -> Result<()> {
    let queue = vault.extension().find::<dyn JobQueue>("jobs")?;
    let queue = queue.ok_or_else(|| Error::msg("the host has no queue `jobs`"))?;
    queue.add(Data::wrap(&jobs::LiveFire { rounds })?);
    Ok(())
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the guardian looks around");
}
