//! How often plugins are called, over the last seconds.

use std::collections::{HashMap, VecDeque};

use hotswap_protocol::PluginInfo;

use crate::format;

/// How many samples are shown.
const SAMPLES: usize = 8;
/// Samples are at least so far apart, in milliseconds.
const APART_MS: u64 = 900;
/// The rates of all plugins.
#[derive(Default)]
pub struct Rates {
    plugins: HashMap<String, Rate>,
    sampled_at_ms: u64,
}

#[derive(Default)]
struct Rate {
    /// The version that was counted last, and its calls then.
    counted: Option<(u32, u64)>,
    /// Calls a second, the newest last.
    samples: VecDeque<f64>,
    /// What the samples look like.
    sparkline: String,
}

impl Rates {
    /// Takes a sample when the last one is old enough; true when that is to be seen.
    pub fn sample(&mut self, now_ms: u64, plugins: &[PluginInfo]) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.sampled_at_ms);
        if elapsed_ms < APART_MS {
            return false;
        }
        self.sampled_at_ms = now_ms;
        self.plugins.retain(|name, _| plugins.iter().any(|it| it.name == *name));
        let mut changed = false;
        for plugin in plugins {
            let active = plugin.active();
            let counted = active.map(|it| (it.version, it.calls));
            let rate = self.plugins.entry(plugin.name.clone()).or_default();
            changed |= rate.count(counted, elapsed_ms);
        }
        changed
    }

    /// Forgets the plugins of a host that has ended.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How the calls of a plugin went, a column a sample, the newest last; blank without calls.
    pub fn sparkline(&self, plugin: &str) -> &str {
        self.plugins.get(plugin).map_or("", |rate| &rate.sparkline)
    }
}

impl Rate {
    fn count(&mut self, counted: Option<(u32, u64)>, elapsed_ms: u64) -> bool {
        let calls = match (self.counted, counted) {
            // What was counted before the console looked is no rate.
            (None, _) | (_, None) => 0,
            (Some((before, calls)), Some((now, more))) if before == now => {
                more.saturating_sub(calls)
            }
            // A new version counts anew.
            (Some(_), Some((_, calls))) => calls,
        };
        self.counted = counted;
        self.samples.push_back(calls as f64 * 1000.0 / elapsed_ms as f64);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let sparkline = self.draw();
        std::mem::replace(&mut self.sparkline, sparkline) != self.sparkline
    }

    fn draw(&self) -> String {
        if self.samples.iter().all(|sample| *sample == 0.0) {
            return String::new();
        }
        format::sparkline(self.samples.iter().copied())
    }
}
