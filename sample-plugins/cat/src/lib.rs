//! The plugin `cat`: registers itself in the host's Extension, and is called through there.
//!
//! Try: `hotswap vault`, and `GET /animals` of the sample host; in the console the form of `meet`,
//! and `nap`, which can be cancelled.

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
    /// What it brings.
    gift: Option<String>,
}

/// What a guest is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "hotswap_plugin::schemars")]
enum Kind {
    Person,
    Mouse,
    Dog { loud: bool },
}

/// Says what the cat does with each of its guests.
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

/// Sleeps for some seconds, unless somebody cancels that.
#[invoke]
async fn nap(seconds: u32) -> Result<String> {
    rt::sleep(Duration::from_secs(seconds.into())).await?;
    Ok(format!("yawns after {seconds} s"))
}

/// The host's heartbeat.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the cat purrs");
}
