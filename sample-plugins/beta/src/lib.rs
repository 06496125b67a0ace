//! The plugin `beta`: imports the number of `alpha`, and exports its double.

use std::sync::Arc;

use hotswap_plugin::prelude::*;
use sample_api::{Alpha, Beta};

/// The plugin's instance. The exported object uses the imports too, so they are in an `Arc`.
#[derive(Default)]
struct Second {
    needs: Arc<Imports<Needs>>,
}

/// The plugins whose exports it needs.
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

/// The exported object.
struct Double(Arc<Imports<Needs>>);

impl Beta for Double {
    fn two(&self) -> u32 {
        2 * self.0.alpha.one()
    }
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(plugin: &Second, beat: u64) {
    tracing::debug!(beat, two = Double(plugin.needs.clone()).two(), "beta");
}
