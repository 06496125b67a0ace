//! The plugin `gamma`: imports the numbers of `alpha` and `beta`, and adds them.
//!
//! Try: `hotswap invoke gamma sum`.

use hotswap_plugin::prelude::*;
use sample_api::{Alpha, Beta};

/// The plugin's instance.
#[derive(Default)]
struct Third {
    needs: Imports<Needs>,
}

/// The plugins whose exports it needs.
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

/// The sum of the numbers that `alpha` and `beta` export.
#[invoke]
fn sum(plugin: &Third) -> u32 {
    plugin.needs.alpha.one() + plugin.needs.beta.two()
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(plugin: &Third, beat: u64) {
    tracing::debug!(beat, sum = sum(plugin), "gamma");
}
