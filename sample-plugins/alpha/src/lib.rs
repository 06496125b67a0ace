//! The plugin `alpha`: exports a number that `beta` and `gamma` build upon.
//!
//! Try: change the number below, save, and see `beta` and `gamma` rebound to it.

use hotswap_plugin::prelude::*;
use sample_api::Alpha;

/// The first of three.
#[derive(Default)]
struct First;

#[plugin]
impl Plugin for First {
    fn export(&self) -> Result<Export> {
        Ok(Export::new::<dyn Alpha, _>(Number))
    }
}

/// What is exported.
struct Number;

impl Alpha for Number {
    fn one(&self) -> u32 {
        1
    }
}

/// The host's heartbeat.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, one = Number.one(), "alpha");
}
