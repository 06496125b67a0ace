//! The thread that opens images and runs the steps of one load. A load can give it up.

use std::{
    cell::Cell,
    mem::ManuallyDrop,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{EngineError, LoadCause, Step};

/// The thread that runs the steps of one load.
///
/// A step is code of the plugin's author and may never return. Then the load fails, and the thread is left
/// behind with a lease of its version. Otherwise the thread ends with the load, so its thread-locals end,
/// too.
pub(crate) struct StepThread {
    jobs: Sender<Job>,
    timeout: Duration,
    engine: EngineId,
}

/// The engine to which a thread or a version belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineId(pub usize);

thread_local! {
    /// The engine whose steps this thread runs, or which has left it behind.
    static RUNS_STEPS_OF: Cell<Option<EngineId>> = const { Cell::new(None) };
}

/// Marks this thread, until the result is dropped, as one for which a load of an engine waits, or which holds
/// the loader's lock.
pub(crate) fn inside(engine: EngineId) -> Inside {
    Inside(RUNS_STEPS_OF.replace(Some(engine)))
}

/// Marks a thread that is inside a load.
pub(crate) struct Inside(Option<EngineId>);

impl Drop for Inside {
    fn drop(&mut self) {
        RUNS_STEPS_OF.set(self.0);
    }
}

/// The engine whose steps this thread runs, if it does.
pub(crate) fn runs_steps_of() -> Option<EngineId> {
    RUNS_STEPS_OF.get()
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How long each side polls for a message before it sleeps. Most steps take less than this, and waking a
/// thread on an idle processor takes longer: some 40 µs each way.
const POLL: Duration = Duration::from_micros(50);

impl StepThread {
    pub fn start(timeout: Duration, engine: EngineId) -> Result<Self, EngineError> {
        let (jobs, received) = channel::<Job>();
        let thread = thread::Builder::new().name("hotswap-loader".into());
        let started = thread.spawn(move || {
            let _inside = inside(engine);
            while let Ok(job) = poll(&received).or_else(|_| received.recv()) {
                job();
            }
        });
        match started {
            Ok(_) => Ok(Self { jobs, timeout, engine }),
            Err(error) => {
                let message = format!("cannot start a thread: {error}");
                Err(EngineError::load_of_all(Step::Open, message).because(LoadCause::Io(error)))
            }
        }
    }

    /// Another thread for steps of the same load, in case this one is stuck.
    pub fn another(&self) -> Result<Self, EngineError> {
        Self::start(self.timeout, self.engine)
    }

    /// The longest time that a step may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a function that is not a step of a version; `None` if it does not return in time. If it returns
    /// later, its result is leaked.
    pub fn run_bare<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // The result is also leaked if it arrives just when the wait ends.
        let (answer, answered) = channel::<ManuallyDrop<T>>();
        let job = move || drop(answer.send(ManuallyDrop::new(f())));
        self.jobs.send(Box::new(job)).ok()?;
        let answered = poll(&answered).or_else(|_| answered.recv_timeout(self.timeout));
        answered.ok().map(ManuallyDrop::into_inner)
    }

    /// Sends a job to the thread; an error if the thread is gone.
    pub fn send(&self, job: Job) -> Result<(), Gone> {
        self.jobs.send(job).map_err(|_| Gone)
    }
}

/// The thread has ended.
pub(crate) struct Gone;

/// Receives a message that is already there, or arrives in a moment.
pub(crate) fn poll<T>(receiver: &Receiver<T>) -> Result<T, TryRecvError> {
    let begun = Instant::now();
    loop {
        match receiver.try_recv() {
            Err(TryRecvError::Empty) if begun.elapsed() < POLL => thread::yield_now(),
            received => return received,
        }
    }
}
