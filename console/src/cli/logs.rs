//! `hotswap logs`

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};

use hotswap_protocol::{Notification, Request, SubscribeParams, SubscribeResult};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::args::LogsArguments;
use super::{CLIENT_NAME, print_json, text};
use crate::failure::Failure;
use crate::host::client::Client;
use crate::host::socket::{self, HostChoice};

pub(super) async fn logs(host: Option<&HostChoice>, logs: LogsArguments) -> Result<(), Failure> {
    let (client, notifications) = socket::connect(host, CLIENT_NAME).await?;
    let follow = logs.follow;
    let records = print_records(&client, notifications, logs);
    if !follow {
        return socket::answered(&client, records).await;
    }
    tokio::select! {
        printed = records => printed,
        never = report_silence(&client) => match never {},
    }
}

/// Says when the host stops answering, and when it answers again: a host that was stopped may go on.
async fn report_silence(client: &Client) -> Infallible {
    // Nobody may read stderr, and the records go on.
    let say = |what: &dyn Display| drop(writeln!(io::stderr(), "hotswap: {what}"));
    loop {
        say(&socket::silence(client).await);
        socket::end_of_silence(client).await;
        say(&"the host answers again");
    }
}

async fn print_records(
    client: &Client,
    mut notifications: Receiver<Notification>,
    logs: LogsArguments,
) -> Result<(), Failure> {
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
