//! The host's log: what plugins write goes into it, and consoles see all of it.

mod layer;
mod linked;
mod reemit;

pub use layer::{ConsoleLayer, console_layer};
pub(crate) use layer::{LogQueue, hub};
pub(crate) use linked::plugin_is_linked;
pub(crate) use reemit::{emit, max_level};
