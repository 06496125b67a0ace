//! The metrics of an agent's hosts, in the text format of Prometheus over HTTP.
//!
//! Counters belong to the serving version, so they begin at 0 again with each version. `rate()` handles such a
//! reset. Only some calls are timed, so a histogram of latencies has no sum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hotswap_fleet::{Arm, HostReport, Rollout};
use hotswap_protocol::{LatencyBucket, PluginInfo, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Shared;

/// The largest number of requests at once; others wait.
const CONNECTIONS: usize = 8;
/// How long a client may take to send its request and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest size of a request in bytes.
const LONGEST_QUESTION: usize = 8 << 10;
/// The bounds of the histograms, in nanoseconds: 1, 2 and 5 times the powers of ten from 100 ns to 10 s.
const BOUNDS: [u64; 25] = {
    let (mut bounds, mut place, mut power) = ([0; 25], 0, 100);
    while place < 25 {
        bounds[place] = power * [1, 2, 5][place % 3];
        if place % 3 == 2 {
            power *= 10;
        }
        place += 1;
    }
    bounds
};

/// The serving version of a plugin, with its figures.
pub(super) struct Measured {
    plugin: String,
    version: u32,
    build_id: String,
    crate_version: String,
    /// How many of its timed calls took at most as long as each bound, and the number of timed calls.
    latencies: [u64; BOUNDS.len()],
    timed: u64,
}

impl Measured {
    /// The serving versions of a host.
    pub fn of(snapshot: &Snapshot) -> Vec<Self> {
        snapshot.plugins.iter().filter_map(Self::of_plugin).collect()
    }

    fn of_plugin(plugin: &PluginInfo) -> Option<Self> {
        let active = plugin.active()?;
        let histograms = || plugin.functions.iter().map(|it| it.latency_buckets.as_slice());
        Some(Self {
            plugin: plugin.name.clone(),
            version: active.version,
            build_id: active.build_id.clone(),
            crate_version: active.crate_version.clone(),
            latencies: BOUNDS.map(|bound| histograms().map(|it| up_to(it, bound)).sum()),
            timed: histograms().map(|it| it.last().map_or(0, |bucket| bucket.calls)).sum(),
        })
    }
}

/// The number of calls of a cumulative histogram that certainly took at most this long.
fn up_to(cumulative: &[LatencyBucket], bound_ns: u64) -> u64 {
    let within = cumulative.partition_point(|bucket| bucket.up_to_ns <= bound_ns);
    within.checked_sub(1).and_then(|last| cumulative.get(last)).map_or(0, |bucket| bucket.calls)
}

/// Answers requests as long as the agent runs.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // The error may be a lack of file descriptors, which ends.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A client that does not read the answer in time gets no full one.
            let _ = timeout(PATIENCE, answer(stream, &shared)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut question = Vec::new();
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        if question.len() > LONGEST_QUESTION || stream.read_buf(&mut question).await? == 0 {
            return Ok(());
        }
    }
    let line = question.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, text) = match line.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics" | b"/", _] => ("200 OK", shared.metrics().await),
        [b"GET", ..] => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is supported\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

impl Shared {
    async fn metrics(&self) -> String {
        let channel = self.channel.clone();
        let rollout = self.store(move |store| store.rollout(&channel)).await;
        let hosts: Vec<HostReport> =
            self.reports.lock().await.values().map(|reported| reported.report.clone()).collect();
        let measured = self.measured.lock().await;
        let mut text = Text::default();
        text.metric(
            "hotswap_fleet_reached",
            "gauge",
            "Whether the last attempt to read the fleet succeeded.",
        );
        text.sample(&[("channel", self.channel.as_str())], u64::from(rollout.is_ok()));
        if let Ok(Some(rollout)) = &rollout {
            text.rollout(rollout);
        }
        text.hosts(&hosts);
        let there: BTreeMap<&str, &[Measured]> = { hosts.iter() }
            .filter(|host| host.state.is_there())
            .filter_map(|host| Some((host.id.as_str(), measured.get(&host.id)?.as_slice())))
            .collect();
        text.versions(&there);
        text.0
    }
}

