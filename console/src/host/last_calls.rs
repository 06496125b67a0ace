//! What a host was doing when it died.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use hotswap_protocol::in_flight::calls_in_flight;
use hotswap_protocol::{HostInfo, InFlightCall};
use rustix::fs::OFlags;

/// A host's calls, which can be read as long as this is there, also when the host has died.
pub(crate) struct LastCalls(File);

impl LastCalls {
    /// Opens what a host says of itself while it lives; none when it says nothing.
    pub fn of(host: &HostInfo) -> Option<Self> {
        // Whatever it names, opening it must not wait.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = File::options();
        options.read(true).custom_flags(flags.bits().cast_signed());
        options.open(host.calls_file.as_ref()?).ok().map(Self)
    }

    /// The calls that were under way; none when nobody can tell.
    pub fn read(&self) -> Option<Vec<InFlightCall>> {
        calls_in_flight(&self.0).ok()
    }
}
