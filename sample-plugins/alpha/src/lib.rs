//! The plugin `alpha`: exports a number that `beta` and `gamma` use.
//!
//! Try: change the number below and save. The reload binds `beta` and `gamma` to the new version.

use hotswap_plugin::prelude::*;
use sample_api::Alpha;

/// The plugin's instance.
#[derive(Default)]
struct First;

#[plugin]
impl Plugin for First {
    fn export(&self) -> Result<Export> {
        Ok(Export::new::<dyn Alpha, _>(Number))
    }
}

/// The exported object.
struct Number;

impl Alpha for Number {
    fn one(&self) -> u32 {
        1
    }
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, one = Number.one(), "alpha");
}
