//! Cargo has the last word: in quiet moments it builds what was built without it.

use std::collections::BTreeSet;
use std::time::Duration;

use hotswap_build::{BuildError, BuildOptions, Built, Cancel, Disagreement, review_plugin};
use hotswap_protocol::env;
use tokio::time::Instant;

use super::{Report, Supervisor, find};
use crate::session::Watch;
use crate::session::disagreements;
use crate::session::event::SessionEvent;
use crate::session::job::Job;

/// How long nothing must have happened before cargo is asked.
const QUIET: Duration = Duration::from_secs(4);

/// What cargo is to look at, and whether it does.
#[derive(Debug)]
pub(super) struct Reviews {
    /// The plugins that were built since cargo looked at them.
    due: BTreeSet<String>,
    running: Option<Cancel>,
    /// When something happened last.
    latest: Instant,
    /// `None` if nothing is to be reviewed.
    quiet: Option<Duration>,
}

impl Reviews {
    pub(super) fn new() -> Self {
        let given = std::env::var(env::REVIEW).ok();
        let quiet = match given.as_deref().map(str::trim) {
            None | Some("") => Some(QUIET),
            // Whatever is not a number of seconds turns reviews off.
            Some(text) => text.parse().ok().map(Duration::from_secs),
        };
        Self { due: BTreeSet::new(), running: None, latest: Instant::now(), quiet }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// What became of a review: the plugin, what cargo made of it if that is other code, and whether cargo
/// came to an end.
pub(super) struct Reviewed {
    pub plugin: String,
    pub found: Result<Option<(Built, Disagreement)>, BuildError>,
}

impl Supervisor {
    /// When the next review begins; `None` if there is nothing to review, or if something goes on.
    pub(super) fn review_at(&self) -> Option<Instant> {
        let reviews = &self.reviews;
        let is_idle = self.running.is_none()
            && self.queue.is_empty()
            && self.ending.is_none()
            && reviews.running.is_none()
            && self.watch != Watch::Off;
        (is_idle && !reviews.due.is_empty()).then_some(reviews.latest + reviews.quiet?)
    }

    /// Ends the review that runs: something is to be built. It is begun again when all is quiet.
    pub(super) fn put_off_review(&mut self) {
        self.reviews.latest = Instant::now();
        if let Some(cancel) = &self.reviews.running {
            cancel.cancel();
        }
    }

    /// Has cargo look at a plugin that was built.
    pub(super) fn make_review_due(&mut self, job: &Job) {
        self.reviews.latest = Instant::now();
        if let Job::BuildPlugin(name) = job {
            self.reviews.due.insert(name.clone());
        }
    }

    /// Begins the next review in the background. It is no job: nobody asked for it.
    pub(super) fn begin_review(&mut self) {
        let Some(name) = self.reviews.due.pop_first() else { return };
        let Some(plugin) = self.package.as_ref().and_then(|package| find(package, &name)).cloned()
        else {
            return;
        };
        let cancel = Cancel::default();
        self.reviews.running = Some(cancel.clone());
        let report = self.report.clone();
        let cargo_flags = self.flags.plugins.clone();
        tokio::task::spawn_blocking(move || {
            let options = BuildOptions { cargo_flags, ..BuildOptions::default() };
            let found = review_plugin(&plugin, &options, &cancel, &mut |_| ());
            let found = found
                .map(|review| review.and_then(|review| Some((review.built, review.disagreement?))));
            // The session is over when this fails.
            let _ = report.blocking_send(Report::Reviewed(Reviewed { plugin: name, found }));
        });
    }

    /// Takes over what cargo made, if that is other code.
    pub(super) async fn reviewed(&mut self, reviewed: Reviewed) {
        let Reviewed { plugin, found } = reviewed;
        let was_cancelled = self.reviews.running.take().is_some_and(|it| it.is_cancelled());
        if was_cancelled {
            self.reviews.due.insert(plugin);
            return;
        }
        // A build tells what is wrong where cargo fails.
        let (Ok(Some((mut built, disagreement))), Some(package), None) =
            (found, &self.package, &self.ending)
        else {
            return;
        };
        let plugin_dir = package.plugin_dir.clone();
        let Ok(path) = built.install(&plugin_dir) else { return };
        disagreements::add(&plugin_dir);
        let event = SessionEvent::ReplayDisagreed {
            plugin: built.plugin,
            build_id: built.build_id.to_string(),
            replayed: disagreement.replayed,
            missed: disagreement.missed,
            path,
        };
        self.tell(event).await;
        self.built_since_reload = true;
        if self.watch == Watch::On && self.client.is_some() {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }
}
