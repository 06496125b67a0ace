//! The plugin `guardian`: does the jobs that wait in the host's queue, with its newest code.
//!
//! Try: `curl -d '{"rounds": 3}' localhost:PORT/jobs/live_fire` some times, change what `live_fire`
//! says below and save: jobs that were queued before are done by the new code. Then give `LiveFire`
//! another field with `#[serde(default)]`.

use hotswap_plugin::prelude::*;
use serde::{Deserialize, Serialize};

/// How many jobs were done, in the DataBag; it outlives reloads.
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

/// What the host's queue may ask for.
#[live]
mod jobs {
    use super::{Deserialize, JOBS_DONE, Result, Serialize, Vault};

    /// An order to fire.
    #[derive(Serialize, Deserialize)]
    pub struct LiveFire {
        /// How often.
        rounds: u32,
    }

    /// Fires.
    pub fn live_fire(vault: &Vault, fire: LiveFire) -> Result<String> {
        done(vault)?;
        Ok(vec!["Bang!"; fire.rounds.min(100) as usize].join(" "))
    }

    /// An order to call somebody's name.
    #[derive(Serialize, Deserialize)]
    pub struct LiveRollCall {
        /// Whose.
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

/// The host's heartbeat.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the guardian looks around");
}
