//! Takes back versions whose calls fail more often than the guard allows.

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
};

use hotswap_protocol::{Event, GuardTrip, clock, version_label};

use super::Inner;
use crate::version::guard::{ActiveGuard, Guard, Trip};

/// The guard for the versions of an engine, and the receiver of its reports for [`start_thread`].
pub(super) fn activate(guard: Guard) -> (Arc<ActiveGuard>, Receiver<Trip>) {
    let (sender, trips) = mpsc::channel();
    (Arc::new(ActiveGuard::new(guard, sender)), trips)
}

/// Starts the thread that rolls plugins back. It ends when the engine and its versions have ended.
pub(super) fn start_thread(inner: &Arc<Inner>, trips: Receiver<Trip>) -> io::Result<()> {
    let inner = Arc::downgrade(inner);
    let watch = move || {
        for trip in trips {
            let Some(inner) = inner.upgrade() else { return };
            inner.go_back(&trip);
        }
    };
    thread::Builder::new().name("hotswap guard".into()).spawn(watch).map(drop)
}

impl Inner {
    /// Goes back to what served before a version that failed too often. If the version is patched, that is
    /// the version as it was loaded; otherwise it is the version before it, at most once between two builds.
    fn go_back(&self, trip: &Trip) {
        let Some((ordinal, artifact)) = self.spare_for(trip) else {
            self.send_trip(trip, None);
            tracing::error!(
                "{trip}; it keeps serving, since there is no version that the guard may go back to"
            );
            return;
        };
        self.send_trip(trip, Some(ordinal));
        tracing::error!("{trip}; going back to the build of v{ordinal}");
        // The outcome is in the log and in events.
        match artifact {
            Ok(artifact) => drop(self.roll_back_to(artifact, Some((trip.ordinal, trip.face)))),
            Err(error) => tracing::error!("{error}"),
        }
    }

    fn send_trip(&self, trip: &Trip, back_to: Option<u32>) {
        self.events().send(Event::GuardTripped(GuardTrip {
            at_ms: clock::now_ms(),
            plugin: trip.plugin.to_string(),
            version: trip.ordinal,
            patch: trip.face.patch_number(),
            failures: trip.failures as u64,
            within_ms: u64::try_from(trip.within.as_millis()).unwrap_or(u64::MAX),
            back_to,
        }));
    }
}

impl fmt::Display for Trip {
    /// `world v4 panicked 10 times within 5 s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, ordinal, face, failures, within, counts_errors, .. } = self;
        let what = if *counts_errors { "failed" } else { "panicked" };
        let seconds = within.as_secs_f64();
        let version = version_label(*ordinal, face.patch_number());
        write!(f, "{plugin} {version} {what} {failures} times within {seconds} s")
    }
}
