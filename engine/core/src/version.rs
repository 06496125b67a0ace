//! One load of a plugin, from opening its image to unmapping it.

// What keeps it in use.
pub(crate) mod holders;
pub(crate) mod lease;
pub(crate) mod tasks;
pub(crate) mod threads;
pub(crate) mod turn;
pub(crate) mod turnstile;
pub(crate) mod wakers;

// What it declares, and what is counted for it.
pub(crate) mod counts;
pub(crate) mod declared;
pub(crate) mod expectations;
pub(crate) mod face;
pub(crate) mod failures;
pub(crate) mod guard;
pub(crate) mod list;
pub(crate) mod registration;

// Its life, the steps of its load, and what frees it.
pub(crate) mod life;
pub(crate) mod reclaimer;
pub(crate) mod steps;

use std::{
    cell::UnsafeCell,
    fmt,
    fs::File,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hotswap_plugin::{
    __private::{Context, DescribedFunction, TypedCall},
    Error, ErrorKind, FunctionDescription, ImportRequest, LiveTypeDescription,
    abi::{Answer, CallContext, PanicReport},
};
use hotswap_protocol::{
    Activity, Ending, Event, Failure, Failures, FirstFailure, FunctionInfo, KeepReason,
    LatencyBucket, ParamInfo, PluginName, VersionInfo, VersionState, clock, version_label,
};

use crate::{
    EngineError,
    artifact::{BuildId, Facts, Source},
    event::EventHub,
    image::{
        Closed, Image, Outside,
        heap::{HeapUse, MEANS_NOTHING},
        step_thread::{self, EngineId},
    },
    lock::Lock as _,
    slots::{self, Entered, LegendEntry},
};
use counts::CallCounts;
use declared::Declared;
use expectations::Expectations;
use face::{Face, FaceNumber, Faces};
use failures::FailureCounts;
use guard::{ActiveGuard, Recent};
use holders::{SeenCalls, texts};
use lease::LeaseCounts;
use life::{Life, Stage};
use reclaimer::Reclaimer;
use registration::Registration;
use tasks::{Runtime, TaskHandle};
use threads::VersionThreads;
use turnstile::Turnstile;

/// One load of a plugin.
pub(crate) struct Version {
    pub facts: Facts,
    /// Why the image can never be unmapped; `None` if it can.
    pub keep_reason: Option<KeepReason>,
    pub ordinal: u32,
    pub origin: Origin,
    loaded_at_ms: u64,
    image: UnsafeCell<Option<Image>>,
    leases: LeaseCounts,
    /// How often its functions failed.
    failures: FailureCounts,
    /// The last failures, if there is a guard.
    recent: Recent,
    /// Its memory on the heap; `None` if this is not counted.
    pub heap: Option<&'static HeapUse>,
    pub seen_calls: SeenCalls,
    pub threads: VersionThreads,
    /// The references to the image that code outside it may have.
    outside: Arc<Outside>,
    /// Holds its calls up while it hands over.
    pub turnstile: Arc<Turnstile>,
    declared: OnceLock<Declared>,
    /// The entry by which consoles read the calls under way in it.
    legend: Mutex<Option<LegendEntry>>,
    /// Set by the export step, even if the load does not wait for that step any more.
    export: OnceLock<Arc<Registration>>,
    /// Set when the version is initialised.
    context: OnceLock<CallContext>,
    /// The code of its functions.
    pub faces: Faces,
    life: Mutex<Life>,
    /// The versions that left together with it and were loaded later.
    later: OnceLock<Vec<Weak<Version>>>,
    is_urgent: AtomicBool,
    /// Whether the reaper was asked to consider it, and has not begun yet.
    is_queued: AtomicBool,
    /// The number of the face whose call returned last since the version serves, plus one; 0 before that.
    answered: AtomicU8,
    services: Services,
    /// The tasks that it started. Some may have ended.
    tasks: Mutex<Vec<Box<dyn TaskHandle>>>,
}

/// The file from which a version was loaded.
pub(crate) struct Origin {
    pub size_bytes: u64,
    /// When the file was written; `None` if that is not known.
    pub modified: Option<SystemTime>,
}

/// What a version needs from its engine.
#[derive(Clone)]
pub(crate) struct Services {
    pub reclaimer: Arc<dyn Reclaimer>,
    pub engine: EngineId,
    /// The engines whose loads wait for the version until it serves.
    pub loads: Arc<[EngineId]>,
    pub events: Arc<EventHub>,
    pub runtime: Option<Arc<dyn Runtime>>,
    /// The libraries that the host trusts.
    pub trusted: Arc<[String]>,
    pub expectations: Arc<Expectations>,
    pub guard: Option<Arc<ActiveGuard>>,
}

// SAFETY: the cell with the image is written before the version is shared (`Version::open`), and emptied by
// the reaper when no lease is left. In between it is only read, and an `Image` is `Sync`.
unsafe impl Sync for Version {}

/// How to call one function with Rust types.
#[derive(Clone, Copy)]
pub(crate) struct TypedTarget {
    pub context: *const Context<'static>,
    pub call: TypedCall,
}

impl Version {
    /// A version that is about to be loaded. `open` makes its image, whose code may already call back.
    pub fn open(
        facts: Facts,
        ordinal: u32,
        origin: Origin,
        heap: Option<&'static HeapUse>,
        services: Services,
        open: impl FnOnce(&Arc<Self>) -> Result<Image, EngineError>,
    ) -> (Arc<Self>, Result<(), EngineError>) {
        let version = Arc::new(Self {
            keep_reason: facts.keep_reason_trusting(&services.trusted),
            outside: Arc::new(Outside::new(services.trusted.to_vec())),
            turnstile: Arc::default(),
            facts,
            ordinal,
            origin,
            loaded_at_ms: clock::now_ms(),
            image: UnsafeCell::new(None),
            leases: LeaseCounts::default(),
            failures: FailureCounts::default(),
            recent: Recent::default(),
            heap,
            seen_calls: SeenCalls::default(),
            threads: VersionThreads::default(),
            declared: OnceLock::new(),
            legend: Mutex::default(),
            export: OnceLock::new(),
            context: OnceLock::new(),
            faces: Faces::default(),
            life: Mutex::new(Life::new()),
            later: OnceLock::new(),
            is_urgent: AtomicBool::new(false),
            is_queued: AtomicBool::new(false),
            answered: AtomicU8::new(0),
            services,
            tasks: Mutex::default(),
        });
        version.renew_legend();
        let opened = open(&version).map(|image| {
            // SAFETY: nobody reads the cell before this returns. Reading takes a lease, and the image's own
            // code, which may already run, can only get one for a thread.
            unsafe { *version.image.get() = Some(image) };
        });
        (version, opened)
    }

    /// The open image.
    ///
    /// # Safety
    /// The caller has a lease, or is the reaper.
    pub unsafe fn image(&self) -> &Image {
        // SAFETY: by the caller's promise, the reaper does not empty the cell meanwhile.
        let image = unsafe { &*self.image.get() };
        image.as_ref().unwrap_or_else(|| unreachable!("{self} is leased, but has no image"))
    }

    /// Drops the plugin's instance and everything that attaching installed. Afterwards nothing of the image
    /// is called, except by threads and thread-locals that this call itself leaves.
    ///
    /// # Safety
    /// The caller is the reaper, and the version has ended.
    pub unsafe fn detach(&self) {
        // SAFETY: the reaper does not empty the cell meanwhile.
        if let Answer::Panic(report) = unsafe { self.image().detach() } {
            let (plugin, location) = (self.name().as_str(), &report.location);
            tracing::error!(plugin, "its drop panicked at {location}: {}", report.message);
        }
    }

    /// Unmaps the image, and returns the result; `None` if it has no image.
    ///
    /// # Safety
    /// The caller is the reaper; the version was detached, has ended, and no thread has destructors of it to
    /// run.
    pub unsafe fn close(&self) -> Option<Closed> {
        // SAFETY: by the caller's promise, nobody reads the cell.
        let image = unsafe { (*self.image.get()).take() }?;
        // The image's finalisers run under the loader's lock, without which nothing can be loaded.
        let _inside = step_thread::inside(self.engine());
        // SAFETY: the caller's promise.
        let closed = unsafe { image.close() };
        if matches!(closed, Closed::Unmapped) {
            for patch in self.faces.take_patches() {
                // SAFETY: the image is gone, and with it everything that could lead into a patch. By the
                // caller's promise, no code runs there.
                unsafe { patch.end() };
            }
            // SAFETY: as above.
            unsafe { self.outside().release_room() };
        }
        Some(closed)
    }

    pub fn name(&self) -> &PluginName {
        &self.facts.name
    }

    pub fn leases(&self) -> &LeaseCounts {
        &self.leases
    }

    /// Tells the reaper that the last lease has ended, or the last thread has run its destructors.
    pub fn notify_reaper(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.services.reclaimer.consider(self);
        }
    }

    /// Notes that the reaper has begun to consider it. Later changes need another message.
    pub fn begin_considering(&self) {
        self.is_queued.store(false, Ordering::Release);
    }

    /// Whether nothing runs in the version and, at the same time, no thread has destructors of it to run. A
    /// destructor may start a thread, and a thread may leave a destructor, so both are checked at once.
    pub fn has_ended_unpinned(&self) -> bool {
        self.threads.while_unpinned(|| self.leases.has_ended()).unwrap_or(false)
    }

    /// The host's runtime; `None` if the host has given none.
    pub fn runtime(&self) -> Option<&Arc<dyn Runtime>> {
        self.services.runtime.as_ref()
    }

    /// Remembers a task, to cancel it later. If the tasks were cancelled already, it is cancelled at once.
    pub fn add_task(&self, task: Box<dyn TaskHandle>) {
        let mut tasks = self.tasks.locked();
        if self.stage().is_ending() {
            return task.cancel();
        }
        // Ended tasks are removed only when the list is full, so that the cost per task is no more than the cost
        // of adding it.
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }

    /// Cancels the tasks that the version started on the host's runtime.
    pub fn cancel_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.locked());
        tasks.iter().for_each(|task| task.cancel());
    }

    /// The stage of its life.
    pub fn stage(&self) -> Stage {
        self.life().stage()
    }

    /// Whether its instance was dropped, or never existed.
    pub fn has_dropped_instance(&self) -> bool {
        matches!(self.stage(), Stage::Detached | Stage::Over(_))
    }

    pub fn is_finished(&self) -> bool {
        self.stage().is_over()
    }

    /// Notes that it serves from now on.
    pub fn serve(&self, remark: &str) {
        self.change_life(|life| life.serve(remark));
    }

    /// Notes that it was replaced.
    pub fn retire(&self) {
        self.change_life(Life::retire);
    }

    /// Notes that its load was undone.
    pub fn fail(&self, why: Failure) {
        self.change_life(|life| life.fail(why));
    }

    /// Takes the next step towards its end.
    pub fn advance(&self, stage: Stage) {
        self.life().advance(stage);
    }

    /// Continues after a panic of the host's code, with the step after the current one.
    pub fn pass_step(&self) {
        let mut life = self.life();
        let (stage, passed) = (life.stage(), life.stage().passed());
        if passed != stage {
            life.advance(passed);
        }
    }

    /// Notes that it waits for its holders.
    pub fn wait_for_holders(&self) {
        let holders = self.holder_counts();
        self.change_life(|life| life.wait(false, holders));
    }

    /// Notes that it waits for threads that have destructors of it to run.
    pub fn wait_for_threads(&self) {
        let holders = self.holder_counts();
        self.change_life(|life| life.wait(true, holders));
    }

    /// Notes that it has ended: the image was closed, or stays mapped.
    pub fn end(&self, ending: Ending) {
        *self.lock_legend() = None;
        self.life().end(ending);
        self.send_changed();
    }

    /// Notes that it has ended without an image.
    pub fn end_unopened(&self, why: Failure) {
        *self.lock_legend() = None;
        self.leases.close();
        self.life().end_unopened(why);
        self.send_changed();
    }

    /// Changes its life, and sends an event if consoles see a difference.
    fn change_life(&self, change: impl FnOnce(&mut Life)) {
        let is_visible = {
            let mut life = self.life();
            let before = (life.state(), life.remark().to_owned());
            change(&mut life);
            (before.0, before.1.as_str()) != (life.state(), life.remark())
        };
        if is_visible {
            self.send_changed();
        }
    }

    /// Sends an event with the state of the version.
    fn send_changed(&self) {
        let (state, detail, ending) = {
            let life = self.life();
            (life.state(), in_words(life.state(), life.remark()), life.ending().cloned())
        };
        let (plugin, version) = (self.name().to_string(), self.ordinal);
        tracing::debug!(plugin, version, "{detail}");
        let at_ms = clock::now_ms();
        let changed = Event::VersionChanged { at_ms, plugin, version, state, detail, ending };
        self.services.events.send(changed);
    }

    /// The references to the image that code outside it may have.
    pub fn outside(&self) -> &Arc<Outside> {
        &self.outside
    }

    /// Stores what the version declared.
    pub fn declare(&self, declared: Declared, functions: &[DescribedFunction]) {
        self.faces.set_base(Face::base(self.facts.build_id, functions));
        let _ = self.declared.set(declared);
        self.renew_legend();
    }

    /// The functions; empty until they are known.
    fn described(&self) -> &[FunctionDescription] {
        self.declared.get().map_or(&[], |declared| &declared.functions.described)
    }

    /// Tells consoles the name of the version, and what may run in it.
    fn renew_legend(&self) {
        let mut legend = self.lock_legend();
        *legend = None;
        let activities = Activity::NOTED.map(Activity::as_str);
        let base = [self.facts.build_id];
        let patched = self.faces.all().skip(base.len()).map(|(_, face)| face.build_id());
        let builds: Vec<BuildId> = base.into_iter().chain(patched).collect();
        *legend = slots::describe(
            self,
            self.name().as_str(),
            self.ordinal,
            &builds,
            &self.function_names(),
            activities,
        );
    }

    fn lock_legend(&self) -> MutexGuard<'_, Option<LegendEntry>> {
        self.legend.locked()
    }

    /// Notes for consoles, until the result is dropped, that this thread runs code of the version that is not
    /// one of its functions. A lease, or the reaper, keeps the version mapped meanwhile.
    pub fn note(&self, activity: Activity) -> Option<Entered> {
        let number = Activity::NOTED.iter().position(|noted| *noted == activity);
        self.note_call(self.faces.serving(), self.unplaced() + number.unwrap_or(0))
    }

    /// Works like `note`, for a call of the function at `place` in `face`.
    pub fn note_call(&self, face: FaceNumber, place: usize) -> Option<Entered> {
        let entered = Entered::new()?;
        entered.note(self, face.note(place));
        Some(entered)
    }

    /// The face that the innermost call of this thread in the version meets. If there is no such call, the face
    /// whose code started the task or thread that runs; for any other thread, the base.
    pub fn face_here(&self) -> FaceNumber {
        let called = slots::noted_here(self).map(|note| FaceNumber::of_note(note).0);
        called.or_else(|| steps::face_that_runs(self)).unwrap_or(FaceNumber::BASE)
    }

    /// Stores the context with which functions are called.
    pub fn set_context(&self, context: CallContext) {
        let _ = self.context.set(context);
    }

    /// How to call the function at `place` with Rust types.
    #[inline(always)]
    pub fn typed_target(&self, face: FaceNumber, place: usize) -> Option<TypedTarget> {
        let CallContext(context) = *self.context.get()?;
        let call = self.faces.get(face)?.target(place)?.typed?;
        Some(TypedTarget { context, call })
    }

    /// The counters of calls; `None` before the functions are known.
    #[inline(always)]
    pub fn counts(&self) -> Option<&CallCounts> {
        self.declared.get().map(|declared| &*declared.functions.counts)
    }

    /// Counts an error that a function returned. Errors that say that the call was wrong are not counted, because
    /// the caller is at fault.
    pub fn returned(&self, face: FaceNumber, function: &str, error: &Error) {
        if error.kind() == ErrorKind::Failed {
            let function = self.with_place(function);
            let first = self.failures.returned(face, function, error.message());
            self.report(face, first, false);
        }
    }

    /// Counts a panic of a function, or of an object's method. Returns the text that reports it.
    pub fn panicked(&self, face: FaceNumber, function: &str, panic: &PanicReport) -> String {
        let text = format!("panicked at {}: {}", panic.location, panic.message);
        let first = self.failures.panicked(face, self.with_place(function), &text);
        self.report(face, first, true);
        text
    }

    /// The name of a function with its place, if it is one that the version has declared.
    fn with_place<'a>(&self, function: &'a str) -> (&'a str, Option<usize>) {
        (function, self.function(function).map(|(place, _)| place))
    }

    /// Sends an event if this is the first failure of a face, and tells the guard of every failure of the face
    /// that serves.
    fn report(&self, face: FaceNumber, first: Option<FirstFailure>, is_panic: bool) {
        if let Some(failure) = first {
            self.services.events.send(Event::FirstFailure {
                at_ms: failure.at_ms,
                plugin: self.name().to_string(),
                version: self.ordinal,
                patch: face.patch_number(),
                failure,
            });
        }
        let Some(guard) = &self.services.guard else { return };
        if face == self.faces.serving() && self.life().serving_since().is_some() {
            let who = || (self.name().clone(), self.ordinal, face, self.build_of(face));
            guard.count(&self.recent, is_panic, who);
        }
    }

    /// Ends a counted call of a face.
    #[inline(always)]
    pub fn end_counted(&self, face: FaceNumber, place: usize, begun: counts::Begun) {
        if let Some(timed) = begun {
            self.end_timed(place, timed);
        }
        if self.answered.load(Ordering::Relaxed) != face.answered() {
            self.end_first(face, place);
        }
    }

    #[cold]
    fn end_timed(&self, place: usize, timed: counts::Timed) {
        self.counts().into_iter().for_each(|counts| counts.end(place, timed));
    }

    /// Reports the first call of a face; only this call takes locks. A way to call that skips this check is used
    /// only after another call of the face has passed the check.
    #[cold]
    fn end_first(&self, face: FaceNumber, place: usize) {
        if face != self.faces.serving() {
            return;
        }
        // Only a first call in a version that serves is reported, and none in a version that is being loaded, or
        // was replaced before.
        let (active_at, has_served) = {
            let life = self.life();
            (life.serving_since(), life.has_served())
        };
        let Some(active_at) = active_at else {
            if has_served {
                self.answered.store(face.answered(), Ordering::Relaxed);
            }
            return;
        };
        let active_at = self.faces.serving_since().unwrap_or(active_at);
        if self.answered.swap(face.answered(), Ordering::Relaxed) == face.answered() {
            return;
        }
        let function =
            self.function_name(place).unwrap_or(Activity::FoundByHand.as_str()).to_owned();
        let event = Event::FirstCall {
            at_ms: clock::now_ms(),
            plugin: self.name().to_string(),
            version: self.ordinal,
            patch: face.patch_number(),
            function,
            elapsed_us: clock::micros(active_at.elapsed()),
        };
        self.services.events.send(event);
    }

    /// Whether it serves, or has served.
    pub fn has_served(&self) -> bool {
        self.life().has_served()
    }

    /// Advice if host and version do not agree on a type: build the older one again.
    pub fn advice(&self) -> &'static str {
        let written = |metadata: std::fs::Metadata| metadata.modified().ok();
        let program = std::fs::metadata("/proc/self/exe").ok().and_then(written);
        match self.origin.modified.zip(program) {
            Some((plugin, host)) if plugin < host => {
                "the plugin is older than the host: build the plugin again"
            }
            Some(_) => "the host is older than the plugin: build the host again, and restart it",
            None => "build both against the same source",
        }
    }

    /// The expectations of the host.
    pub fn expectations(&self) -> &Expectations {
        &self.services.expectations
    }

    /// The engine to which it belongs.
    pub fn engine(&self) -> EngineId {
        self.services.engine
    }

    /// The engines whose loads wait for the version until it serves.
    pub fn loads(&self) -> &Arc<[EngineId]> {
        &self.services.loads
    }

    /// The live types.
    pub fn live_types(&self) -> &[LiveTypeDescription] {
        self.declared.get().map_or(&[], |declared| &declared.live_types)
    }

    /// The live functions and their places.
    pub fn live_places(&self) -> impl Iterator<Item = (usize, &FunctionDescription)> {
        self.described().iter().enumerate().filter(|(_, function)| function.is_live)
    }

    /// The function at `place`.
    pub fn function_at(&self, place: usize) -> Option<&FunctionDescription> {
        self.described().get(place)
    }

    /// Whether the image said, when it was loaded, that it may be replaced.
    pub fn is_reloadable(&self) -> bool {
        self.declared.get().is_none_or(|declared| declared.is_reloadable)
    }

    /// Stores the export of the version until its end.
    pub fn set_export(&self, export: Arc<Registration>) {
        let _ = self.export.set(export);
    }

    /// The export of the version.
    pub fn export(&self) -> Option<&Arc<Registration>> {
        self.export.get()
    }

    /// The imports of the version.
    pub fn imports(&self) -> &[ImportRequest] {
        self.declared.get().map_or(&[], |declared| &declared.imports)
    }

    /// The function named `name`, and its place.
    pub fn function(&self, name: &str) -> Option<(usize, &FunctionDescription)> {
        self.declared.get()?.functions.find(name)
    }

    /// The number that a slot notes for a call which the plugin answers in `invoke_func`. It is also the number
    /// of the first activity in [`Activity::NOTED`].
    pub fn unplaced(&self) -> usize {
        self.counts().map_or(0, CallCounts::unnumbered)
    }

    /// The name of the function at `place`.
    pub fn function_name(&self, place: usize) -> Option<&str> {
        Some(&self.function_at(place)?.name)
    }

    /// The names of the functions that can be called by number.
    pub fn function_names(&self) -> Vec<&str> {
        self.described().iter().map(|function| function.name.as_str()).collect()
    }

    /// The words for a search that found no function, with the names that there are.
    pub fn has_no_such_function(&self) -> String {
        match self.function_names().as_slice() {
            [] => "there is no such function, and no other".to_owned(),
            names => format!("there is no such function; there are {}", names.join(", ")),
        }
    }

    /// The functions in the form of the console protocol, in an answer with room for `left` bytes of docs and
    /// schemas.
    pub fn function_infos(&self, left: &mut usize) -> Vec<FunctionInfo> {
        let places = 0..self.described().len();
        places.filter_map(|place| self.function_info(place, left)).collect()
    }

    /// One of these functions.
    pub fn function_info(&self, place: usize, left: &mut usize) -> Option<FunctionInfo> {
        let Declared { functions, .. } = self.declared.get()?;
        let function = functions.described.get(place)?;
        let buckets = functions.counts.buckets(place);
        let in_us = |per_mille| Some(LatencyBucket::quantile(&buckets, per_mille)? as f64 / 1e3);
        Some(FunctionInfo {
            calls: functions.counts.calls(place),
            failures: self.failures.of(place),
            latency_us_p50: in_us(500),
            latency_us_p99: in_us(990),
            latency_buckets: buckets,
            ..function_info(function, left)
        })
    }

    pub fn state(&self) -> VersionState {
        self.life().state()
    }

    /// Why the version never served.
    pub fn failure(&self) -> Option<Failure> {
        self.life().failure().cloned()
    }

    /// Frees the version as soon as nothing uses it, without the delay of the host.
    pub fn free_without_delay(self: &Arc<Self>) {
        self.is_urgent.store(true, Ordering::Release);
        self.notify_reaper();
    }

    /// Until when the version is kept although nothing uses it; `None` if it need not be kept.
    pub fn kept_until(&self, delay: Duration) -> Option<Instant> {
        if delay.is_zero() || self.is_urgent() {
            return None;
        }
        let until = crate::event::after(self.life().replaced_at()?, delay);
        (until > Instant::now()).then_some(until)
    }

    /// Whether it has to be freed as soon as nothing uses it.
    fn is_urgent(&self) -> bool {
        self.is_urgent.load(Ordering::Acquire)
    }

    /// How long ago the version was replaced, or its load undone.
    pub fn since_leaving(&self) -> Option<Duration> {
        self.life().since_leaving()
    }

    /// The version in the form of the console protocol. It contains the state that the reaper wrote; only the
    /// holders of a version that waits for them are read again.
    pub fn info(&self) -> VersionInfo {
        let (state, mut remark, failure, ending) = {
            let life = self.life();
            let (failure, ending) = (life.failure().cloned(), life.ending().cloned());
            (life.state(), life.remark().to_owned(), failure, ending)
        };
        let face = self.faces.serving();
        let is_over = self.is_finished() || state == VersionState::Active;
        let held_by = if is_over { Vec::new() } else { self.holders() };
        // Only these two states wait for holders. Reading the holders looks into the slots of all threads.
        if matches!(state, VersionState::Retired | VersionState::Pinned) {
            remark = self.holder_counts();
            if state == VersionState::Retired && remark.is_empty() {
                remark = "nothing uses it".into();
            }
        }
        VersionInfo {
            version: self.ordinal,
            state,
            detail: in_words(state, &remark),
            remark: Some(remark),
            failure,
            ending,
            build_id: self.build_of(face).to_string(),
            is_early: self.faces.get(face).is_some_and(|it| it.is_early(face)),
            base_build_id: face.patch_number().map(|_| self.facts.build_id.to_string()),
            patch: face.patch_number(),
            patched_functions: self.changed_by(face).to_vec(),
            crate_version: self.facts.crate_version.clone(),
            source: self.source_of(face).clone(),
            loaded_at_ms: self.loaded_at_ms,
            size_bytes: self.origin.size_bytes + self.faces.patches_bytes(),
            heap_bytes: self
                .heap
                .map(|heap| heap.bytes() as u64)
                .filter(|bytes| state != VersionState::Freed || *bytes >= MEANS_NOTHING),
            descriptors: self.outside.descriptors(),
            calls: self.counts().map_or(0, CallCounts::total),
            failures: self.failures.total(),
            holders: texts(&held_by),
            held_by,
        }
    }

    /// The build whose code a face has.
    pub fn build_of(&self, face: FaceNumber) -> BuildId {
        self.faces.get(face).map_or(self.facts.build_id, Face::build_id)
    }

    /// The source of the build whose code a face has; that of the base as long as the build is not linked yet.
    pub fn source_of(&self, face: FaceNumber) -> &Option<Source> {
        self.faces.get(face).and_then(Face::source).unwrap_or(&self.facts.source)
    }

    /// The readable names of the functions whose code in a face differs from the code in the base.
    pub fn changed_by(&self, face: FaceNumber) -> &[String] {
        self.faces.get(face).map_or(&[], |face| &face.changed)
    }

    /// Records the build and the artifact with the code of a face that served before the build was linked.
    pub fn settle(
        &self,
        face: FaceNumber,
        build_id: BuildId,
        artifact: File,
        source: Option<Source>,
    ) {
        if let Some(face) = self.faces.get(face) {
            face.settle(build_id, artifact, source);
            self.renew_legend();
        }
    }

    /// Notes which face serves from now on. The guard counts from zero, because earlier failures belong to
    /// another face.
    pub fn serve_face(&self, face: FaceNumber) {
        self.faces.note_serving(face);
        self.recent.forget();
        self.renew_legend();
    }

    /// Formats the version with its face: `world v3+2`, or `world v3` for the base.
    pub fn fmt_face(&self, face: FaceNumber, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.facts.name, version_label(self.ordinal, face.patch_number()))
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.locked()
    }
}

