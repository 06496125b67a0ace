//! The host's log. The records of plugins go into it, and consoles can read all of it.

mod layer;
mod linked;
mod reemit;

pub use layer::{ConsoleLayer, console_layer};
pub(crate) use layer::{LogQueue, hub};
pub(crate) use linked::plugin_is_linked;
pub(crate) use reemit::{emit, max_level};
