//! Reviews builds without cargo: while nothing else happens, cargo builds the same sources.

use std::collections::BTreeSet;
use std::time::Duration;

use hotswap_build::{BuildError, BuildOptions, Built, Cancel, Disagreement, review_plugin};
use hotswap_protocol::env;
use tokio::time::Instant;

use super::patches::LastBuild;
use super::{Report, Supervisor, find};
use crate::session::Watch;
use crate::session::disagreements;
use crate::session::event::SessionEvent;
use crate::session::job::Job;

/// How long nothing may have happened before a review.
const QUIET: Duration = Duration::from_secs(4);

/// The state of reviews.
#[derive(Debug)]
pub(super) struct Reviews {
    /// The plugins that were built since their last review.
    due: BTreeSet<String>,
    /// The plugins that were reviewed since the last save.
    done: BTreeSet<String>,
    /// The plugins that cargo could not build, which are built again to report the error.
    failed: BTreeSet<String>,
    /// Whether cargo made other code of a plugin, so that the other plugins are reviewed without a pause.
    is_reviewing_all: bool,
    running: Option<Cancel>,
    /// When something happened last.
    latest: Instant,
    /// How long nothing may have happened; `None` if reviews are off.
    quiet: Option<Duration>,
}

impl Reviews {
    pub(super) fn new() -> Self {
        let given = std::env::var(env::REVIEW).ok();
        let quiet = match given.as_deref().map(str::trim) {
            None | Some("") => Some(QUIET),
            // A value that is not a number of seconds turns reviews off.
            Some(text) => text.parse().ok().map(Duration::from_secs),
        };
        Self {
            due: BTreeSet::new(),
            done: BTreeSet::new(),
            failed: BTreeSet::new(),
            is_reviewing_all: false,
            running: None,
            latest: Instant::now(),
            quiet,
        }
    }

    /// When the next review begins, if nothing else happens.
    fn next(&self) -> Option<Instant> {
        let quiet = if self.is_reviewing_all { Duration::ZERO } else { self.quiet? };
        (!self.due.is_empty() && self.running.is_none()).then_some(self.latest + quiet)
    }

    /// Makes reviews of all these plugins due: an error in the record of one may also concern the others. Each is
    /// reviewed once.
    fn schedule_all(&mut self, all: impl Iterator<Item = String>) {
        self.is_reviewing_all = true;
        self.due.extend(all.filter(|name| !self.done.contains(name)));
    }

    /// Records that a plugin was built.
    fn built(&mut self, name: &str) {
        // A build after an error of cargo has run cargo, so it needs no review.
        if !self.failed.remove(name) {
            self.done.remove(name);
            self.due.insert(name.to_owned());
        }
    }