/// A state with a remark: `retired: 2 calls`, or `active` without one.
fn in_words(state: VersionState, remark: &str) -> String {
    if remark.is_empty() { state.to_string() } else { format!("{state}: {remark}") }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_face(self.faces.serving(), f)
    }
}

/// The owner of something in the Vault.
#[derive(Clone)]
pub(crate) enum Owner {
    Host,
    Version(Weak<Version>),
}

impl Owner {
    /// Whether the owner is this version.
    pub fn is(&self, version: &Version) -> bool {
        match self {
            Self::Host => false,
            Self::Version(owner) => std::ptr::eq(Weak::as_ptr(owner), version),
        }
    }

    /// The version; `None` if the owner is not a version, or the version is gone.
    pub fn version(&self) -> Option<Arc<Version>> {
        match self {
            Self::Host => None,
            Self::Version(version) => version.upgrade(),
        }
    }
}

impl Owner {
    /// The owner in the console protocol.
    pub fn to_wire(&self) -> hotswap_protocol::Owner {
        match self {
            Self::Host => hotswap_protocol::Owner::Host,
            Self::Version(version) => match version.upgrade() {
                Some(version) => hotswap_protocol::Owner::Version {
                    plugin: version.name().to_string(),
                    version: version.ordinal,
                },
                None => hotswap_protocol::Owner::Gone,
            },
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_wire().fmt(f)
    }
}

/// How many bytes of docs and JSON Schemas there are in an answer to a console. A function has the whole schema of each
/// of its types, so those of a large plugin could be too long for a line.
pub(crate) const MAX_DESCRIBED: usize = 2 << 20;

/// Takes the room that these texts need from what is left. Returns false if it is not enough.
pub(crate) fn has_room<'a>(left: &mut usize, texts: impl Iterator<Item = &'a String>) -> bool {
    let rest = left.checked_sub(texts.map(String::len).sum());
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

/// A function in the form of the console protocol, before it was called.
pub(crate) fn function_info(function: &FunctionDescription, left: &mut usize) -> FunctionInfo {
    let schemas = function.params.iter().map(|param| &param.schema);
    let is_cut = !has_room(left, schemas.chain([&function.doc, &function.returns]));
    let schema = |text: &str| {
        let schema = (!is_cut).then(|| serde_json::from_str(text).ok()).flatten();
        schema.unwrap_or(serde_json::Value::Bool(true))
    };
    let params = function.params.iter().map(|param| ParamInfo {
        name: param.name.clone(),
        type_name: param.type_name.clone(),
        schema: schema(&param.schema),
    });
    FunctionInfo {
        name: function.name.clone(),
        signature: function.signature.clone(),
        doc: if is_cut { String::new() } else { function.doc.clone() },
        params: params.collect(),
        returns: schema(&function.returns),
        is_cut,
        is_live: function.is_live,
        is_async: function.is_async,
        has_effects: function.has_effects,
        calls: 0,
        failures: Failures::default(),
        latency_us_p50: None,
        latency_us_p99: None,
        latency_buckets: Vec::new(),
    }
}
