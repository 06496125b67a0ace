//! The report on a host that ended by itself, and the last versions that were known to be good.

use hotswap_protocol::{Activity, InFlightCall, PluginInfo, VersionState, version_label};

use super::State;
use super::face::Face;
use crate::format;
use crate::host::HostExit;
use crate::session::StoredChoice;

/// The time after which a set of versions counts as good if the host has not ended, in milliseconds.
const GOOD_AFTER_MS: u64 = 10_000;

/// The report on a host that ended by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CrashCard {
    /// How it ended.
    pub exit: HostExit,
    /// Its process id.
    pub pid: Option<u32>,
    /// The versions that were loaded, with their patches: `world v3+2 active`
    pub loaded: Vec<String>,
    /// The calls that were in progress; `None` if they are unknown.
    pub calls: Option<Vec<InFlightCall>>,
    /// The loads that were in progress: `open of world v3 (3c0ffee0)`
    pub loads: Vec<String>,
    /// Whether a restart leaves out the builds of these loads.
    pub leaves_out: bool,
    /// The good versions to start with instead of the last ones.
    pub good: Option<GoodVersions>,
    /// Whether this console can start it again.
    pub can_start: bool,
}

/// Versions that are known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodVersions {
    /// The builds that differ from those that served at the end.
    pub builds: Vec<StoredChoice>,
    /// These builds as text: `world v2 (2c0ffee0)`
    pub text: String,
}

/// The set of versions that serves, the time since when, and the last good set.
#[derive(Debug, Default)]
pub struct Serving {
    now: Vec<Served>,
    since_ms: u64,
    good: Vec<Served>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    plugin: String,
    face: Face,
    build_id: String,
}

impl Serving {
    /// Takes the versions that serve now.
    pub fn record_snapshot(&mut self, at_ms: u64, plugins: &[PluginInfo]) {
        let now: Vec<Served> = plugins.iter().filter_map(served).collect();
        if self.now == now {
            return;
        }
        if self.has_proved_itself(at_ms) {
            self.good = std::mem::take(&mut self.now);
        }
        self.now = now;
        self.since_ms = at_ms;
    }

    /// Starts again for another process, whose versions count from 1.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn has_proved_itself(&self, at_ms: u64) -> bool {
        !self.now.is_empty() && at_ms.saturating_sub(self.since_ms) >= GOOD_AFTER_MS
    }

    /// The last good versions; `None` if those that served at the end were good themselves, or if no build differs.
    fn good_versions(&self, at_ms: u64) -> Option<GoodVersions> {
        if self.has_proved_itself(at_ms) {
            return None;
        }
        let is_as_now = |served: &&Served| {
            let same = |it: &&Served| it.plugin == served.plugin && it.build_id == served.build_id;
            self.now.iter().find(same).is_none()
        };
        let others: Vec<&Served> = self.good.iter().filter(is_as_now).collect();
        if others.is_empty() {
            return None;
        }
        let text = |it: &&Served| {
            let build_id = format::short_build_id(&it.build_id);
            format!("{} {} ({build_id})", it.plugin, it.face.label())
        };
        let choice = |it: &&Served| StoredChoice {
            plugin: it.plugin.clone(),
            build_id: it.build_id.clone(),
        };
        Some(GoodVersions {
            builds: others.iter().map(choice).collect(),
            text: others.iter().map(text).collect::<Vec<_>>().join(", "),
        })
    }
}

fn served(plugin: &PluginInfo) -> Option<Served> {
    let active = plugin.active()?;
    Some(Served {
        plugin: plugin.name.clone(),
        face: Face::of(active),
        build_id: active.build_id.clone(),
    })
}

impl CrashCard {
    /// The report on the host in its last known state.
    pub fn of(
        state: &State,
        exit: HostExit,
        pid: Option<u32>,
        calls: Option<Vec<InFlightCall>>,
    ) -> Self {
        let rows = state.plugins.rows();
        let is_there = |state| !matches!(state, VersionState::Freed | VersionState::Failed);
        let there = rows.iter().filter(|row| is_there(row.version.state));
        let loaded = there.map(|row| {
            format!("{} {} {}", row.plugin.name, row.version.label(), row.version.state)
        });
        let has_store = !state.host.packages.is_empty();
        let loads = calls.iter().flatten().filter(|call| call.is_of_load());
        let loads: Vec<String> = loads.map(load_in_words).collect();
        // If it ended during a load, the versions that served are not to blame.
        let offers_good = has_store && loads.is_empty();
        Self {
            exit,
            pid,
            loaded: loaded.collect(),
            calls,
            leaves_out: has_store && !loads.is_empty(),
            loads,
            good: state.serving.good_versions(state.now_ms).filter(|_| offers_good),
            can_start: state.host.is_ours,
        }
    }
}

fn load_in_words(call: &InFlightCall) -> String {
    let activity = call.activity.map_or("the load", Activity::as_str);
    let build_id = call
        .build_id
        .as_deref()
        .map_or_else(String::new, |build_id| format!(" ({})", format::short_build_id(build_id)));
    let version = version_label(call.version, call.patch);
    format!("{activity} of {} {version}{build_id}", call.plugin)
}
