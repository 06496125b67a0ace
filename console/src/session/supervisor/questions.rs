//! Requests that run beside the jobs and do not delay the loop.

use std::path::PathBuf;

use hotswap_build::PluginPackage;
use hotswap_protocol::{
    CancelParams, ErrorKind, InvokeParams, InvokeResult, LiveSnapshot, Pins, PlanParams, Request,
    TargetParams, VaultSnapshot, WireError, same_plugin,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Supervisor;
use crate::compare::difference::{self, DiffRequest, Difference};
use crate::compare::preview::Preview;
use crate::compare::replay::{self, Replay};
use crate::host::client::{Client, decode};
use crate::host::operation::Operation;
use crate::session::event::SessionEvent;
use crate::session::store::{self, StoredChoice};

impl Supervisor {
    /// Asks the host.
    pub(super) fn send_request(&self, operation: Operation) {
        let client = self.client.clone();
        let (events, cancel) = (self.events.clone(), self.calls.clone());
        tokio::spawn(async move {
            let event = match &operation {
                Operation::Vault => SessionEvent::Vault(match client {
                    Some(client) => client.ask::<VaultSnapshot>(operation.request()).await,
                    None => Err(no_host()),
                }),
                Operation::Live => SessionEvent::Live(match client {
                    Some(client) => client.ask::<LiveSnapshot>(operation.request()).await,
                    None => Err(no_host()),
                }),
                Operation::Pins => SessionEvent::Pins(match client {
                    Some(client) => client.ask::<Pins>(operation.request()).await,
                    None => Err(no_host()),
                }),
                Operation::Pin(_) | Operation::Unpin(_) => {
                    let answer = match client {
                        Some(client) => client.request(operation.request()).await,
                        None => Err(no_host()),
                    };
                    // The host reports what was done as events.
                    let Err(error) = answer else { return };
                    SessionEvent::NotPinned(error)
                }
                _ => {
                    let answer = match client {
                        Some(client) => call(&client, &operation, &cancel, &events).await,
                        None => Err(no_host()),
                    };
                    SessionEvent::Invoked { operation, answer }
                }
            };
            // The session is over when this fails.
            let _ = events.send(event).await;
        });
    }

    /// Keeps a version loaded, or stops doing so.
    pub(super) fn hold(&self, target: String, on: bool) {
        let (client, events) = (self.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let params = TargetParams { target: target.clone() };
            let request = if on { Request::Hold(params) } else { Request::Release(params) };
            let answer = match client {
                Some(client) => client.request(request).await.map(|_| on),
                None => Err(no_host()),
            };
            // The session is over when this fails.
            let _ = events.send(SessionEvent::Held { target, answer }).await;
        });
    }

    /// Opens and compares the artifacts that a reload would load. Of a host on another machine, only its plan is
    /// shown.
    pub(super) fn preview(&self) {
        let (client, events) = (self.client.clone().ok_or_else(no_host), self.events.clone());
        let prober = self.options.prober.clone();
        tokio::spawn(async move {
            let preview = match client {
                Ok(client) => Preview::make(&client, &prober, PlanParams::default()).await,
                Err(error) => Err(error),
            };
            // The session is over when this fails.
            let _ = events.send(SessionEvent::Preview(preview)).await;
        });
    }

    /// Makes the pinned calls in the artifacts that a reload would load.
    pub(super) fn replay(&self) {
        let (client, events) = (self.host_with_files(), self.events.clone());
        let prober = self.options.prober.clone();
        tokio::spawn(async move {
            let replay = match client {
                Ok(client) => Replay::make(&client, &prober, PlanParams::default()).await,
                Err(error) => Err(error),
            };
            // The session is over when this fails.
            let _ = events.send(SessionEvent::Replayed(replay)).await;
        });
    }

    /// Makes a call in the serving version and in a stored build.
    pub(super) fn invoke_in_both(&self, call: InvokeParams, build: StoredChoice) {
        let (client, events, cancel) =
            (self.host_with_files(), self.events.clone(), self.calls.clone());
        let (prober, store_dir) = (self.options.prober.clone(), self.store_dir());
        tokio::spawn(async move {
            let make = async {
                let client = client?;
                let no_store = || WireError::new(ErrorKind::Build, "no build is stored");
                let file = store::file_of(&store_dir.ok_or_else(no_store)?, &build)?;
                Ok(replay::invoke_in_both(&client, &prober, &call, &file).await)
            };
            let cancelled = WireError::new(ErrorKind::Cancelled, "the call was cancelled");
            // The processes of the call are killed when it is dropped.
            let answers = tokio::select! {
                answers = make => answers,
                () = cancel.cancelled() => Err(cancelled),
            };
            let answers =
                answers.unwrap_or_else(|error: WireError| [Err(error.clone()), Err(error)]);
            let operation = Operation::Invoke(call);
            // The session is over when this fails.
            let _ = events
                .send(SessionEvent::InvokedInBoth { operation, answers: Box::new(answers) })
                .await;
        });
    }

    /// Compares two versions of a plugin.
    pub(super) fn compare(&self, request: DiffRequest) {
        let files = self.client.as_ref().map_or(Ok(()), Client::expect_files);
        let is_meant = |it: &&PluginPackage| same_plugin(&it.name, &request.plugin);
        let package = self.package.as_ref();
        let plugin = package.and_then(|package| package.plugins.iter().find(is_meant));
        let places = difference::Places {
            host: self.client.as_ref().map(|client| client.host().clone()),
            plugin_dir: self.plugin_dir.clone(),
            store_dir: self.store_dir(),
            source_dirs: plugin.map(|plugin| plugin.source_dirs.clone()).unwrap_or_default(),
        };
        let (events, prober) = (self.events.clone(), self.options.prober.clone());
        tokio::spawn(async move {
            let difference = match files {
                Ok(()) => difference::compare(request, places, &prober).await,
                Err(error) => {
                    let source = Err(error.message.clone());
                    Difference { request, declared: Err(error), source }
                }
            };
            // The session is over when this fails.
            let _ = events.send(SessionEvent::Difference(Box::new(difference))).await;
        });
    }

    /// The connected host, if its files are on this machine.
    fn host_with_files(&self) -> Result<Client, WireError> {
        let client = self.client.clone().ok_or_else(no_host)?;
        client.expect_files().map(|()| client)
    }

    /// The directory of earlier builds: as the host's package or the host itself names it.
    fn store_dir(&self) -> Option<PathBuf> {
        let of_host = || self.host_with_files().ok()?.host().store_dir.clone();
        let known = self.package.as_ref().map(store::directory).or_else(of_host);
        known.filter(|dir| dir.is_dir())
    }

    /// Lists the stored builds of a plugin, if the directory is known.
    pub(super) fn list_builds(&self, plugin: String) {
        let (store_dir, events) = (self.store_dir(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let builds = store_dir.map_or(Ok(Vec::new()), |dir| store::builds(&dir, &plugin));
            let builds = builds.map_err(|error| error.to_string());
            // The session is over when this fails.
            let _ = events.blocking_send(SessionEvent::StoredBuilds { plugin, builds });
        });
    }
}

fn no_host() -> WireError {
    WireError::new(ErrorKind::NoHost, "no host is connected")
}

/// Calls a function. If it is cancelled, it still waits for the host's answer, since the call may have returned.
async fn call(
    client: &Client,
    operation: &Operation,
    cancel: &CancellationToken,
    events: &mpsc::Sender<SessionEvent>,
) -> Result<InvokeResult, WireError> {
    let (id, answer) = client.begin(operation.request());
    let mut answer = std::pin::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        () = cancel.cancelled() => {
            let ask = async {
                if let Err(error) = client.request(Request::Cancel(CancelParams { id })).await {
                    // The session is over when this fails.
                    let _ = events.send(SessionEvent::CallGoesOn { reason: error.message }).await;
                }
            };
            tokio::join!(ask, answer).1
        }
    };
    decode("invoke", answer?)
}
