//! The plugin `cat`: registers itself in the host's Extension, and is called through there.
//!
//! Try: `hotswap vault`, and `GET /animals` of the sample host.

use hotswap_plugin::prelude::*;
use sample_api::Animal;

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

/// The host's heartbeat.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the cat purrs");
}
