//! A fleet, read and changed on a thread of its own: drawing never waits for a disk or a server.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hotswap_fleet::{FleetError, Id, Store};
use hotswap_protocol::{ErrorKind, WireError};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::{self, changes::WatchedDirs};
use crate::cli::fleet::{Fleet, PlaceArguments, is_known};
use crate::host::socket::{self, HostChoice};
use crate::screen::model::fleet::{FleetNews, FleetOrder, FleetSnapshot};

/// The number of orders, and of news, that can wait.
const QUEUE: usize = 16;
/// The minimum time between two reads of the fleet's state.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// The time between reads while a rollout is under way, unless a change is reported earlier.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time between reads otherwise.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A reason to wake the thread.
enum Wake {
    /// The fleet's state may have changed.
    Changed,
    /// An order came.
    Order(FleetOrder),
}

/// The connection to the thread: takes orders for a fleet, and delivers its news.
pub(super) struct FleetThread {
    wake: SyncSender<Wake>,
    news: mpsc::Receiver<FleetNews>,
}

impl FleetThread {
    /// Starts the thread. It ends when this is dropped.
    pub fn start(place: PlaceArguments) -> Self {
        let (wake, woken) = sync_channel(QUEUE);
        let (sender, news) = mpsc::channel(QUEUE);
        let (runtime, waker) = (Handle::current(), wake.clone());
        tokio::task::spawn_blocking(move || {
            let mut reader = Reader { place, sender, waker, runtime, fleet: None, last: None };
            reader.run(&woken);
        });
        Self { wake, news }
    }

    /// Sends an order; false if the queue is full.
    pub fn send(&self, order: FleetOrder) -> bool {
        self.wake.try_send(Wake::Order(order)).is_ok()
    }
}

/// The next news of a fleet; `None` if there is no fleet.
pub(super) async fn next_news(desk: &mut Option<FleetThread>) -> Option<FleetNews> {
    desk.as_mut()?.news.recv().await
}

struct Reader {
    place: PlaceArguments,
    sender: mpsc::Sender<FleetNews>,
    waker: SyncSender<Wake>,
    runtime: Handle,
    fleet: Option<OpenFleet>,
    /// The last news.
    last: Option<Result<FleetSnapshot, String>>,
}

/// An open fleet, with the watcher of its files.
struct OpenFleet {
    fleet: Fleet,
    files: Option<WatchedDirs>,
}

impl Reader {
    fn run(&mut self, woken: &Receiver<Wake>) {
        loop {
            let looked = self.read();
            let is_active = looked.as_ref().is_ok_and(|seen| {
                seen.rollout.as_ref().is_some_and(|rollout| !rollout.phase.is_over())
            });
            // The fleet may have been created anew, so it is opened again.
            if looked.as_ref().is_err_and(|error| !error.is_unreachable()) {
                self.fleet = None;
            }
            let looked = looked.map_err(|error| error.to_string());
            if self.last.as_ref() != Some(&looked) {
                let news = match looked.clone() {
                    Ok(seen) => FleetNews::FleetSnapshot(Box::new(seen)),
                    Err(trouble) => FleetNews::Trouble(trouble),
                };
                self.last = Some(looked);
                if self.sender.blocking_send(news).is_err() {
                    return;
                }
            }
            let pause = if is_active { POLL_INTERVAL } else { IDLE_POLL_INTERVAL };
            if !self.wait(woken, pause) {
                return;
            }
        }
    }

