//! The plugin `cat`: registers an object in the host's Extension, which the host finds and calls there.
//!
//! Try: `hotswap vault`, and `GET /animals` of the sample host. In the console, fill in the form of
//! `meet`, and call `nap`, which can be cancelled.

use std::time::Duration;

use hotswap_plugin::{prelude::*, rt};
use sample_api::Animal;
use serde::{Deserialize, Serialize};

/// Lives in the host's yard.
#[derive(Default)]
struct Cat;

#[plugin]
impl Plugin for Cat {
    fn on_init(&self, vault: &Vault) -> Result<()> {
        vault.extension().register::<dyn Animal, _>("tom", Tom { sound: "meow" })
    }
}

/// The cat itself.
struct Tom {
    sound: &'static str,
}

impl Animal for Tom {
    fn speak(&self, times: u32) -> String {
        tracing::debug!(times, "the cat speaks");
        vec![self.sound; times.min(100) as usize].join(" ")
    }
}

/// Somebody who comes into the yard.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "hotswap_plugin::schemars")]
struct Guest {
    name: String,
    kind: Kind,
    /// What the guest brings, if anything.
    gift: Option<String>,
}

/// The kinds of guests.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "hotswap_plugin::schemars")]
enum Kind {
    Person,
    Mouse,
    Dog { loud: bool },
}

/// Returns what the cat does with each guest.
#[invoke]
fn meet(guests: Vec<Guest>) -> Vec<String> {
    let welcome = |Guest { name, kind, gift }| match (kind, gift) {
        (Kind::Mouse, _) => format!("chases {name}"),
        (Kind::Dog { loud: true }, _) => format!("runs from {name}"),
        (_, Some(gift)) => format!("looks at {name}'s {gift}"),
        (_, None) => format!("ignores {name}"),
    };
    guests.into_iter().map(welcome).collect()
}

/// Sleeps for `seconds`, unless somebody cancels the call.
#[invoke]
async fn nap(seconds: u32) -> Result<String> {
    rt::sleep(Duration::from_secs(seconds.into())).await?;
    Ok(format!("yawns after {seconds} s"))
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the cat purrs");
}