    /// Called when something is to be built. The reviews without a pause end.
    fn postpone(&mut self) {
        self.latest = Instant::now();
        self.is_reviewing_all = false;
        self.done.clear();
        if let Some(cancel) = &self.running {
            cancel.cancel();
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// The result of a review: the plugin, and the build of cargo if its code differs. An error means that cargo did
/// not finish.
pub(super) struct Reviewed {
    pub plugin: String,
    pub found: Result<Option<(Built, Disagreement)>, BuildError>,
}

impl Supervisor {
    /// When the next review begins; `None` if nothing is due, or if something is running.
    pub(super) fn review_at(&self) -> Option<Instant> {
        let reviews = &self.reviews;
        let is_idle = self.running.is_none()
            && self.queue.is_empty()
            && self.ending.is_none()
            && self.watch != Watch::Off;
        reviews.next().filter(|_| is_idle)
    }

    /// Cancels the running review because something is to be built. It begins again later.
    pub(super) fn postpone_review(&mut self) {
        self.reviews.postpone();
    }

    /// Makes a review of a plugin that was built due.
    pub(super) fn schedule_review(&mut self, job: &Job) {
        self.reviews.latest = Instant::now();
        if let Job::BuildPlugin(name) = job {
            self.reviews.built(name);
        }
    }

    /// Begins the next review in the background. It is not a job, because no user asked for it.
    pub(super) fn begin_review(&mut self) {
        let Some(name) = self.reviews.due.pop_first() else { return };
        let Some(plugin) = self.package.as_ref().and_then(|package| find(package, &name)).cloned()
        else {
            self.reload_when_reviewed();
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

    /// Installs the build of cargo if its code differs.
    pub(super) async fn handle_review(&mut self, reviewed: Reviewed) {
        let Reviewed { plugin, found } = reviewed;
        let was_cancelled = self.reviews.running.take().is_some_and(|it| it.is_cancelled());
        if was_cancelled {
            self.reviews.due.insert(plugin);
            return;
        }
        self.reviews.done.insert(plugin.clone());
        let (Some(package), None) = (&self.package, &self.ending) else { return };
        let plugin_dir = package.plugin_dir.clone();
        let all = package.plugins.iter().map(|plugin| plugin.name.clone());
        match found {
            Ok(None) => {}
            Ok(Some((mut built, disagreement))) => {
                self.reviews.schedule_all(all);
                if let Ok(path) = built.install(&plugin_dir) {
                    disagreements::add(&plugin_dir);
                    // It is reloaded together with the builds that cargo makes of other plugins.
                    let build_id = built.build_id.to_string();
                    self.note_own_build(built.plugin.clone(), build_id.clone());
                    let why_whole = "cargo has compiled other code than the build without cargo";
                    let build = LastBuild { build_id, why_whole: why_whole.to_owned() };
                    self.patches.built(built.plugin.clone(), build);
                    let event = SessionEvent::ReplayDisagreed {
                        plugin: built.plugin,
                        build_id: built.build_id.to_string(),
                        replayed: disagreement.replayed,
                        missed: disagreement.missed,
                        path,
                    };
                    self.built_since_reload = true;
                    self.send_event(event).await;
                }
            }
            // The build now runs cargo too, and reports the error.
            Err(_) => {
                self.reviews.schedule_all(all);
                self.reviews.failed.insert(plugin.clone());
                self.queue.push_back(Job::BuildPlugin(plugin));
            }
        }
        self.reload_when_reviewed();
    }

    /// After cargo has reviewed all plugins that may be wrong, its builds are loaded at once.
    fn reload_when_reviewed(&mut self) {
        if !self.reviews.is_reviewing_all || !self.reviews.due.is_empty() {
            return;
        }
        self.reviews.is_reviewing_all = false;
        if self.watch.reloads() && self.client.is_some() {
            self.queue.push_back(Job::ReloadIfBuilt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_disagreement_in_one_plugin_all_are_reviewed_at_once() {
        let mut reviews = Reviews::new();
        reviews.quiet = Some(Duration::from_secs(1000));
        let all = || ["a", "b", "c"].into_iter().map(str::to_owned);
        reviews.built("a");
        assert!(reviews.next().unwrap() > Instant::now());
        assert_eq!(reviews.due.pop_first().as_deref(), Some("a"));
        reviews.done.insert("a".into());
        reviews.schedule_all(all());
        assert!(reviews.next().unwrap() <= Instant::now());
        assert!(reviews.due.iter().eq(["b", "c"]));

        // A difference in each of them does not begin the reviews again.
        assert_eq!(reviews.due.pop_first().as_deref(), Some("b"));
        reviews.done.insert("b".into());
        reviews.schedule_all(all());
        assert!(reviews.due.iter().eq(["c"]));

        reviews.postpone();
        assert!(reviews.next().unwrap() > Instant::now());
        reviews.built("a");
        assert!(reviews.due.iter().eq(["a", "c"]));
    }

    #[test]
    fn a_failed_review_is_followed_by_one_build() {
        let mut reviews = Reviews::new();
        reviews.failed.insert("a".into());
        reviews.built("a");
        assert!(reviews.due.is_empty());
        reviews.built("a");
        assert!(reviews.due.contains("a"));
    }
}