    /// Waits for a change, and carries out orders; false if nobody receives news any more.
    fn wait(&self, woken: &Receiver<Wake>, pause: Duration) -> bool {
        let began = Instant::now();
        let mut until = began + pause;
        loop {
            match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Wake::Changed) => until = until.min(began + LEAST_PAUSE),
                Ok(Wake::Order(order)) => {
                    let news = self.carry_out(order);
                    if self.sender.blocking_send(news).is_err() {
                        return false;
                    }
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => return !self.sender.is_closed(),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn read(&mut self) -> Result<FleetSnapshot, FleetError> {
        let reached = match self.fleet.take() {
            Some(reached) => reached,
            None => self.open_fleet()?,
        };
        let OpenFleet { fleet, files } = self.fleet.insert(reached);
        if let Some(files) = files {
            files.renew();
        }
        let (store, channel) = (&fleet.store, &fleet.channel);
        // This read comes first, because it notices that the fleet is gone.
        let declared = store.channel(channel)?;
        let (hosts, unreadable) = store.hosts(channel)?;
        Ok(FleetSnapshot {
            fleet: store.fleet().id.clone(),
            is_signed: store.keys()?.is_some_and(|keys| !keys.keys.is_empty()),
            channel: declared,
            rollout: store.rollout(channel)?,
            hosts,
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
        })
    }

    fn open_fleet(&self) -> Result<OpenFleet, FleetError> {
        let fleet = Fleet::at(&self.place)?;
        let waker = self.waker.clone();
        // A full queue can be ignored: its entries wake the thread, and the state is read regularly anyway.
        let wake = move || drop(waker.try_send(Wake::Changed));
        let on_change = wake.clone();
        fleet.store.watch(&fleet.channel, Box::new(move |_| on_change()))?;
        let files = Fleet::directory(&self.place).map(|dir| watch_files(&dir, wake));
        Ok(OpenFleet { fleet, files })
    }

    fn carry_out(&self, order: FleetOrder) -> FleetNews {
        let Some(OpenFleet { fleet, .. }) = &self.fleet else {
            return FleetNews::Failed("the fleet is not reached".to_owned());
        };
        let what = order.to_string();
        let done = match order {
            FleetOrder::Rollout(order) => self.runtime.block_on(fleet.give_order(order)),
            FleetOrder::RollBack(release) => self.runtime.block_on(fleet.declare_rollback(release)),
            FleetOrder::Pin(host, release) => fleet.declare_pin(&host, Some(release)),
            FleetOrder::Unpin(host) => fleet.declare_pin(&host, None),
            FleetOrder::ListReleases => match fleet.store.releases() {
                Ok(releases) => return FleetNews::Releases(releases),
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => FleetNews::Done(format!("{what}: done")),
            Err(error) => FleetNews::Failed(format!("cannot {what}: {error}")),
        }
    }
}

/// Watches a fleet's files. Where they cannot be watched, only the regular reads find changes.
fn watch_files(dir: &Path, wake: impl Fn() + Send + Sync + 'static) -> WatchedDirs {
    WatchedDirs::new(["channels", "rollouts", "hosts"].map(|part| dir.join(part)), wake)
}

/// Finds the chosen host: a host of this name in the fleet, if there is one. For a host of another machine, the way
/// must be kept as long as its socket is used.
pub(super) fn find(
    place: &PlaceArguments,
    choice: HostChoice,
) -> Result<(HostChoice, Option<ForwardedSocket>), WireError> {
    let HostChoice::Named(name) = &choice else { return Ok((choice, None)) };
    let Ok(name) = name.parse::<Id>() else { return Ok((choice, None)) };
    if !is_known(place) {
        return Ok((choice, None));
    }
    let wrong = |error: FleetError| WireError::new(ErrorKind::Fleet, error.to_string());
    let found = tokio::task::block_in_place(|| {
        let fleet = Fleet::at(place)?;
        let (hosts, _) = fleet.store.hosts(&fleet.channel)?;
        let host = hosts.into_iter().find(|host| host.id == name);
        let is_here = match host.as_ref().and_then(|host| host.machine.as_ref()) {
            Some(machine) => *machine == agent::machine()?,
            None => true,
        };
        Ok(host.map(|host| (fleet.store, host, is_here)))
    });
    let Some((store, host, is_here)) = found.map_err(wrong)? else { return Ok((choice, None)) };
    if is_here {
        let socket = host.socket.unwrap_or_else(|| socket::of_process(host.pid));
        return Ok((HostChoice::Socket(socket), None));
    }
    let way = ForwardedSocket::open(store, host.id)?;
    Ok((HostChoice::Through(way.socket.clone()), Some(way)))
}

/// The way to a host of another machine: a local socket, whose connections that machine's agent forwards.
pub(super) struct ForwardedSocket {
    socket: PathBuf,
    _listening: AbortOnDropHandle<()>,
}

impl Drop for ForwardedSocket {
    fn drop(&mut self) {
        // A socket file that remains does no harm.
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl ForwardedSocket {
    fn open(store: Store, host: Id) -> Result<Self, WireError> {
        let wrong = |error: std::io::Error| {
            WireError::new(ErrorKind::Internal, format!("no connection to {host}: {error}"))
        };
        // A first connection shows whether access is allowed, before a screen is taken.
        let (ours, theirs) = UnixStream::pair().map_err(wrong)?;
        let attached = tokio::task::block_in_place(|| store.attach(&host, theirs));
        drop(ours);
        attached.map_err(|error| WireError::new(ErrorKind::NoHost, error.to_string()))?;
        // Its extension differs from those of this machine's hosts, so that it does not count as one.
        let socket = socket::make_directory().map_err(wrong)?;
        let socket = socket.join(format!("{}.attached", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(wrong)?;
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, host) = (store.clone(), host.clone());
                tokio::task::spawn_blocking(move || {
                    // On an error, the client sees a closed stream and tries again.
                    let _ = stream.into_std().map(|stream| store.attach(&host, stream));
                });
            }
        });
        Ok(Self { socket, _listening: AbortOnDropHandle::new(listening) })
    }
}
