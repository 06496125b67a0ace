//! A host, as its clients see it.

mod exit;
// The calls in flight when a host died.
pub(crate) mod last_calls;
// Facts about processes from the system.
pub(crate) mod process;
// The types of functions.
pub mod schema;
// Requests to a host.
pub mod operation;
// Finding hosts and talking to them.
pub mod client;
pub mod socket;

pub use exit::HostExit;
pub(crate) use exit::signal_name;
