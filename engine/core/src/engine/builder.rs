//! The settings of an engine, and how the engine is built from them.

use std::{
    any::Any,
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hotswap_plugin::{__private::RawObject, ObjectOf, StaticPlugin};
use hotswap_protocol::{
    HostHealth, HostInfo, OfferAnswer, OfferParams, clock::now_ms, env as env_names,
};
use serde::Serialize;

use super::{
    Engine, Inner, ShutdownOnDrop, guard,
    hooks::{Callback, Hooks},
    inner::Parts,
    places::Places,
};
use crate::{
    ConsoleSocket, EngineError, Generation, Guard,
    artifact::own_toolchain,
    load::{OnReload, Settings, stage::Staging},
    os::absolute,
    reclaim::reaper::{self, WakeThreads},
    serve::extension::{self, ExtensionFactory},
    slots, sync,
    vault::VaultContents,
    version::{expectations::Expectations, registration::Registration, tasks::Runtime, threads},
};

/// The default of the longest time that a step of a load may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Sets up an engine. [`Engine::builder`] makes one; [`build`](Self::build) starts the engine.
///
/// ```no_run
/// use std::{convert::Infallible, time::Duration};
///
/// use hotswap_engine::{ConsoleSocket, Engine, plugin_dir_from_env, store_dir_from_env};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::builder(plugin_dir_from_env("plugins"))
///     .store(store_dir_from_env("target/hotswap/store"))
///     .only(["world", "physics"])
///     .step_timeout(Duration::from_secs(5))
///     .on_reload(|new, old| {
///         println!("generation {} after {}", new.generation(), old.generation());
///         Ok::<_, Infallible>(())
///     })
///     .console(ConsoleSocket::from_env())
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub struct EngineBuilder {
    plugin_dir: PathBuf,
    linked: Option<Vec<&'static StaticPlugin>>,
    store_dir: Option<PathBuf>,
    only: Option<Vec<String>>,
    step_timeout: Duration,
    free_delay: Duration,
    extension: ExtensionFactory,
    on_reload: Vec<OnReload>,
    console: Option<ConsoleSocket>,
    wake: Vec<WakeThreads>,
    runtime: Option<Arc<dyn Runtime>>,
    trusted: Vec<String>,
    stage_in: Option<PathBuf>,
    publish_breaking: bool,
    services: Vec<Arc<Registration>>,
    guard: Option<Guard>,
    labels: BTreeMap<String, String>,
    hooks: Hooks,
}

/// The directory in which a host looks for artifacts: the value of `HOTSWAP_PLUGIN_DIR`, which a console sets
/// for the host that it starts, or otherwise `default`.
pub fn plugin_dir_from_env(default: impl Into<PathBuf>) -> PathBuf {
    env::var_os(hotswap_protocol::env::PLUGIN_DIR).map_or_else(|| default.into(), PathBuf::from)
}

impl EngineBuilder {
    pub(super) fn new(plugin_dir: PathBuf) -> Self {
        Self {
            plugin_dir,
            linked: None,
            store_dir: None,
            only: None,
            step_timeout: STEP_TIMEOUT,
            free_delay: Duration::ZERO,
            extension: extension::factory(|_: Option<&()>| ()),
            on_reload: Vec::new(),
            console: None,
            wake: Vec::new(),
            runtime: None,
            trusted: Vec::new(),
            stage_in: None,
            publish_breaking: false,
            services: Vec::new(),
            guard: None,
            labels: BTreeMap::new(),
            hooks: Hooks::default(),
        }
    }

    /// An engine whose settings all come from its environment.
    pub(super) fn from_env() -> Self {
        let Places { plugin_dir, store_dir } = Places::of_this_program();
        let store_dir = env::var_os(env_names::STORE_DIR).map(PathBuf::from).or(store_dir);
        let console = ConsoleSocket::from_env();
        Self { store_dir, console, ..Self::new(plugin_dir_from_env(plugin_dir)) }
    }

    /// An engine without artifacts.
    pub(super) fn linked(plugins: Vec<&'static StaticPlugin>) -> Self {
        Self { linked: Some(plugins), ..Self::new(PathBuf::new()) }
    }

    /// Loads only these plugins, and reads only their files: other files in the plugin directory may be
    /// broken, or belong to another host. If some plugins are missing, the load is refused; the error lists
    /// the missing plugins and those that were found.
    ///
    /// The file of a plugin is the one with its name (`world.so`). Only if there is no such file are the
    /// other files read for the names in them.
    pub fn only<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The directory in which `hotswap build` keeps earlier artifacts, for [`Engine::rollback`]; none by
    /// default.
    pub fn store(mut self, dir: impl Into<PathBuf>) -> Self {
        self.store_dir = Some(dir.into());
        self
    }

    /// The longest time that a step may take before the load is undone; 30 s by default.
    pub fn step_timeout(mut self, timeout: Duration) -> Self {
        self.step_timeout = timeout;
        self
    }

    /// The minimum time for which a replaced version is kept, even if nothing uses it; 0 by default.
    pub fn free_delay(mut self, delay: Duration) -> Self {
        self.free_delay = delay;
        self
    }

    /// Sets a callback that gets the new and the old generation before a load is published; an error or a panic
    /// undoes the load.
    ///
    /// It has no time limit. If a plugin of the load hands over, calls of that plugin wait for the callback, but not
    /// longer than the step timeout.
    pub fn on_reload<E>(
        mut self,
        callback: impl Fn(&Generation, &Generation) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.on_reload.push(Box::new(move |new, old| callback(new, old).map_err(Into::into)));
        self
    }

    /// Sets whether a load is published although it breaks an expectation of the host's own code; `false` by
    /// default.
    ///
    /// The host expects whatever it uses with Rust types:
    /// - the functions that it requested as a [`Func`](crate::Func), even if it has dropped the handle;
    /// - the live functions that it called through a [`LiveFuncs`](crate::LiveFuncs);
    /// - the interfaces of the exported or registered objects that it found.
    ///
    /// If an expectation is met now and would not be met afterwards, the load fails with
    /// [`LoadCause::HostExpects`](crate::LoadCause::HostExpects). To get such a load published, build the
    /// host with the new types, and restart it. Unloading a plugin on request breaks no expectation.
    ///
    /// With `true`, such a load is published nevertheless, and the log says what it breaks.
    pub fn publish_breaking(mut self, publish: bool) -> Self {
        self.publish_breaking = publish;
        self
    }

    /// Provides an object that plugins can import by `name`, in the same way as an object that another plugin
    /// exports. The object is dropped with the engine.
    ///
    /// ```no_run
    /// use hotswap_engine::{Engine, plugin::interface};
    ///
    /// #[interface]
    /// pub trait Store {
    ///     fn get(&self, key: &str) -> Option<String>;
    /// }
    ///
    /// struct Memory;
    ///
    /// impl Store for Memory {
    ///     fn get(&self, key: &str) -> Option<String> {
    ///         (key == "name").then(|| "Ada".to_owned())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), hotswap_engine::EngineError> {
    /// // A plugin has a field `db: Leased<dyn Store>` in its struct with `#[derive(Imports)]`.
    /// let engine = Engine::from_env().provide::<dyn Store, _>("db", Memory).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A load is refused if a plugin imports `name` as another interface, or has the name itself.
    pub fn provide<I, T>(mut self, name: &str, object: T) -> Self
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        let object = RawObject::new::<I, T>(object);
        let service = Registration::service(name, object);
        let service = service.unwrap_or_else(|error| unreachable!("the host's own shape: {error}"));
        self.services.retain(|other| other.name != name);
        self.services.push(Arc::new(service));
        self
    }

    /// Rolls a plugin back if the calls of its version fail too often while it serves: the version before is
    /// loaded again, as by [`Engine::rollback`], and the failed build is kept back until there is another build.
    /// Off by default.
    ///
    /// All calls of functions count: by name, by type, live and `async`. The log reports the rollback,
    /// and so does the event [`GuardTripped`](hotswap_protocol::Event::GuardTripped). The guard rolls a plugin
    /// back at most once between two builds: if the earlier version fails too, it keeps serving.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Gives each generation an object of the host's. `make` is called for each generation with the object of
    /// the previous one.
    pub fn extension<E>(mut self, make: impl Fn(Option<&E>) -> E + Send + Sync + 'static) -> Self
    where
        E: Serialize + Any + Send + Sync,
    {
        self.extension = extension::factory(make);
        self
    }

    /// The directory to which the engine copies artifacts before it loads them; by default a directory beside
    /// the sockets of consoles. No other user may be able to change it, and it must not be mounted `noexec`.
    ///
    /// If the directory cannot be used, or is full, the copies are kept in memory, and the log says why.
    pub fn stage_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.stage_in = Some(dir.into());
        self
    }

    /// Whether consoles may attach; off by default.
    pub fn console(mut self, socket: Option<ConsoleSocket>) -> Self {
        self.console = socket;
        self
    }

    /// Gives this host a label. In a fleet, hosts with the same labels and the same toolchain form a group, and
    /// each group first tries a release on hosts of its own. `HOTSWAP_LABELS` adds other labels.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets a callback that the agent of a fleet calls before this host has to load another release, after the
    /// release was fetched and tried. The answer is now, later (the release is offered again every few seconds),
    /// or no. The callback is not called when the fleet rolls a release back. Without a callback, the answer is
    /// "now".
    ///
    /// It is called on a thread of its own, and must not wait for anything: if it does not return within 3 s, the answer
    /// is "later".
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// use hotswap_engine::{Engine, protocol::OfferAnswer};
    ///
    /// let plays = Arc::new(AtomicBool::new(false));
    /// let asked = plays.clone();
    /// let engine = Engine::builder("plugins").on_offer(move |_| match asked.load(Ordering::Relaxed) {
    ///     true => OfferAnswer::Later { reason: "a match is running".into() },
    ///     false => OfferAnswer::Now,
    /// });
    /// ```
    pub fn on_offer(
        mut self,
        ask: impl Fn(&OfferParams) -> OfferAnswer + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_offer = Some(Callback::new(ask));
        self
    }

    /// Sets a callback that reports the health of this host, which `hotswap fleet hosts` shows. A rollout is
    /// rolled back if a host was healthy before it and is unhealthy with the release.
    ///
    /// It is called on a thread of its own, several times a second, and must not wait for anything: a host whose
    /// callback does not return for some seconds counts as unhealthy. It may ask the engine for its state: the
    /// [snapshot](crate::Engine::snapshot) that it gets has the health before, if there is one.
    pub fn health(mut self, ask: impl Fn() -> HostHealth + Send + Sync + 'static) -> Self {
        self.hooks.health = Some(Callback::new(move |()| ask()));
        self
    }

    /// Sets a callback that is called when a version waits for threads to run the destructors of its
    /// thread-locals.
    ///
    /// If a host has threads that live long without calling plugins, this callback must wake them, so that
    /// each calls [`checkpoint`](crate::checkpoint).
    pub fn wake_threads(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.wake.push(Box::new(wake));
        self
    }

    /// Trusts a shared library that plugins need or open. `name` is the library's name as `hotswap inspect`
    /// shows it, such as `libfoo.so.1`.
    ///
    /// A version that uses a library other than those of libc stays mapped when it ends. The library may have
    /// a thread that runs the version's code, a callback, or a key with a destructor in it, and the engine
    /// cannot see these. By trusting the library you promise that it keeps no pointer into a plugin beyond
    /// the call: no thread, callback, key or text. If this is not true, the host crashes after a reload.
    pub fn trust_library(mut self, name: impl Into<String>) -> Self {
        self.trusted.push(name.into());
        self
    }

    /// Gives plugins a tokio runtime for their tasks (`hotswap_plugin::rt`). Its workers pass a checkpoint
    /// whenever a version waits for them.
    #[cfg(feature = "tokio")]
    pub fn tokio(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(Arc::new(crate::engine::tokio_workers::Tokio(runtime.clone())));
        self.wake_threads(move || crate::engine::tokio_workers::wake(&runtime))
    }

    /// Makes the engine. Nothing is loaded yet.
    ///
    /// An engine with a [console](Self::console) takes artifacts and earlier builds from the directories that
    /// `HOTSWAP_PLUGIN_DIR` and `HOTSWAP_STORE` name, if they are set: the console that starts a host builds
    /// into these. If they differ from the host's own directories, this is logged.
    ///
    /// # Errors
    /// If a thread cannot be started, or the socket cannot be made at the path that
    /// [`ConsoleSocket::at`](crate::ConsoleSocket::at) names. If the host's runtime directory cannot be used,
    /// the host runs without a console, and the log says why.
    pub fn build(self) -> Result<Engine, EngineError> {
        let Self { plugin_dir, linked, store_dir, only, step_timeout, .. } = self;
        let Self { free_delay, extension, on_reload, console, wake, runtime, trusted, .. } = self;
        let Self { stage_in, publish_breaking, guard, mut labels, hooks, .. } = self;
        if console.is_some() {
            labels.extend(labels_of(env::var(env_names::LABELS).unwrap_or_default().as_str()));
        }
        let (guard, trips) = guard.map(guard::activate).unzip();
        let (mut plugin_dir, mut store_dir) = (plugin_dir, store_dir);
        if console.is_some() && linked.is_none() {
            plugin_dir = handed_over(env_names::PLUGIN_DIR, "plugins", Some(&plugin_dir))
                .unwrap_or(plugin_dir);
            store_dir = handed_over(env_names::STORE_DIR, "earlier builds", store_dir.as_deref())
                .or(store_dir);
        }
        // A host or a plugin may change the working directory.
        let (plugin_dir, store_dir) = (absolute(&plugin_dir), store_dir.as_deref().map(absolute));
        let stage_in = stage_in.as_deref().map(absolute);
        threads::register_duties();
        sync::prepare_barriers();
        slots::prepare(console.is_some());
        let staging = Staging::new(stage_in);
        let expectations = Arc::<Expectations>::default();
        let vault_contents = Arc::new(VaultContents::new(expectations.clone()));
        let started = reaper::start(vault_contents.clone(), free_delay, wake);
        let cannot_start = |whose: &str, error| EngineError::Setup {
            what: format!("cannot start {whose} thread for"),
            path: plugin_dir.clone(),
            error,
        };
        let (reaper, reaper_thread) =
            started.map_err(|error| cannot_start("the reaper's", error))?;
        let host = HostInfo {
            labels,
            ..host_info(&plugin_dir, store_dir.as_deref(), &staging.dir(), &trusted)
        };
        let settings = Settings {
            linked,
            store_dir,
            only,
            step_timeout,
            extension,
            on_reload,
            publish_breaking,
            services: self.services,
        };
        let parts = Parts {
            host,
            settings,
            vault_contents,
            staging,
            reaper,
            reaper_thread,
            runtime,
            trusted: trusted.into(),
            expectations,
            guard,
            hooks,
        };
        let inner = Arc::new(Inner::new(parts));
        if let Some(trips) = trips {
            guard::start_thread(&inner, trips)
                .map_err(|error| cannot_start("the guard's", error))?;
        }
        if let Some(socket) = console {
            let is_named = socket.is_named();
            match inner.listen(socket) {
                Err(error) if !is_named => tracing::warn!("no console can attach: {error}"),
                listening => listening?,
            }
        }
        Ok(Engine { _last: Arc::new(ShutdownOnDrop(inner.clone())), inner })
    }
}

