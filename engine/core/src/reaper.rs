//! Frees versions that nothing uses any more, on a thread of its own.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use hotswap_plugin::abi::Outcome;
use hotswap_protocol::VersionState;

use crate::{image::Closed, version::Version};

/// Reaches the reaper from wherever a lease ends.
#[derive(Clone)]
pub(crate) struct ReaperHandle(Sender<Message>);

enum Message {
    /// A version may have become unused.
    Consider(Arc<Version>),
    /// Nothing comes any more.
    Stop,
}

/// Called when a version begins to drain, so that the host can make its threads pass a checkpoint.
pub(crate) type WakeThreads = Box<dyn Fn() + Send + Sync>;

impl ReaperHandle {
    pub fn consider(&self, version: &Arc<Version>) {
        // The reaper is gone only when the process ends; then the image stays mapped, which is safe.
        let _ = self.0.send(Message::Consider(version.clone()));
    }

    pub fn stop(&self) {
        let _ = self.0.send(Message::Stop);
    }
}

/// Starts the reaper's thread.
pub(crate) fn start(wake: Vec<WakeThreads>) -> std::io::Result<(ReaperHandle, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let thread = thread::Builder::new().name("hotswap-reaper".into());
    let thread = thread.spawn(move || Reaper { wake }.run(&receiver))?;
    Ok((ReaperHandle(sender), thread))
}

struct Reaper {
    wake: Vec<WakeThreads>,
}

impl Reaper {
    fn run(self, messages: &Receiver<Message>) {
        while let Ok(Message::Consider(version)) = messages.recv() {
            self.advance(&version);
        }
    }

    /// Takes a version as far towards its end as it can go.
    ///
    /// Each step may run the plugin's code, which may take leases again (a thread that `on_free`
    /// starts). Then this is called again when they end.
    fn advance(&self, version: &Arc<Version>) {
        if version.is_finished() || !version.leases().is_zero() {
            return;
        }
        if version.begin_on_free() {
            // SAFETY: this is the reaper.
            match unsafe { version.image() }.on_free() {
                Outcome::Ok(()) => {}
                Outcome::Err(error) => {
                    tracing::debug!("{version}: on_free did not run: {error}");
                }
                Outcome::Panic(report) => tracing::error!(
                    plugin = version.name(),
                    version = version.ordinal,
                    "on_free panicked at {}: {}",
                    report.location,
                    report.message
                ),
            }
            version.destroy_objects();
        }
        if !version.leases().is_zero() {
            return;
        }
        if let Some(why) = &version.facts.keep_reason {
            version.finish();
            version.enter(VersionState::Kept, format!("kept: {why}"));
            return;
        }
        version.threads.begin_drain();
        version.run_destructors();
        if version.threads.is_pinned() {
            self.wait_for_threads(version);
            return;
        }
        if !version.leases().is_zero() {
            return;
        }
        // SAFETY: this is the reaper; no lease is left, and none can come, since a lease comes of
        // another one or of code that runs in the image; no other thread has destructors to run.
        let closed = unsafe { version.close() };
        version.finish();
        match closed {
            Some(closed) => self.report(version, closed),
            None => tracing::error!("{version} has no image to close"),
        }
    }

    fn wait_for_threads(&self, version: &Arc<Version>) {
        let detail = format!("pinned: {}", version.holders().join(", "));
        if version.failure().is_none() {
            version.enter(VersionState::Pinned, detail);
        }
        for wake in &self.wake {
            wake();
        }
    }

    fn report(&self, version: &Arc<Version>, closed: Closed) {
        match (closed, version.failure()) {
            (Closed::Unmapped, None) => {
                let size = size_text(version.size_bytes);
                let after = version.since_retired().unwrap_or_default();
                let detail = format!("freed: {size} unmapped after {}", duration_text(after));
                version.enter(VersionState::Freed, detail);
            }
            (Closed::Unmapped, Some(failure)) => {
                version.enter(VersionState::Failed, format!("failed: {failure}"));
            }
            (Closed::StillMapped(why), _) => {
                version.enter(VersionState::Kept, format!("kept: {why}"));
            }
        }
    }
}

/// `4.3 MiB`
fn size_text(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let bytes = bytes as f64;
    if bytes < KIB * KIB {
        format!("{:.0} KiB", bytes / KIB)
    } else {
        format!("{:.1} MiB", bytes / KIB / KIB)
    }
}

/// `12 ms`, `3.4 s`
fn duration_text(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", duration.as_secs_f64()) }
}