/// Metrics, one after the other.
#[derive(Default)]
struct Text(String, &'static str);

impl Text {
    fn metric(&mut self, name: &'static str, sort: &str, help: &str) {
        self.1 = name;
        // A string takes whatever is written.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {sort}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.part("", labels, value);
    }

    /// A sample of a part of a histogram.
    fn part(&mut self, part: &str, labels: &[(&str, &str)], value: u64) {
        let escaped =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let labels: Vec<String> = labels.collect();
        let _ = writeln!(self.0, "{}{part}{{{}}} {value}", self.1, labels.join(","));
    }

    fn rollout(&mut self, rollout: &Rollout) {
        let labels = [
            ("channel", rollout.channel.as_str()),
            ("release", rollout.release.as_str()),
            ("state", rollout.phase.as_str()),
        ];
        self.metric(
            "hotswap_rollout_state",
            "gauge",
            "The state of the channel's last rollout: 1 for the present state.",
        );
        self.sample(&labels, 1);
        self.metric("hotswap_rollout_step", "gauge", "The step of the rollout, from 1.");
        self.sample(&labels[..2], rollout.step as u64 + 1);
        self.metric("hotswap_rollout_steps", "gauge", "The number of steps of the rollout.");
        self.sample(&labels[..2], rollout.steps() as u64);
    }

    fn hosts(&mut self, hosts: &[HostReport]) {
        self.metric(
            "hotswap_host_state",
            "gauge",
            "The state of a host of this agent: 1 for the present state.",
        );
        for host in hosts {
            let release = host.release.as_ref().map_or("", |release| release.as_str());
            self.sample(
                &[
                    ("host", host.id.as_str()),
                    ("name", &host.name),
                    ("state", host.state.as_str()),
                    ("release", release),
                ],
                1,
            );
        }
        type Count = fn(&Arm) -> u64;
        let counters: [(&'static str, &str, Count); 3] = [
            ("hotswap_calls_total", "Calls of the serving version of a plugin.", |arm| arm.calls),
            (
                "hotswap_errors_total",
                "Calls of the serving version that returned an error.",
                |arm| arm.errors,
            ),
            ("hotswap_panics_total", "Calls of the serving version that panicked.", |arm| {
                arm.panics
            }),
        ];
        for (name, help, count) in counters {
            self.metric(name, "counter", help);
            for host in hosts.iter().filter(|host| host.state.is_there()) {
                for (plugin, arm) in &host.health {
                    self.sample(&[("host", host.id.as_str()), ("plugin", plugin)], count(arm));
                }
            }
        }
    }

    fn versions(&mut self, hosts: &BTreeMap<&str, &[Measured]>) {
        let all =
            || hosts.iter().flat_map(|(host, plugins)| plugins.iter().map(move |it| (*host, it)));
        self.metric("hotswap_version_info", "gauge", "The serving version of a plugin in a host.");
        for (host, it) in all() {
            let version = it.version.to_string();
            self.sample(
                &[
                    ("host", host),
                    ("plugin", &it.plugin),
                    ("version", &version),
                    ("build_id", &it.build_id),
                    ("crate_version", &it.crate_version),
                ],
                1,
            );
        }
        self.metric(
            "hotswap_timed_call_seconds",
            "histogram",
            "The durations of timed calls: each thread times its first calls of a function, then one in 1,024.",
        );
        for (host, it) in all() {
            let labels = [("host", host), ("plugin", it.plugin.as_str())];
            for (bound, calls) in BOUNDS.iter().zip(it.latencies) {
                let seconds = (*bound as f64 / 1e9).to_string();
                self.part("_bucket", &[labels[0], labels[1], ("le", &seconds)], calls);
            }
            self.part("_bucket", &[labels[0], labels[1], ("le", "+Inf")], it.timed);
            self.part("_count", &labels, it.timed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_converted_to_the_bounds_of_the_metrics() {
        let bucket = |up_to_ns, calls| LatencyBucket { up_to_ns, calls };
        let histogram = [bucket(90, 1), bucket(180, 3), bucket(400, 4)];
        let bounds = [100, 200, 300, 500].map(|bound| up_to(&histogram, bound));
        assert_eq!(bounds, [1, 3, 3, 4]);
        assert_eq!(up_to(&[], 100), 0);
        assert_eq!((BOUNDS[0], BOUNDS[1], BOUNDS[24]), (100, 200, 10_000_000_000));
    }

    #[test]
    fn special_characters_in_a_name_are_escaped_in_labels() {
        let mut text = Text::default();
        text.metric("it", "gauge", "It.");
        text.sample(&[("name", "a\"b\\c\nd")], 3);
        assert!(text.0.ends_with("it{name=\"a\\\"b\\\\c\\nd\"} 3\n"), "{}", text.0);
    }
}
