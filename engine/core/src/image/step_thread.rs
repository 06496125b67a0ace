//! The thread that opens images and runs the steps of one load, which can be given up.

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
/// A step is the plugin author's code and may never return. Then the load fails and the thread is
/// left behind; it leases the version it is in. Otherwise the thread ends with the load, and with it
/// what the steps left in its thread-locals.
pub(crate) struct StepThread {
    jobs: Sender<Job>,
    timeout: Duration,
    engine: EngineId,
}

/// Which engine a thread or a version belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineId(pub usize);

thread_local! {
    /// The engine whose steps this thread runs, or was left behind by.
    static RUNS_STEPS_OF: Cell<Option<EngineId>> = const { Cell::new(None) };
}

/// Notes, until dropped, that this thread runs what a load of an engine waits for, or what the loader's
/// lock is held for.
pub(crate) fn inside(engine: EngineId) -> Inside {
    Inside(RUNS_STEPS_OF.replace(Some(engine)))
}

/// A note that this thread is inside a load.
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

/// How long either side looks for what the other is about to send before it sleeps. Most steps take
/// less, and waking a thread on an idle processor takes longer than they do: some 40 µs each way.
const LOOK: Duration = Duration::from_micros(50);

impl StepThread {
    pub fn start(timeout: Duration, engine: EngineId) -> Result<Self, EngineError> {
        let (jobs, received) = channel::<Job>();
        let thread = thread::Builder::new().name("hotswap-loader".into());
        let started = thread.spawn(move || {
            let _inside = inside(engine);
            while let Ok(job) = look(&received).or_else(|_| received.recv()) {
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

    /// Another thread for steps of the same load, where this one may be stuck.
    pub fn another(&self) -> Result<Self, EngineError> {
        Self::start(self.timeout, self.engine)
    }

    /// How long a step may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs something that is no step of a version yet; `None` if it does not return in time. What it
    /// answers afterwards is left as it is.
    pub fn run_bare<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // Left as it is also where it comes just as nobody waits any more.
        let (answer, answered) = channel::<ManuallyDrop<T>>();
        let job = move || drop(answer.send(ManuallyDrop::new(f())));
        self.jobs.send(Box::new(job)).ok()?;
        let answered = look(&answered).or_else(|_| answered.recv_timeout(self.timeout));
        answered.ok().map(ManuallyDrop::into_inner)
    }

    /// Hands the thread something to run; an error if the thread is gone.
    pub fn send(&self, job: Job) -> Result<(), Gone> {
        self.jobs.send(job).map_err(|_| Gone)
    }
}

/// The thread has ended.
pub(crate) struct Gone;

/// Takes what is there, or comes in a moment.
pub(crate) fn look<T>(receiver: &Receiver<T>) -> Result<T, TryRecvError> {
    let begun = Instant::now();
    loop {
        match receiver.try_recv() {
            Err(TryRecvError::Empty) if begun.elapsed() < LOOK => thread::yield_now(),
            received => return received,
        }
    }
}
