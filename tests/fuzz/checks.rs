//! The checks of each input. The fuzz targets run them on generated inputs, the tests on the inputs in `corpus`.
//! Each check must end without a panic, and its assertions must hold.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use hotswap_build::{Store, StoreLimits, inputs};
use hotswap_engine::{ConsoleSocket, Engine, artifact, artifact::BuildId};
use hotswap_protocol::in_flight::{FILE_BYTES, calls_in_flight};
use tempfile::TempDir;

/// A file that claims to be an artifact, unchanged and with a new stamp.
pub fn artifact(file: &[u8]) {
    let claims = artifact::claims(file);
    if let Ok(facts) = artifact::inspect(file) {
        let claims = claims.expect("a whole artifact claims what it is");
        assert_eq!((&claims.name, claims.build_id), (&facts.name, facts.build_id));
        assert_eq!(facts.build_id.to_string().parse(), Ok(facts.build_id));
    }
    let mut stamped = file.to_vec();
    let Ok(id) = artifact::stamp(&mut stamped, None) else { return };
    assert_eq!(stamped.len(), file.len());
    if let Ok(facts) = artifact::inspect(&stamped) {
        assert_eq!(facts.build_id, id);
        // Any name is a single component of a path.
        let path = artifact::layout::stored_path(Path::new("store"), &facts.name, id);
        assert_eq!(path.components().count(), 3);
        assert_eq!(artifact::layout::stored_id(&path), Some(id));
    }
}

/// A line that a console writes. The host answers it once, and also answers the next line.
pub fn request(line: &[u8]) {
    thread_local! {
        static CONSOLE: RefCell<Console> = RefCell::new(Console::with_console());
    }
    CONSOLE.with_borrow_mut(|console| {
        if line.contains(&b'\n') {
            return;
        }
        if !console.is_answered(line)
            || !console.is_answered(br#"{"jsonrpc":"2.0","id":1,"method":"live"}"#)
        {
            // The line made the host close the connection.
            console.connect_again();
        }
    });
}

/// A host without plugins, and a console that is attached to it.
struct Console {
    _engine: Engine,
    stream: BufReader<UnixStream>,
    socket: std::path::PathBuf,
    _dir: TempDir,
}

impl Console {
    fn with_console() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let socket = dir.path().join("socket");
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).expect("make a directory");
        let builder = Engine::builder(plugins).console(Some(ConsoleSocket::at(&socket)));
        let engine = builder.build().expect("make an engine");
        let stream = Self::connect(&socket);
        let mut console = Self { _engine: engine, stream, socket, _dir: dir };
        console.say_hello();
        console
    }

    fn connect(socket: &Path) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(socket).expect("a host that listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a patience");
        BufReader::new(stream)
    }

    fn connect_again(&mut self) {
        self.stream = Self::connect(&self.socket);
        self.say_hello();
    }

    fn say_hello(&mut self) {
        let hello =
            br#"{"jsonrpc":"2.0","id":0,"method":"hello","params":{"protocol":1,"client":"fuzz"}}"#;
        assert!(self.is_answered(hello), "the host greets");
    }

    /// Whether the line was answered; if not, the host has closed the connection.
    fn is_answered(&mut self, line: &[u8]) -> bool {
        let stream = self.stream.get_mut();
        if stream.write_all(line).and_then(|()| stream.write_all(b"\n")).is_err() {
            return false;
        }
        loop {
            let mut answer = String::new();
            match self.stream.read_line(&mut answer) {
                Ok(0) => return false,
                Ok(_) if answer.starts_with("{\"jsonrpc\":\"2.0\",\"method\":") => {}
                Ok(_) => return true,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }
}

/// A file of calls with bytes written into it. The input consists of offsets, lengths and bytes to write there.
pub fn calls(input: &[u8]) {
    thread_local! {
        static FILE: File = empty_calls();
    }
    FILE.with(|file| {
        let mut rest = input;
        let mut written = Vec::new();
        while let Some(([a, b, c, length], bytes)) = rest.split_first_chunk::<4>() {
            let at = u64::from(u32::from_le_bytes([*a, *b, *c, 0])) % FILE_BYTES as u64;
            let room = FILE_BYTES as u64 - at;
            let length = usize::from(*length).min(bytes.len()).min(room as usize);
            file.write_all_at(&bytes[..length], at).expect("write the file");
            written.push((at, length));
            rest = &bytes[length..];
        }
        for call in calls_in_flight(file).into_iter().flatten() {
            let text = call.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        for (at, length) in written {
            file.write_all_at(&vec![0; length], at).expect("write the file");
        }
    });
}

fn empty_calls() -> File {
    let file = tempfile::tempfile().expect("make a file");
    file.set_len(FILE_BYTES as u64).expect("a file of that size");
    file
}

/// The output of compilers and scripts: a `.d` file, notes, a record of builds.
pub fn dep_info(text: &[u8]) {
    let dir = Path::new("/workspace");
    inputs::compiler_notes(text, dir);
    inputs::record(text);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (files, variables) = inputs::dep_info(text, dir);
    assert!(files.iter().all(|file| file.is_absolute()));
    let lines = text.lines().count();
    assert!(files.len() + variables.len() <= lines);
}

/// A file of a store: its name in the first line, and then its content. Only a file with the name of a build is
/// one, and only builds are removed.
pub fn store(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (name, content) = (String::from_utf8_lossy(&input[..end]), &input[end..]);
    artifact::layout::read_phases(content);
    if let Ok(id) = name.parse::<BuildId>() {
        assert_eq!(id.to_string(), name.to_lowercase());
    }
    let is_name =
        !name.contains(['/', '\0']) && name.len() < 200 && !matches!(&*name, "" | "." | "..");
    if !is_name {
        return;
    }
    let dir = tempfile::tempdir().expect("make a directory");
    let store = Store::open(dir.path()).expect("open a store");
    let path = artifact::layout::store_dir(dir.path(), &"echo".parse().unwrap()).join(&*name);
    fs::create_dir(dir.path().join("echo")).expect("make a directory");
    fs::write(&path, content).expect("write a file");
    let stored = artifact::layout::stored_id(&path);
    let listed = store.list("echo").expect("list a store");
    assert_eq!(listed.iter().map(|file| file.build_id).next(), stored);
    if let Some(id) = stored {
        // The target `artifact` checks the content.
        let _ = store.get("echo", id);
    }
    let removed = store.prune("echo", StoreLimits { count: 0, size_bytes: 0 }).expect("clean up");
    assert!(removed.is_empty() && path.exists(), "the newest stays");
}
