//! The calls in flight when a host died.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use hotswap_protocol::in_flight::calls_in_flight;
use hotswap_protocol::{HostInfo, InFlightCall};
use rustix::fs::OFlags;

/// The calls file of a host. As long as this value exists, the calls can be read, even after the host has died.
pub(crate) struct LastCalls(File);

impl LastCalls {
    /// Opens the file that a living host names; `None` if it names none.
    pub fn of(host: &HostInfo) -> Option<Self> {
        // Opening must not block, whatever file it names.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = File::options();
        options.read(true).custom_flags(flags.bits().cast_signed());
        options.open(host.calls_file.as_ref()?).ok().map(Self)
    }

    /// The calls that were in flight; `None` if they cannot be read.
    pub fn read(&self) -> Option<Vec<InFlightCall>> {
        calls_in_flight(&self.0).ok()
    }
}
