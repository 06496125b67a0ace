//! What the tests share: plugins built once, a directory of them, an engine over it.

mod gate;
mod host;
mod plugins;

pub use gate::Gate;
pub use host::Host;
pub use plugins::{PluginDir, artifact, renamed, revision};
