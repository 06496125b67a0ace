//! `hotswap logs`

use std::io::{self, Write};
use std::time::Duration;

use hotswap_protocol::{Notification, Request, SubscribeParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::args::LogsArguments;
use super::{CLIENT_NAME, Failure, print_json, text};
use crate::socket::{self, HostChoice};

/// The host sends its backlog at once; when nothing has come for this long it was all.
const BACKLOG_QUIET: Duration = Duration::from_millis(300);

pub(super) async fn logs(host: Option<&HostChoice>, logs: LogsArguments) -> Result<(), Failure> {
    let (client, mut notifications) = socket::connect(host, CLIENT_NAME).await?;
    let subscribe = SubscribeParams { events: false, logs: true, backlog: logs.backlog };
    let subscribed = client.request(Request::Subscribe(subscribe));
    tokio::pin!(subscribed);
    // The backlog may fill the queue before the answer is read, so both are awaited at once.
    loop {
        tokio::select! {
            answer = &mut subscribed => {
                answer?;
                break;
            }
            Some(notification) = notifications.recv() => print(&notification, logs.output.json)?,
        }
    }
    while let Some(notification) = next(&mut notifications, logs.follow).await {
        print(&notification, logs.output.json)?;
    }
    Ok(())
}

async fn next(
    notifications: &mut mpsc::Receiver<Notification>,
    follow: bool,
) -> Option<Notification> {
    if follow {
        return notifications.recv().await;
    }
    tokio::time::timeout(BACKLOG_QUIET, notifications.recv()).await.ok().flatten()
}

fn print(notification: &Notification, json: bool) -> io::Result<()> {
    let mut stdout = io::stdout();
    match notification {
        Notification::Log(record) if json => print_json(record),
        Notification::Log(record) => writeln!(stdout, "{}", text::log_record(record)),
        Notification::Dropped { count } if json => print_json(&json!({ "dropped": count })),
        Notification::Dropped { count } => writeln!(stdout, "-- {count} records dropped"),
        _ => Ok(()),
    }
}
