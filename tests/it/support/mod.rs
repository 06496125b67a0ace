//! What the tests share: plugins built once, a directory of them, an engine over it; the programs.

mod gate;
mod host;
mod plugins;
mod process;
mod samples;
mod session;
mod workspace;

pub use gate::Gate;
pub use host::{Host, held_by, mapped_files};
pub use plugins::{PluginDir, artifact, renamed, revised, revision};
pub use process::{Answer, PATIENCE, Place, Process, end, get, program, repository, succeed};
pub use samples::{host_command, sample, world};
pub use session::Session;
pub use workspace::Workspace;
