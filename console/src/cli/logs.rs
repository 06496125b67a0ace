//! `hotswap logs`

use std::io::{self, Write};

use hotswap_protocol::{Notification, Request, SubscribeParams, SubscribeResult};
use serde_json::json;

use super::args::LogsArguments;
use super::{CLIENT_NAME, print_json, text};
use crate::failure::Failure;
use crate::host::socket::{self, HostChoice};

pub(super) async fn logs(host: Option<&HostChoice>, logs: LogsArguments) -> Result<(), Failure> {
    let (client, mut notifications) = socket::connect(host, CLIENT_NAME).await?;
    let subscribe = SubscribeParams { events: false, logs: true, backlog: logs.backlog };
    let subscribed = client.ask::<SubscribeResult>(Request::Subscribe(subscribe));
    tokio::pin!(subscribed);
    // How many records are still to come; `None` if that is not known yet, or if there is no end.
    let mut left = None;
    let mut printed = 0;
    let mut is_subscribed = false;
    // The backlog may fill the queue before the answer is read, so both are awaited at once.
    while left.is_none_or(|left| printed < left) {
        tokio::select! {
            answer = &mut subscribed, if !is_subscribed => {
                is_subscribed = true;
                let backlog = answer?.backlog;
                left = (!logs.follow).then_some(backlog);
            }
            notification = notifications.recv() => match notification {
                Some(notification) => {
                    printed += usize::from(matches!(notification, Notification::Log(_)));
                    print(&notification, logs.output.json)?;
                }
                None => break,
            },
        }
    }
    Ok(())
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
