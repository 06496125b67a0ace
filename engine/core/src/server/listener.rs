//! Accepts consoles.

use std::{
    env, fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_protocol::{env::CONSOLE, remove_dead_socket};

use super::{connection, served::Served};
use crate::{EngineError, os, runtime_dir::runtime_dir};

/// How many consoles may be attached at once.
const MAX_CONNECTIONS: usize = 64;

/// How long to wait after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(100);

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
}

/// A listening socket. Dropping it removes it and ends its thread.
pub(crate) struct Listener {
    path: PathBuf,
    /// The device and the inode of the socket: what else is at its path by then stays.
    place: Option<(u64, u64)>,
    socket: UnixListener,
    stop: Arc<AtomicBool>,
    connections: Arc<connection::Connections>,
}

impl Listener {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.place.is_some() && self.place == place_of(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
        os::stop_accepting(&self.socket);
        self.connections.close_all();
    }
}

/// Listens for consoles on a thread of its own.
pub(crate) fn listen(
    engine: &Arc<dyn Served>,
    socket: ConsoleSocket,
) -> Result<Listener, EngineError> {
    let path = match socket.path {
        Some(path) => path,
        None => runtime_dir(None)?.join(format!("{}.sock", std::process::id())),
    };
    let setup = |error| EngineError::Setup {
        what: "cannot listen for consoles at".into(),
        path: path.clone(),
        error,
    };
    let listener = bind(&path).map_err(setup)?;
    let socket = listener.try_clone().map_err(setup)?;
    let place = place_of(&path);
    let stop = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(connection::Connections::default());
    let accept = Accept {
        engine: Arc::downgrade(engine),
        stop: stop.clone(),
        connections: connections.clone(),
        count: Arc::default(),
    };
    let thread = thread::Builder::new().name("hotswap-console".into());
    thread.spawn(move || accept.run(&listener)).map_err(setup)?;
    Ok(Listener { path, place, socket, stop, connections })
}

/// The device and the inode of what is at a path.
fn place_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Binds the socket; one that a dead process left is removed first, and nothing else.
fn bind(path: &Path) -> io::Result<UnixListener> {
    remove_dead_socket(path, os::user_id());
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
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
    stop: Arc<AtomicBool>,
    connections: Arc<connection::Connections>,
    count: Arc<AtomicUsize>,
}

impl Accept {
    fn run(self, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            match stream {
                Ok(stream) => self.admit(stream),
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
