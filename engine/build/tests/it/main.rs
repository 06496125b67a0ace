//! The build crate through its public surface: real packages, real cargo, real files.

mod artifacts;
mod changes;
mod closed;
mod compile;
mod declared;
mod old_times;
mod packages;
mod patch_kinds;
mod patches;
mod read;
mod replay;
mod static_link;
mod support;
mod together;
mod watch;
