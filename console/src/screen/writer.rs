//! The files that the console writes, on a thread of its own: drawing never waits for a disk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::screen::remembered::history;

/// The number of works that can wait. More are refused.
const QUEUE: usize = 64;

/// A work: something to write.
#[derive(Debug)]
pub enum Work {
    /// Adds the arguments of a call to the history.
    Remember {
        /// The key of the function's history.
        key: String,
        /// The arguments.
        args: Vec<Value>,
    },
    /// Writes a text to a new file.
    Export {
        /// The file's name, without the number and the extension.
        name: String,
        /// The text.
        text: String,
    },
}

/// The connection to the thread: takes works, and delivers their results.
pub struct Files {
    work: mpsc::Sender<Work>,
    results: mpsc::Receiver<Result<String, String>>,
}

impl Files {
    /// Starts the thread. It ends when this is dropped.
    pub fn start() -> Self {
        let (work, mut waiting) = mpsc::channel(QUEUE);
        let (sender, results) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            while let Some(work) = waiting.blocking_recv() {
                if let Some(outcome) = perform(work) {
                    // An error means that nobody listens any more.
                    let _ = sender.blocking_send(outcome);
                }
            }
        });
        Self { work, results }
    }

    /// Sends a work; false if the queue is full.
    pub fn send(&self, work: Work) -> bool {
        self.work.try_send(work).is_ok()
    }

    /// The next result that a person should see.
    pub async fn next_result(&mut self) -> Result<String, String> {
        match self.results.recv().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

fn perform(work: Work) -> Option<Result<String, String>> {
    match work {
        Work::Remember { key, args } => {
            let path = history::path()?;
            let kept = history::remember(&path, &key, args);
            kept.err().map(|error| Err(format!("cannot keep {}: {error}", path.display())))
        }
        Work::Export { name, text } => Some(match export(Path::new("."), &name, &text) {
            Ok(path) => Ok(format!("written to {}", path.display())),
            Err(error) => Err(format!("cannot write {name}.log here: {error}")),
        }),
    }
}

/// Writes a text to `name.log`; if that exists, to `name-2.log`, and so on.
pub fn export(directory: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let directory = directory.canonicalize()?;
    for number in 1..1000 {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{name}{suffix}.log"));
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        file.write_all(text.as_bytes())?;
        return Ok(path);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
