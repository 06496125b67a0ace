//! The card of a host that ended by itself, and the versions it was last known to be well with.

use hotswap_protocol::{Activity, InFlightCall, PluginInfo, VersionState, version_label};

use super::State;
use crate::format;
use crate::host::HostExit;
use crate::session::StoredChoice;

/// A set of versions that served this long without an end of the host is good.
const GOOD_AFTER_MS: u64 = 10_000;

/// A host that ended by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CrashCard {
    /// How it ended.
    pub exit: HostExit,
    /// Its process id.
    pub pid: Option<u32>,
    /// The versions that were loaded, `world v3 active`.
    pub loaded: Vec<String>,
    /// The calls that were under way; none when nobody can tell.
    pub calls: Option<Vec<InFlightCall>>,
    /// The loads that were under way, in words: `open of world v3 (3c0ffee0)`.
    pub loads: Vec<String>,
    /// Whether a start leaves the builds of these loads out.
    pub leaves_out: bool,
    /// What it can be started with instead of what it ended with.
    pub good: Option<GoodVersions>,
    /// Whether this console can start it again.
    pub can_start: bool,
}

/// Versions that the host was well with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodVersions {
    /// The builds that differ from those it ended with.
    pub builds: Vec<StoredChoice>,
    /// Them in words: `world v2 (2c0ffee0)`.
    pub text: String,
}

/// Which versions served together, and since when.
#[derive(Debug, Default)]
pub struct Serving {
    now: Vec<Served>,
    since_ms: u64,
    good: Vec<Served>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    plugin: String,
    version: u32,
    build_id: String,
}

impl Serving {
    /// Takes what serves at this moment.
    pub fn seen(&mut self, at_ms: u64, plugins: &[PluginInfo]) {
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

    /// Begins anew with another process: its versions count from 1 again.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn has_proved_itself(&self, at_ms: u64) -> bool {
        !self.now.is_empty() && at_ms.saturating_sub(self.since_ms) >= GOOD_AFTER_MS
    }

    /// The versions before those that the host ended with, where these had not proved themselves.
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
            format!("{} v{} ({})", it.plugin, it.version, format::short_build_id(&it.build_id))
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
        version: active.version,
        build_id: active.build_id.clone(),
    })
}

impl CrashCard {
    /// The card of the host as it was last seen.
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
            format!("{} v{} {}", row.plugin.name, row.version.version, row.version.state)
        });
        let has_store = !state.host.packages.is_empty();
        let loads = calls.iter().flatten().filter(|call| call.is_of_load());
        let loads: Vec<String> = loads.map(load_in_words).collect();
        // Where it ended in a load, what served is not to blame.
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
