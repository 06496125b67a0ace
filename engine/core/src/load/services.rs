//! What a version's image may ask for, answered.

use std::{
    ffi::{c_int, c_void},
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{
    __private::RawFuture,
    Result,
    abi::{LogEvent, ThreadDestructor, ThreadStart},
};

use crate::{
    image::{HostServices, Outside, heap::HeapUse},
    log,
    version::{Version, tasks},
};

impl HostServices for Version {
    fn outside(&self) -> &Arc<Outside> {
        self.outside()
    }

    fn heap(&self) -> Option<&'static HeapUse> {
        self.heap
    }

    fn at_thread_exit(self: &Arc<Self>, dtor: ThreadDestructor, object: *mut c_void) -> bool {
        self.at_thread_exit(dtor, object)
    }

    fn create_key(&self, dtor: Option<ThreadDestructor>) -> Option<u32> {
        self.create_key(dtor)
    }

    fn delete_key(&self, key: u32) -> bool {
        self.threads.delete_key(key)
    }

    fn set_key(self: &Arc<Self>, key: u32, value: *mut c_void) -> bool {
        self.set_key(key, value)
    }

    fn key_value(self: &Arc<Self>, key: u32) -> *mut c_void {
        self.key_value(key)
    }

    unsafe fn start_thread(
        self: &Arc<Self>,
        native: *mut c_void,
        attributes: *const c_void,
        start: ThreadStart,
        argument: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { self.start_thread(native, attributes, start, argument) }
    }

    fn spawn(self: &Arc<Self>, name: &str, task: RawFuture) -> Result<()> {
        tasks::spawn(self, name, task)
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> Result<RawFuture> {
        tasks::sleep(self, duration)
    }

    fn max_log_level() -> u8 {
        log::max_level()
    }

    fn log(&self, event: LogEvent) {
        log::emit(self, event);
    }
}
