//! The plugin `gamma`: imports `alpha` and `beta`, and adds them up.
//!
//! Try: `hotswap invoke gamma sum`.

use hotswap_plugin::prelude::*;
use sample_api::{Alpha, Beta};

/// The third of three.
#[derive(Default)]
struct Third {
    needs: Imports<Needs>,
}

/// What it cannot do without.
#[derive(Imports)]
struct Needs {
    alpha: Leased<dyn Alpha>,
    beta: Leased<dyn Beta>,
}

#[plugin]
impl Plugin for Third {
    fn import(&self) -> Option<&dyn ImportTarget> {
        Some(&self.needs)
    }
}

/// The sum of what `alpha` and `beta` export.
#[invoke]
fn sum(plugin: &Third) -> u32 {
    plugin.needs.alpha.one() + plugin.needs.beta.two()
}

/// The host's heartbeat.
#[invoke]
fn heartbeat(plugin: &Third, beat: u64) {
    tracing::debug!(beat, sum = sum(plugin), "gamma");
}
