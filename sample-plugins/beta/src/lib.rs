//! The plugin `beta`: imports `alpha`, and exports what it makes of it.

use std::sync::Arc;

use hotswap_plugin::prelude::*;
use sample_api::{Alpha, Beta};

/// The second of three.
#[derive(Default)]
struct Second {
    needs: Arc<Imports<Needs>>,
}

/// What it cannot do without.
#[derive(Imports)]
struct Needs {
    alpha: Leased<dyn Alpha>,
}

#[plugin]
impl Plugin for Second {
    fn export(&self) -> Result<Export> {
        Ok(Export::new::<dyn Beta, _>(Double(self.needs.clone())))
    }

    fn import(&self) -> Option<&dyn ImportTarget> {
        Some(&*self.needs)
    }
}

/// What is exported: twice what `alpha` exports.
struct Double(Arc<Imports<Needs>>);

impl Beta for Double {
    fn two(&self) -> u32 {
        2 * self.0.alpha.one()
    }
}

/// The host's heartbeat.
#[invoke]
fn heartbeat(plugin: &Second, beat: u64) {
    tracing::debug!(beat, two = Double(plugin.needs.clone()).two(), "beta");
}
