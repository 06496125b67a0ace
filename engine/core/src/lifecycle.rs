//! Runs a plugin's lifecycle steps, on a thread that can be given up.

use std::{
    cell::{Cell, RefCell},
    mem::ManuallyDrop,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::abi::Outcome;

use crate::{
    EngineError, Step,
    engine::Inner,
    image::Image,
    lease::{Lease, LeaseKind},
    slots::Entered,
    version::Version,
};

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
    /// The versions whose own threads and tasks run here, the innermost last.
    static RUNS: RefCell<Vec<Weak<Version>>> = const { RefCell::new(Vec::new()) };
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

/// Whether this thread runs what a load of an engine waits for, or waited for: a step, or a thread or a
/// task of a version that does not serve yet, or never did. A load that is asked for here would wait
/// for itself.
pub(crate) fn is_inside_load_of(engine: EngineId) -> bool {
    let is_unpublished = |version: &Weak<Version>| {
        let version = version.upgrade();
        version.is_some_and(|version| version.engine() == engine && !version.has_served())
    };
    RUNS_STEPS_OF.get() == Some(engine)
        || RUNS.with_borrow(|versions| versions.iter().any(is_unpublished))
}

/// Notes, until dropped, that this thread runs a task of a version, or is a thread of it.
pub(crate) fn running(version: &Arc<Version>) -> Running {
    RUNS.with_borrow_mut(|versions| versions.push(Arc::downgrade(version)));
    Running(())
}

/// A note of what this thread runs.
pub(crate) struct Running(());

impl Drop for Running {
    fn drop(&mut self) {
        // A thread that ends has dropped the notes already.
        let _ = RUNS.try_with(|versions| versions.borrow_mut().pop());
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// How long either side looks for what the other is about to send before it sleeps. Most steps take
/// less, and waking a thread on an idle processor takes longer than they do: some 40 µs each way.
const LOOK: Duration = Duration::from_micros(50);

/// The thread of one load, started when it is first asked for.
pub(crate) struct Steps {
    timeout: Duration,
    engine: EngineId,
    thread: Option<StepThread>,
}

impl Steps {
    pub fn new(engine: &Inner) -> Self {
        Self { timeout: engine.step_timeout(), engine: engine.id(), thread: None }
    }

    pub fn thread(&mut self) -> Result<&StepThread, EngineError> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => StepThread::start(self.timeout, self.engine)?,
        };
        Ok(self.thread.insert(thread))
    }
}

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
            Err(error) => Err(EngineError::Load {
                plugin: None,
                step: Step::Open,
                message: format!("cannot start a thread: {error}"),
                causes: Vec::new(),
            }),
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

    /// Runs one step of a version.
    pub fn run<T: Send + 'static>(
        &self,
        version: &Lease,
        step: Step,
        f: impl FnOnce(&Image) -> Outcome<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let plugin = version.version().name();
        let lease = version.another(LeaseKind::Call).named(step.to_string());
        let (answer, answered) = channel();
        let job = Box::new(move || {
            let noted = lease.version().note(step.as_str());
            let outcome = f(lease.image());
            // The step may have been taken under a lock, and so destructors wait for the thread's end.
            noted.into_iter().for_each(Entered::leave_quietly);
            // What nobody waits for any more is dropped before the lease: it may be of the image.
            let unsent = answer.send(outcome);
            drop(unsent);
            drop(lease);
        });
        let gone = || EngineError::load(plugin, step, "the loading thread ended early");
        self.jobs.send(job).map_err(|_| gone())?;
        match look(&answered).or_else(|_| answered.recv_timeout(self.timeout)) {
            Ok(outcome) => EngineError::of_outcome(plugin, step, outcome),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.as_secs_f64();
                let message = format!(
                    "did not return within {seconds} s; its thread stays behind, and holds the version"
                );
                Err(EngineError::load(plugin, step, message))
            }
        }
    }
}

/// Takes what is there, or comes in a moment.
fn look<T>(receiver: &Receiver<T>) -> Result<T, TryRecvError> {
    let begun = Instant::now();
    loop {
        match receiver.try_recv() {
            Err(TryRecvError::Empty) if begun.elapsed() < LOOK => thread::yield_now(),
            received => return received,
        }
    }
}
