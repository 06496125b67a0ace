//! The host services for the image of a version.

use std::{mem, sync::Arc, time::Duration};

use hotswap_plugin::{
    __private::{Lease as RawLease, RawFuture, RawObject},
    Result,
    abi::{LogEvent, PanicReport, TiedWaker, WakeTarget},
};
use hotswap_protocol::Activity;

use crate::{
    image::{HostServices, Outside, heap::HeapUse},
    log,
    slots::Entered,
    version::{Version, registration, tasks, wakers},
};

impl HostServices for Version {
    fn outside(&self) -> &Arc<Outside> {
        self.outside()
    }

    fn heap(&self) -> Option<&'static HeapUse> {
        self.heap
    }

    fn note_opening(&self) -> Option<Entered> {
        self.note(Activity::Open)
    }

    fn note_exit(&self) {
        mem::forget(self.note(Activity::ProcessExit));
    }

    fn spawn(self: &Arc<Self>, name: &str, task: RawFuture) -> Result<()> {
        tasks::spawn(self, name, task)
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> Result<RawFuture> {
        tasks::sleep(self, duration)
    }

    fn lend(self: &Arc<Self>, object: RawObject, interface: &str) -> Result<RawLease> {
        registration::lend(self, object, interface)
    }

    fn tie_waker(self: &Arc<Self>, target: WakeTarget) -> TiedWaker {
        wakers::tie(self, target)
    }

    fn object_panicked(&self, method: &str, report: &PanicReport) {
        self.panicked(self.faces.serving(), method, report);
    }

    fn max_log_level() -> u8 {
        log::max_level()
    }

    fn log(&self, event: LogEvent) {
        log::emit(self, event);
    }
}
