//! The console in a pseudo-terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};
use tempfile::TempDir;

use super::{Outcome, ROLE};

const SIZE: PtySize = PtySize { rows: 36, cols: 120, pixel_width: 0, pixel_height: 0 };
/// A key that is not on the screen by then never will be.
const PATIENCE: Duration = Duration::from_secs(30);
/// Building a host takes its time.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// A console that runs.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<(Instant, Vec<u8>)>,
    screen: vt100::Parser,
    bytes_read: u64,
    _directory: TempDir,
}

impl Terminal {
    /// Starts the console of a host.
    pub fn start(host: &Path, arguments: &[String]) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let pair = native_pty_system().openpty(SIZE)?;
        let mut command = CommandBuilder::new(std::env::current_exe()?);
        command.cwd(std::env::current_dir()?);
        command.arg(host);
        command.arg("--");
        command.args(arguments);
        command.env(ROLE, "console");
        command.env("TERM", "xterm-256color");
        for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, directory.path());
        }
        let child = pair.slave.spawn_command(command)?;
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader()?;
        let keyboard = pair.master.take_writer()?;
        let (chunks, output) = channel();
        std::thread::spawn(move || {
            // The terminal lives as long as its reader.
            let _master = pair.master;
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if chunks.send((Instant::now(), buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        let screen = vt100::Parser::new(SIZE.rows, SIZE.cols, 0);
        Ok(Self { child, keyboard, output, screen, bytes_read: 0, _directory: directory })
    }

    /// Waits for a text.
    pub fn wait_for(&mut self, text: &str) -> Outcome<()> {
        self.wait_until(START_PATIENCE, |screen| screen.contains(text)).map(drop)
    }

    /// Presses a key, and tells how long it took until the screen was as wanted.
    pub fn press(&mut self, key: &str, is_done: fn(&str) -> bool) -> Outcome<Duration> {
        let pressed = Instant::now();
        self.keyboard.write_all(key.as_bytes())?;
        self.keyboard.flush()?;
        let seen = self.wait_until(PATIENCE, is_done)?;
        Ok(seen.saturating_duration_since(pressed))
    }

    /// When what made the screen as wanted was written.
    fn wait_until(
        &mut self,
        patience: Duration,
        is_done: impl Fn(&str) -> bool,
    ) -> Outcome<Instant> {
        let deadline = Instant::now() + patience;
        let mut at = Instant::now();
        while !is_done(&self.screen.screen().contents()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let (read_at, chunk) = self.output.recv_timeout(left).map_err(|_| {
                format!("this never came to be as wanted:\n{}", self.screen.screen().contents())
            })?;
            self.take(&chunk);
            at = read_at;
        }
        Ok(at)
    }

    /// Reads what is drawn for so long.
    pub fn read_for(&mut self, time: Duration) -> Outcome<()> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok((_, chunk)) => self.take(&chunk),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err("the console ended".into()),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        self.bytes_read += chunk.len() as u64;
        self.screen.process(chunk);
    }

    /// How much the console has drawn.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// How long the console's process has run on a processor, including threads that have ended.
    pub fn processor_time(&self) -> Outcome<Duration> {
        let pid = self.child.process_id().ok_or("the console has no process")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("there is no name in its state")?;
        // Fields 14 and 15 of proc(5): the time in user mode and in the kernel, in ticks.
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = times.sum::<Result<_, _>>()?;
        let a_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks * 1000 / a_second))
    }

    /// Quits the console, and its host with it.
    pub fn end(mut self) -> Outcome<()> {
        self.press("q", |screen| screen.contains("Quit?"))?;
        self.keyboard.write_all(b"y")?;
        self.keyboard.flush()?;
        while self.output.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait()?;
        Ok(())
    }
}
