//! Accepts consoles.

use std::{
    env, fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hotswap_protocol::CONSOLE_ENV;

use super::connection;
use crate::{EngineError, engine::Inner, stage::runtime_dir};

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
        let value = env::var_os(CONSOLE_ENV).filter(|value| !value.is_empty() && value != "0")?;
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
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
        self.connections.close_all();
    }
}

/// Listens for consoles on a thread of its own.
pub(crate) fn listen(engine: &Arc<Inner>, socket: ConsoleSocket) -> Result<Listener, EngineError> {
    let path = match socket.path {
        Some(path) => path,
        None => runtime_dir("")?.join(format!("{}.sock", std::process::id())),
    };
    let setup = |error| EngineError::Setup {
        what: "cannot listen for consoles at".into(),
        path: path.clone(),
        error,
    };
    let listener = bind(&path).map_err(setup)?;
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
    Ok(Listener { path, stop, connections })
}

/// Binds the socket; a file that a dead process of the same id left is removed first.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Accept {
    engine: Weak<Inner>,
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
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the socket is open, and the two pointers are to locals of the sizes told.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    // SAFETY: the call has no precondition and cannot fail.
    code == 0 && peer.uid == unsafe { libc::getuid() }
}
