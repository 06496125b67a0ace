//! The next process of a host that somebody else starts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotswap_protocol::HostInfo;
use tokio::time::sleep;

use crate::socket::{self, HostChoice};

/// How often to look; there is no event for a host that begins to listen.
const LOOK: Duration = Duration::from_secs(1);
/// So long may pass between the end of a host and its being noticed.
const NOTICED_AFTER: Duration = Duration::from_secs(5);

/// Waits until a host of the same name with the same plugins, or at the same socket, has started
/// after this one has ended.
pub(super) async fn wait_for(ended: &HostInfo, client_name: &str) -> HostInfo {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since_ms = u64::try_from(now.saturating_sub(NOTICED_AFTER).as_millis()).unwrap_or(0);
    // Another instance that ran beside it is not its successor.
    let is_later = |host: &HostInfo| host.pid != ended.pid && host.started_at_ms >= since_ms;
    let is_alike = |host: &HostInfo| host.name == ended.name && host.plugin_dir == ended.plugin_dir;
    let same_place = HostChoice::Socket(ended.socket.clone());
    loop {
        sleep(LOOK).await;
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
