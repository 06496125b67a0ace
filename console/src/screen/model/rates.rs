//! The rates of calls of the plugins in the last seconds.

use std::collections::{HashMap, VecDeque};

use hotswap_protocol::PluginInfo;

use crate::format;

/// The number of samples that are shown.
const SAMPLES: usize = 8;
/// The least time between two samples, in milliseconds.
const APART_MS: u64 = 900;
/// The rates of all plugins.
#[derive(Default)]
pub struct Rates {
    plugins: HashMap<String, Rate>,
    sampled_at_ms: u64,
}

#[derive(Default)]
struct Rate {
    /// The version that was sampled last, and its number of calls then.
    counted: Option<(u32, u64)>,
    /// The calls per second, newest last.
    samples: VecDeque<f64>,
    /// The samples as a sparkline.
    sparkline: String,
}

impl Rates {
    /// Takes a sample if the last one is old enough; true if a sparkline changed.
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

    /// The rate of a plugin's calls as a sparkline, one column for each sample, newest last; empty without calls.
    pub fn sparkline(&self, plugin: &str) -> &str {
        self.plugins.get(plugin).map_or("", |rate| &rate.sparkline)
    }
}

impl Rate {
    fn count(&mut self, counted: Option<(u32, u64)>, elapsed_ms: u64) -> bool {
        let calls = match (self.counted, counted) {
            // Calls from before the first sample give no rate.
            (None, _) | (_, None) => 0,
            (Some((before, calls)), Some((now, more))) if before == now => {
                more.saturating_sub(calls)
            }
            // A new version counts from 0.
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
