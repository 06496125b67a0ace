//! The thread that opens images and runs the steps of one load. A load can give it up.

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::__private::Notes;

use crate::{EngineError, LoadCause, Step};

/// The thread that runs the steps of one load.
///
/// A step is code of the plugin's author and may never return. Then the load fails, and the thread is left
/// behind with a lease of its version. Otherwise the thread ends with the load, so its thread-locals end,
/// too.
pub(crate) struct StepThread {
    jobs: Sender<Job>,
    timeout: Duration,
    /// The engines whose loads wait for the thread.
    engines: Arc<[EngineId]>,
}

/// The engine to which a thread or a version belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineId(pub usize);

thread_local! {
    /// The engines whose loads wait for this thread, or have left it behind.
    static INSIDE: Notes<EngineId> = const { Notes::new() };
}

/// Marks this thread, until the result is dropped, as one for which a load of an engine waits, which loads itself, or
/// which holds the loader's lock.
pub(crate) fn inside(engine: EngineId) -> Inside {
    INSIDE.with(|engines| engines.add(engine));
    Inside(engine, PhantomData)
}

/// Marks a thread that is inside a load, and is dropped on that thread.
pub(crate) struct Inside(EngineId, PhantomData<*const ()>);

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|engines| engines.remove_last(|engine| *engine == self.0));
    }
}

/// Whether a load of the engine waits for this thread, or this thread loads.
pub(crate) fn is_inside(engine: EngineId) -> bool {
    INSIDE.with(|engines| engines.any(|inside| *inside == engine))
}

/// The engines whose loads wait for what a load of `engine` on this thread starts: the engine itself, and those whose
/// loads wait for this thread.
pub(crate) fn waiting_for_load_of(engine: EngineId) -> Arc<[EngineId]> {
    let outer = INSIDE.with(Notes::all).into_iter().filter(|outer| *outer != engine);
    outer.chain([engine]).collect()
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How long each side polls for a message before it sleeps. Most steps take less than this, and waking a
/// thread on an idle processor takes longer: some 40 µs each way.
const POLL: Duration = Duration::from_micros(50);

impl StepThread {
    /// Starts a thread for which loads of these engines wait.
    pub fn start(timeout: Duration, engines: Arc<[EngineId]>) -> Result<Self, EngineError> {
        let own = engines.clone();
        let (jobs, received) = channel::<Job>();
        let thread = thread::Builder::new().name("hotswap-loader".into());
        let started = thread.spawn(move || {
            let _inside: Vec<_> = own.iter().map(|engine| inside(*engine)).collect();
            while let Ok(job) = poll(&received).or_else(|_| received.recv()) {
                job();
            }
        });
        match started {
            Ok(_) => Ok(Self { jobs, timeout, engines }),
            Err(error) => {
                let message = format!("cannot start a thread: {error}");
                Err(EngineError::load_of_all(Step::Open, message).because(LoadCause::Io(error)))
            }
        }
    }

    /// Another thread for steps of the same load, in case this one is stuck.
    pub fn another(&self) -> Result<Self, EngineError> {
        Self::start(self.timeout, self.engines.clone())
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
