//! A host that only speaks the protocol.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hotswap_protocol::{
    ErrorKind, FreeResult, HelloResult, HostInfo, Notification, PROTOCOL_VERSION, Pins, ReloadPlan,
    Request, RequestLine, ResponseLine, SubscribeResult, VersionState, WireError,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::samples;

/// Listens until it is dropped.
pub struct FakeHost {
    pub socket: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl FakeHost {
    /// Listens in `runtime_dir`, as a host with this process id would.
    pub fn listen(runtime_dir: &Path, pid: u32) -> Self {
        let directory = runtime_dir.join("hotswap");
        std::fs::create_dir_all(&directory).unwrap();
        Self::listen_as(directory.join(format!("{pid}.sock")), samples::host(pid))
    }

    /// Listens at this socket with the description of this host.
    pub fn listen_as(socket: PathBuf, host: HostInfo) -> Self {
        Self::listen_planning(socket, host, samples::plan())
    }

    /// Like [`listen_as`](Self::listen_as); answers requests for a plan with this one.
    pub fn listen_planning(socket: PathBuf, host: HostInfo, plan: ReloadPlan) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, host.clone(), plan.clone(), Arc::clone(&seen)));
            }
        });
        Self { socket, requests, serving }
    }

    /// All requests so far, including hello and subscriptions.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(
    stream: UnixStream,
    host: HostInfo,
    plan: ReloadPlan,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let RequestLine { id, request, .. } = serde_json::from_str(&line).unwrap();
        seen.lock().unwrap().push(request.clone());
        let mut reply = to_line(&ResponseLine::new(Some(id), answer(&request, &host, &plan)));
        for notification in notifications_after(&request) {
            reply.push_str(&to_line(&notification));
        }
        if write.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(request: &Request, host: &HostInfo, plan: &ReloadPlan) -> Result<Value, WireError> {
    let value = match request {
        Request::Hello(_) => {
            serde_json::to_value(HelloResult { protocol: PROTOCOL_VERSION, host: host.clone() })
        }
        Request::Snapshot => serde_json::to_value(samples::snapshot(host.pid)),
        Request::Vault => serde_json::to_value(samples::vault()),
        Request::Live => serde_json::to_value(samples::live()),
        Request::Reloads => serde_json::to_value(samples::reloads()),
        Request::Plan(_) => serde_json::to_value(plan),
        Request::Subscribe(subscribe) => {
            serde_json::to_value(SubscribeResult { backlog: if subscribe.logs { 2 } else { 0 } })
        }
        Request::Rollback(params) if params.target == "world@9" => {
            return Err(samples::refusal());
        }
        Request::Reload | Request::ReloadLatest | Request::Rollback(_) => {
            serde_json::to_value(samples::report())
        }
        Request::Invoke(params) if params.function != "greet" => {
            return Err(WireError::new(
                ErrorKind::UnknownFunction,
                format!("world v3 has no function `{}`", params.function),
            ));
        }
        Request::Invoke(_) => serde_json::to_value(samples::greeting()),
        Request::Pins => serde_json::to_value(Pins { pins: vec![samples::pin(1, "Hello", "Hi")] }),
        Request::Unpin(params) if params.id != 1 => {
            return Err(WireError::new(ErrorKind::Pin, "there is no pin 2; there are 1"));
        }
        Request::Pin(_) | Request::Unpin(_) => serde_json::to_value(samples::pin(1, "Hi", "Hi")),
        Request::Free(params) if params.target == "world@2" => serde_json::to_value(FreeResult {
            plugin: "world".into(),
            version: 2,
            state: VersionState::Retired,
            detail: "retired: 1 call".into(),
            holders: vec!["call of greet on \"http-3\"".into()],
            held_by: Vec::new(),
        }),
        Request::Free(_) => serde_json::to_value(FreeResult {
            plugin: "world".into(),
            version: 1,
            state: VersionState::Freed,
            detail: "freed: 4.3 MiB unmapped after 12 ms".into(),
            holders: Vec::new(),
            held_by: Vec::new(),
        }),
        _ => Ok(json!({})),
    };
    Ok(value.unwrap())
}

fn notifications_after(request: &Request) -> Vec<Notification> {
    use hotswap_protocol::LogLevel::{Info, Warn};
    match request {
        Request::Subscribe(subscribe) if subscribe.logs => vec![
            Notification::Log(samples::record(1, Info, "listening")),
            Notification::Dropped { count: 4 },
            Notification::Log(samples::record(6, Warn, "slow request")),
        ],
        _ => Vec::new(),
    }
}

fn to_line(message: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(message).unwrap();
    line.push('\n');
    line
}
