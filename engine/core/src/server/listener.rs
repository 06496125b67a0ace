//! Accepts consoles.

use std::{
    env, fs, io,
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

/// How many consoles may be attached at once.
const MAX_CONNECTIONS: usize = 64;

/// How long to wait after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(100);

/// How often to look whether the socket is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Where an engine listens for consoles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleSocket {
    path: Option<PathBuf>,
}

impl ConsoleSocket {
    /// Asks for a console when the environment variable `HOTSWAP_CONSOLE` does: `1`, or a path.
    pub fn from_env() -> Option<Self> {
        let value = env::var_os(CONSOLE).filter(|value| !value.is_empty() && value != "0")?;
        Some(if value == "1" { Self::in_runtime_dir() } else { Self::at(value) })
    }

    /// A socket named after the process, where consoles look for hosts:
    /// `$XDG_RUNTIME_DIR/hotswap/PID.sock`, or in `hotswap-UID` among the temporary files.
    pub fn in_runtime_dir() -> Self {
        Self { path: None }
    }

    /// A socket at a path. Its directory should be one that only this user can enter.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// Whether the host names a path.
    pub(crate) fn is_named(&self) -> bool {
        self.path.is_some()
    }
}

/// A listening socket. Dropping it removes it and ends its thread.
pub(crate) struct Listener {
    bound: Arc<Renewed>,
    stop: Arc<AtomicBool>,
    connections: Arc<connection::Connections>,
}

/// A socket that is made again if somebody removes it: a runtime directory may go while the host lives.
struct Renewed {
    /// The path that the host names; `None` for one in the runtime directory.
    named: Option<PathBuf>,
    bound: Mutex<Bound>,
    /// Whether the log says that the socket cannot be made again.
    is_told: AtomicBool,
}

/// A socket that is bound.
struct Bound {
    path: PathBuf,
    /// The device and the inode of the socket: what else is at its path by then stays.
    place: Option<(u64, u64)>,
    socket: Arc<UnixListener>,
}

impl Listener {
    pub fn path(&self) -> PathBuf {
        self.bound.bound.locked().path.clone()
    }

    /// Makes the socket again if somebody has removed it.
    pub fn renew(&self) {
        self.bound.renew();
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
        Ok(Self { named, bound, is_told: AtomicBool::new(false) })
    }

    /// Makes the socket again if there is nothing at its path any more.
    fn renew(&self) {
        let mut bound = self.bound.locked();
        if bound.place.is_none() || place_of(&bound.path).is_some() {
            return;
        }
        match Bound::new(self.named.as_deref()) {
            Ok(new) => {
                let path = new.path.display();
                tracing::warn!("the socket for consoles was removed; it is {path} from now on");
                self.is_told.store(false, Ordering::Relaxed);
                // Whoever waits at the old one looks again.
                os::stop_accepting(&bound.socket);
                *bound = new;
            }
            Err(error) if !self.is_told.swap(true, Ordering::Relaxed) => {
                tracing::warn!("the socket for consoles was removed, and cannot be made: {error}");
            }
            Err(_) => {}
        }
    }

    fn socket(&self) -> Arc<UnixListener> {
        self.bound.locked().socket.clone()
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

/// Listens for consoles on a thread of its own.
pub(crate) fn listen(
    engine: &Arc<dyn Served>,
    socket: ConsoleSocket,
) -> Result<Listener, EngineError> {
    let bound = Arc::new(Renewed::new(socket.path)?);
    let stop = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(connection::Connections::default());
    let accept = Accept {
        engine: Arc::downgrade(engine),
        bound: bound.clone(),
        stop: stop.clone(),
        connections: connections.clone(),
        count: Arc::default(),
    };
    let listener = Listener { bound, stop, connections };
    let thread = thread::Builder::new().name("hotswap-console".into());
    match thread.spawn(move || accept.run()) {
        Ok(_) => Ok(listener),
        Err(error) => Err(cannot_listen(listener.path(), error)),
    }
}

/// The device and the inode of what is at a path.
fn place_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Binds the socket; one that a dead process left is removed first, and nothing else.
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
        "what is there is no socket, and is left alone; choose another path"
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
            if !os::wait_to_read(listener.as_fd(), LOOK) {
                self.bound.renew();
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                // It was shut down, to end or to be made again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                // Too many open files, most likely, and the connection stays to be accepted.
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
            tracing::warn!("more than {MAX_CONNECTIONS} consoles; one was refused");
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

/// Whether the peer is a process of this user's.
fn is_same_user(stream: &UnixStream) -> bool {
    os::peer_user_id(stream) == Some(os::user_id())
}
