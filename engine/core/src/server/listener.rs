//! Accepts connections of consoles.

use std::{
    env, fs, io, mem,
    os::{
        fd::AsFd as _,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_protocol::{SocketPath, env::CONSOLE, remove_dead_socket};

use super::{connection, served::Served};
use crate::{EngineError, lock::Lock as _, os, runtime_dir::runtime_dir};

/// The largest number of consoles that may be attached at the same time.
const MAX_CONNECTIONS: usize = 64;

/// How long to wait after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(100);

/// How often to check whether the socket still exists.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The socket at which an engine listens for consoles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleSocket {
    path: Option<PathBuf>,
}

impl ConsoleSocket {
    /// The socket that the environment variable `HOTSWAP_CONSOLE` requests: `1` for one in the runtime
    /// directory, or a path. `None` if it requests none.
    pub fn from_env() -> Option<Self> {
        let value = env::var_os(CONSOLE).filter(|value| !value.is_empty() && value != "0")?;
        Some(if value == "1" { Self::in_runtime_dir() } else { Self::at(value) })
    }

    /// A socket that is named after the process, in the directory in which consoles look for hosts:
    /// `$XDG_RUNTIME_DIR/hotswap/PID.sock`, or in `hotswap-UID` in the directory of temporary files.
    pub fn in_runtime_dir() -> Self {
        Self { path: None }
    }

    /// A socket at a path. Its directory should be one that only this user can enter.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(os::absolute(&path.into())) }
    }

    /// Whether the host has named a path.
    pub(crate) fn is_named(&self) -> bool {
        self.path.is_some()
    }
}

/// A listening socket. Dropping this removes the socket and ends its thread.
pub(crate) struct Listener {
    bound: Arc<Renewed>,
    stop: Arc<AtomicBool>,
    connections: Arc<connection::Connections>,
}

/// A socket that is made again if it is removed: a runtime directory may be removed while the host lives.
pub(crate) struct Renewed {
    /// The path that the host names; `None` for a socket in the runtime directory.
    named: Option<PathBuf>,
    bound: Mutex<Bound>,
    /// Whether the log already says that the socket cannot be made again.
    has_warned: AtomicBool,
    /// Whether a thread is making it again.
    is_renewing: AtomicBool,
}

/// A socket that is bound.
struct Bound {
    path: PathBuf,
    /// The device and the inode of the socket. If something else is at its path later, that is left alone.
    place: Option<(u64, u64)>,
    socket: Arc<UnixListener>,
}

impl Listener {
    /// Binds the socket. Connections wait until they are [served](Self::serve).
    pub fn bind(socket: ConsoleSocket) -> Result<Self, EngineError> {
        let bound = Arc::new(Renewed::new(socket.path)?);
        Ok(Self { bound, stop: Arc::default(), connections: Arc::default() })
    }

    /// Accepts connections on a thread of its own.
    pub fn serve(&self, engine: &Arc<dyn Served>) -> Result<(), EngineError> {
        let accept = Accept {
            engine: Arc::downgrade(engine),
            bound: self.bound.clone(),
            stop: self.stop.clone(),
            connections: self.connections.clone(),
            count: Arc::default(),
        };
        let thread = thread::Builder::new().name("hotswap-console".into());
        match thread.spawn(move || accept.run()) {
            Ok(_) => Ok(()),
            Err(error) => Err(cannot_listen(self.path(), error)),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.bound.bound.locked().path.clone()
    }

    /// The socket, which can be made again without the listener.
    pub fn renewed(&self) -> Arc<Renewed> {
        self.bound.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let bound = self.bound.bound.locked();
        if bound.place.is_some() && bound.place == place_of(&bound.path) {
            let _ = fs::remove_file(&bound.path);
        }
        os::stop_accepting(&bound.socket);
        drop(bound);
        self.connections.close_all();
    }
}

impl Renewed {
    fn new(named: Option<PathBuf>) -> Result<Self, EngineError> {
        let bound = Mutex::new(Bound::new(named.as_deref())?);
        Ok(Self {
            named,
            bound,
            has_warned: AtomicBool::default(),
            is_renewing: AtomicBool::default(),
        })
    }