/// The directory that a console names for the host that it starts. It takes precedence over the host's `own`,
/// because the console builds into it. `None` if no console names one.
fn handed_over(variable: &str, what: &str, own: Option<&Path>) -> Option<PathBuf> {
    let handed_over = env::var_os(variable).map(PathBuf::from)?;
    if let Some(own) = own.filter(|own| absolute(own) != absolute(&handed_over)) {
        tracing::info!(
            "{what} are taken from {}, which {variable} names, instead of {}, which the host names",
            handed_over.display(),
            own.display()
        );
    }
    Some(handed_over)
}

fn host_info(
    plugin_dir: &Path,
    store_dir: Option<&Path>,
    staging_dir: &Path,
    trusted: &[String],
) -> HostInfo {
    let executable = env::current_exe().ok();
    let name = executable.as_deref().and_then(Path::file_name);
    let built_by = own_toolchain();
    HostInfo {
        name: name.map_or_else(|| "host".into(), |name| name.to_string_lossy().into_owned()),
        pid: std::process::id(),
        started_at_ms: now_ms(),
        plugin_dir: plugin_dir.to_owned(),
        store_dir: store_dir.map(Path::to_owned),
        staging_dir: staging_dir.to_owned(),
        socket: PathBuf::new(),
        calls_file: None,
        engine_version: env!("CARGO_PKG_VERSION").into(),
        toolchain: built_by.rustc(),
        built_by: Some(built_by),
        trusted_libraries: trusted.to_vec(),
        labels: BTreeMap::new(),
        health: None,
        agent: None,
    }
}

/// The labels in a text: `KEY=VALUE`, several of them with commas between. A part of another form is left out,
/// and logged.
fn labels_of(text: &str) -> impl Iterator<Item = (String, String)> {
    let label = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Some((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => {
            tracing::warn!("{part:?} in {} is no label: expected KEY=VALUE", env_names::LABELS);
            None
        }
    };
    text.split(',').filter(|part| !part.trim().is_empty()).filter_map(label)
}
