//! Versions that a console keeps loaded.

use hotswap_protocol::{ErrorKind, WireError};

use super::served::Served;
use crate::LoadedPlugin;

/// The largest number of versions that one console may keep loaded.
const MAX_HELD: usize = 64;

/// The versions that one console keeps loaded. Dropping this releases all of them.
#[derive(Default)]
pub(super) struct Held(Vec<LoadedPlugin>);

impl Held {
    /// Keeps a version loaded: `name@version`, or the serving version for `name`.
    pub fn hold(&mut self, engine: &dyn Served, target: &str) -> Result<(), WireError> {
        let plugin = engine.plugin(target).map_err(|error| error.to_wire())?;
        if self.position(&plugin).is_some() {
            return Ok(());
        }
        if self.0.len() >= MAX_HELD {
            let message = format!("a console may keep {MAX_HELD} versions; release one first");
            return Err(WireError::new(ErrorKind::Internal, message));
        }
        self.0.push(plugin.held_by_console());
        Ok(())
    }

    /// Releases a version. Nothing happens if it is not kept.
    pub fn release(&mut self, engine: &dyn Served, target: &str) -> Result<(), WireError> {
        let plugin = engine.plugin(target).map_err(|error| error.to_wire())?;
        if let Some(position) = self.position(&plugin) {
            self.0.remove(position);
        }
        Ok(())
    }

    fn position(&self, plugin: &LoadedPlugin) -> Option<usize> {
        let same =
            |it: &LoadedPlugin| it.name() == plugin.name() && it.version() == plugin.version();
        self.0.iter().position(same)
    }
}
