//! The calls in progress, in all versions.

use hotswap_protocol::{Activity, Holder, HolderKind, PluginInfo};

/// The age from which calls are listed, in milliseconds. Shorter ones end before anybody can read about them.
const LEAST_AGE_MS: u64 = 1_000;

/// A call in progress.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallUnderWay<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// The version whose code runs.
    pub version: u32,
    /// The holder that the call is, with its start and its thread.
    pub holder: &'a Holder,
}

impl CallUnderWay<'_> {
    /// The name of the function, or of the step.
    pub fn name(&self) -> &str {
        let activity = self.holder.activity.map(Activity::as_str);
        self.holder.function.as_deref().or(activity).unwrap_or("a call")
    }

    /// The time since its start; 0 if the start is unknown.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        self.holder.since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }
}

/// The calls that have run for a while, longest first.
pub fn long_calls(plugins: &[PluginInfo], now_ms: u64) -> Vec<CallUnderWay<'_>> {
    let mut calls: Vec<_> =
        plugins.iter().flat_map(calls).filter(|call| call.age_ms(now_ms) >= LEAST_AGE_MS).collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.age_ms(now_ms)));
    calls
}

/// The number of calls of a function that are in progress in a version.
pub fn count(plugin: &PluginInfo, version: u32, function: &str) -> u64 {
    let of_function = calls(plugin).filter(|call| {
        call.version == version && call.holder.function.as_deref() == Some(function)
    });
    of_function.map(|call| call.holder.count).sum()
}

fn calls(plugin: &PluginInfo) -> impl Iterator<Item = CallUnderWay<'_>> {
    plugin.versions.iter().flat_map(move |version| {
        let calls = version.held_by.iter().filter(|holder| holder.kind == HolderKind::Call);
        calls.map(move |holder| CallUnderWay {
            plugin: &plugin.name,
            version: version.version,
            holder,
        })
    })
}
