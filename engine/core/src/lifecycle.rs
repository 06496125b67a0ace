//! Runs a plugin's lifecycle steps, on a thread that can be given up.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::abi::Outcome;

use crate::{
    EngineError, Step,
    image::Image,
    lease::{Lease, LeaseKind},
    slots::Entered,
};

/// The thread that runs the steps of one load.
///
/// A step is the plugin author's code and may never return. Then the load fails and the thread is
/// left behind; it leases the version it is in. Otherwise the thread ends with the load, and with it
/// what the steps left in its thread-locals.
pub(crate) struct StepThread {
    jobs: Sender<Job>,
    timeout: Duration,
}

thread_local! {
    static RUNS_STEPS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread runs the steps of a load, or was left behind by one.
pub(crate) fn runs_steps() -> bool {
    RUNS_STEPS.get()
}

type Job = Box<dyn FnOnce() + Send>;

/// How long either side looks for what the other is about to send before it sleeps. Most steps take
/// less, and waking a thread on an idle processor takes longer than they do: some 40 µs each way.
const LOOK: Duration = Duration::from_micros(50);

/// The thread of one load, started when it is first asked for.
pub(crate) struct Steps {
    timeout: Duration,
    thread: Option<StepThread>,
}

impl Steps {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, thread: None }
    }

    pub fn thread(&mut self) -> Result<&StepThread, EngineError> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => StepThread::start(self.timeout)?,
        };
        Ok(self.thread.insert(thread))
    }
}

impl StepThread {
    pub fn start(timeout: Duration) -> Result<Self, EngineError> {
        let (jobs, received) = channel::<Job>();
        let thread = thread::Builder::new().name("hotswap-loader".into());
        let started = thread.spawn(move || {
            RUNS_STEPS.set(true);
            while let Ok(job) = look(&received).or_else(|_| received.recv()) {
                job();
            }
        });
        match started {
            Ok(_) => Ok(Self { jobs, timeout }),
            Err(error) => Err(EngineError::Load {
                plugin: None,
                step: Step::Open,
                message: format!("cannot start a thread: {error}"),
                causes: Vec::new(),
            }),
        }
    }

    /// How long a step may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
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
