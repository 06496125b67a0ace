//! A host, as any of its clients sees it.

mod exit;
// What it was doing when it died.
pub(crate) mod last_calls;
// What the system tells of it.
pub(crate) mod process;
// What its functions take and return.
pub mod schema;
// What it is asked.
pub mod operation;
// How it is found and spoken to.
pub mod client;
pub mod socket;

pub use exit::HostExit;
pub(crate) use exit::signal_name;
