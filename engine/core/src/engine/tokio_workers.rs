//! The host's tokio runtime: makes its workers pass checkpoints, and runs the tasks of plugins.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    checkpoint,
    lock::Lock as _,
    version::tasks::{BoxFuture, Runtime, TaskHandle},
};

/// How long a worker waits for the others, so that each takes one task. In an idle runtime, ten microseconds
/// or so are enough. A worker that is busy passes a checkpoint when it next calls a plugin, or in the host's
/// `on_thread_park`.
const MEETING: Duration = Duration::from_millis(2);

/// Spawns a task for every worker. Each task blocks its worker for a moment, until all workers have one.
pub(crate) fn wake(runtime: &Handle) {
    let workers = runtime.metrics().num_workers();
    let meeting = Arc::new((Mutex::new(0_usize), Condvar::new()));
    for _ in 0..workers {
        let meeting = meeting.clone();
        runtime.spawn(async move {
            checkpoint();
            let (arrived, all_there) = &*meeting;
            let mut arrived = arrived.locked();
            *arrived += 1;
            all_there.notify_all();
            let _ = all_there.wait_timeout_while(arrived, MEETING, |arrived| *arrived < workers);
        });
    }
}

/// Runs the tasks of plugins.
pub(crate) struct Tokio(pub Handle);

impl Runtime for Tokio {
    fn spawn(&self, task: BoxFuture) -> Box<dyn TaskHandle> {
        Box::new(self.0.spawn(task).abort_handle())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture {
        // A sleep belongs to the runtime in which it is created.
        let _entered = self.0.enter();
        Box::pin(tokio::time::sleep(duration))
    }
}

impl TaskHandle for AbortHandle {
    fn cancel(&self) {
        self.abort();
    }

    fn is_finished(&self) -> bool {
        Self::is_finished(self)
    }
}
