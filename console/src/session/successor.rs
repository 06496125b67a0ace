//! Waits for the next process of a host that the session has not started.

use std::time::{Duration, Instant};

use hotswap_protocol::HostInfo;
use tokio::time::sleep;

use crate::host::process::Stat;
use crate::host::socket::{self, HostChoice};

/// How often to check, because no event announces a new host.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How much time may pass between the end of a host and its notice.
const NOTICED_AFTER: Duration = Duration::from_secs(5);

/// Waits for a host that started after this one ended, and that has the same name and plugins, or the same socket.
pub(super) async fn wait_for(ended: &HostInfo, client_name: &str) -> HostInfo {
    let noticed = Instant::now();
    // Another instance that was already running is not a successor.
    let is_later = |host: &HostInfo| {
        let since_its_end = noticed.elapsed() + NOTICED_AFTER;
        host.pid != ended.pid && age(host.pid).is_some_and(|age| age <= since_its_end)
    };
    let is_alike = |host: &HostInfo| host.name == ended.name && host.plugin_dir == ended.plugin_dir;
    let same_place = HostChoice::Socket(ended.socket.clone());
    loop {
        sleep(POLL_INTERVAL).await;
        let there = match same_place.connect(client_name).await {
            Ok((client, _)) => vec![client.host().clone()],
            Err(_) => socket::hosts(client_name).await,
        };
        let mut there = there.into_iter();
        let found =
            there.find(|host| is_later(host) && (is_alike(host) || host.socket == ended.socket));
        if let Some(host) = found {
            return host;
        }
    }
}

/// How long a process has run, by the system's monotonic clock; `None` if it has ended.
fn age(pid: u32) -> Option<Duration> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    age_in(&Stat::of(pid), &uptime, rustix::param::clock_ticks_per_second())
}

fn age_in(stat: &Stat, uptime: &str, ticks_per_second: u64) -> Option<Duration> {
    let start = stat.number(22)?;
    let start = Duration::from_millis(start.checked_mul(1000)? / ticks_per_second.max(1));
    let uptime = uptime.split(' ').next()?.parse().ok();
    let uptime = uptime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())?;
    Some(uptime.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_process_is_read_from_proc() {
        let stat = "4125 (odd ) name) S 1 4125 4125 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 12050 11";
        assert_eq!(
            age_in(&Stat::parse(stat), "130.75 99.01\n", 100),
            Some(Duration::from_millis(10_250))
        );
        assert_eq!(age_in(&Stat::parse("4125"), "130.75", 100), None);
        let own = age(std::process::id()).unwrap();
        assert!(own < Duration::from_secs(24 * 3600), "{own:?}");
        assert_eq!(age(u32::MAX), None);
    }
}
