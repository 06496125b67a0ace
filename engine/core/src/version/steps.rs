//! Runs the steps of a plugin's load, and knows which thread runs code of which version.

use std::{
    ptr,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use hotswap_plugin::{__private::Notes, abi::Answer};
use hotswap_protocol::{Activity, PluginName};

use super::{
    Version,
    face::FaceNumber,
    lease::{Lease, LeaseKind, LeaseName},
};
use crate::{
    EngineError, LoadCause, Step,
    image::{
        Image,
        step_thread::{EngineId, Inside, StepThread, inside, is_inside, poll},
    },
    slots::Entered,
};

thread_local! {
    /// The versions whose own threads and tasks run on this thread, with the faces whose code started them, the
    /// innermost last.
    static RUNS: Notes<(Weak<Version>, FaceNumber)> = const { Notes::new() };
}

/// Whether this thread runs code for which a load of an engine waits, or has waited: a step, or a thread or a
/// task of a version that does not serve yet, or never did. A load that is requested here would wait for
/// itself.
pub(crate) fn is_inside_load_of(engine: EngineId) -> bool {
    is_inside(engine) || RUNS.with(|runs| runs.any(|(run, _)| loads_of(run).contains(&engine)))
}

/// Marks this thread as one on which an engine loads. Whatever waits for the thread also waits for that load.
pub(crate) fn begin_load(engine: EngineId) -> Vec<Inside> {
    let runs = RUNS.with(Notes::all);
    let outer = runs.iter().flat_map(|(run, _)| loads_of(run).to_vec());
    outer.chain([engine]).map(inside).collect()
}

/// The engines whose loads wait for the threads and tasks of a version; none if the version has served.
fn loads_of(version: &Weak<Version>) -> Arc<[EngineId]> {
    let loading = version.upgrade().filter(|version| !version.has_served());
    loading.map(|version| version.loads().clone()).unwrap_or_default()
}

/// Notes, until the result is dropped, that this thread runs a task of a version, or was started by it. `lease` is
/// that of the task or thread.
pub(crate) fn running(lease: &Lease) -> Running {
    let run = (Arc::downgrade(lease.version()), lease.face());
    RUNS.with(|runs| runs.add(run));
    Running(())
}

/// The face whose code started the task or thread of a version that runs on this thread; `None` if there is none.
pub(super) fn face_that_runs(version: &Version) -> Option<FaceNumber> {
    let is_its = |run: &Weak<Version>| ptr::eq(run.as_ptr(), version);
    RUNS.with(|runs| runs.find_last(|(run, face)| is_its(run).then_some(*face)))
}

/// A note of the version whose code this thread runs.
pub(crate) struct Running(());

impl Drop for Running {
    fn drop(&mut self) {
        RUNS.with(|runs| runs.remove_last(|_| true));
    }
}

/// The thread of one load, which is started when it is first needed.
pub(crate) struct Steps {
    timeout: Duration,
    /// The engines whose loads wait for the thread.
    engines: Arc<[EngineId]>,
    thread: Option<StepThread>,
}

impl Steps {
    pub fn new(timeout: Duration, engines: Arc<[EngineId]>) -> Self {
        Self { timeout, engines, thread: None }
    }

    pub fn thread(&mut self) -> Result<&StepThread, EngineError> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => StepThread::start(self.timeout, self.engines.clone())?,
        };
        Ok(self.thread.insert(thread))
    }
}

impl StepThread {
    /// Runs one step of a version.
    pub fn run<T: Send + 'static>(
        &self,
        version: &Lease,
        step: Step,
        f: impl FnOnce(&Image) -> Answer<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let plugin = version.version().name();
        let answered = self.begin(version, step, f)?;
        match poll(&answered).or_else(|_| answered.recv_timeout(self.timeout())) {
            Ok(answer) => EngineError::of_answer(plugin, step, answer),
            Err(RecvTimeoutError::Disconnected) => Err(gone(plugin, step)),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout().as_secs_f64();
                let message = format!(
                    "did not return within {seconds} s; its thread stays behind, and keeps the version in use"
                );
                let cause = LoadCause::TimedOut { after: self.timeout() };
                Err(EngineError::load(plugin, step, message).because(cause))
            }
        }
    }

    /// Begins one step of a version. It runs after the steps that were begun before, however long these take,
    /// and keeps the version in use until then.
    pub fn begin<T: Send + 'static>(
        &self,
        version: &Lease,
        step: Step,
        f: impl FnOnce(&Image) -> Answer<T> + Send + 'static,
    ) -> Result<Receiver<Answer<T>>, EngineError> {
        let plugin = version.version().name();
        let activity = step.activity().unwrap_or(Activity::FoundByHand);
        let lease = version.another(LeaseKind::Call).named(LeaseName::Activity(activity));
        let (answer, answered) = channel();
        let job = Box::new(move || {
            let noted = lease.version().note(activity);
            let outcome = f(lease.image());
            // The step may run under a lock, so destructors wait for the end of the thread.
            noted.into_iter().for_each(Entered::leave_quietly);
            // A result that nobody waits for any more is dropped before the lease, since it may belong to the
            // image.
            let unsent = answer.send(outcome);
            drop(unsent);
            drop(lease);
        });
        self.send(job).map_err(|_| gone(plugin, step))?;
        Ok(answered)
    }
}

fn gone(plugin: &PluginName, step: Step) -> EngineError {
    let gone = EngineError::load(plugin, step, "the loading thread ended early");
    gone.because(LoadCause::Other)
}