    /// Makes the socket again if nothing is at its path any more.
    ///
    /// Code of the host runs in here, without a lock: the subscriber of its log.
    pub fn renew(&self) {
        let Some(renewing) = Renewing::begin(&self.is_renewing).filter(|_| self.is_gone()) else {
            return;
        };
        match Bound::new(self.named.as_deref()) {
            Ok(new) => {
                let path = new.path.clone();
                let old = mem::replace(&mut *self.bound.locked(), new);
                drop(renewing);
                // The thread that accepts connections of the old socket changes to the new one.
                os::stop_accepting(&old.socket);
                self.has_warned.store(false, Ordering::Relaxed);
                let path = path.display();
                tracing::warn!("the socket for consoles was removed; from now on it is {path}");
            }
            Err(error) if !self.has_warned.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    "the socket for consoles was removed, and cannot be made again: {error}"
                );
            }
            Err(_) => {}
        }
    }

    fn is_gone(&self) -> bool {
        let bound = self.bound.locked();
        bound.place.is_some() && place_of(&bound.path).is_none()
    }

    fn socket(&self) -> Arc<UnixListener> {
        self.bound.locked().socket.clone()
    }
}

/// Marks that a thread makes a socket again, until this is dropped.
struct Renewing<'a>(&'a AtomicBool);

impl<'a> Renewing<'a> {
    /// `None` if another thread does it, or this thread in code around this call.
    fn begin(mark: &'a AtomicBool) -> Option<Self> {
        (!mark.swap(true, Ordering::AcqRel)).then_some(Self(mark))
    }
}

impl Drop for Renewing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Bound {
    fn new(named: Option<&Path>) -> Result<Self, EngineError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => runtime_dir(None)?.join(format!("{}.sock", std::process::id())),
        };
        match bind(&path) {
            Ok(socket) => Ok(Self { place: place_of(&path), path, socket: Arc::new(socket) }),
            Err(error) => Err(cannot_listen(path, error)),
        }
    }
}

fn cannot_listen(path: PathBuf, error: io::Error) -> EngineError {
    EngineError::Setup { what: "cannot listen for consoles at".into(), path, error }
}

/// The device and the inode of the file at a path.
fn place_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Binds the socket. A socket that a dead process left is removed first; nothing else is removed.
fn bind(path: &Path) -> io::Result<UnixListener> {
    remove_dead_socket(path, os::user_id());
    let short = SocketPath::of(path)?;
    let listener = UnixListener::bind(short.path()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(error.kind(), in_use(path)),
        _ => error,
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Why nobody can listen at a path.
fn in_use(path: &Path) -> &'static str {
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        "another process has a socket there; choose another path"
    } else {
        "the file there is not a socket, and is left alone; choose another path"
    }
}

struct Accept {
    engine: Weak<dyn Served>,
    bound: Arc<Renewed>,
    stop: Arc<AtomicBool>,
    connections: Arc<connection::Connections>,
    count: Arc<AtomicUsize>,
}

impl Accept {
    fn run(self) {
        while !self.stop.load(Ordering::Acquire) {
            let listener = self.bound.socket();
            if !os::wait_to_read(listener.as_fd(), POLL_INTERVAL) {
                self.bound.renew();
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                // The socket was shut down, to end or to be made again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                // Most likely there are too many open files; the connection stays to be accepted later.
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    fn admit(&self, stream: UnixStream) {
        if !is_same_user(&stream) {
            tracing::warn!("a console of another user was refused");
            return;
        }
        if self.count.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            self.count.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("more than {MAX_CONNECTIONS} consoles are attached; one was refused");
            return;
        }
        let (engine, count) = (self.engine.clone(), self.count.clone());
        let connections = self.connections.clone();
        let thread = thread::Builder::new().name("hotswap-console".into());
        let started = thread.spawn(move || {
            connection::serve(&engine, stream, &connections);
            count.fetch_sub(1, Ordering::AcqRel);
        });
        if started.is_err() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Whether the peer is a process of this user.
fn is_same_user(stream: &UnixStream) -> bool {
    os::peer_user_id(stream) == Some(os::user_id())
}
