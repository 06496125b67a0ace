//! Many simulated hosts of a fleet on one real NATS server, each with its own connection and the client of an
//! agent. They have no processes, since only the server and the client are tested.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hotswap_fleet::{
    Artifact, Change, Channel, Declaration, FleetError, HostReport, HostState, Id, Location, Mark,
    MoreOfHost, Release, ReleasePlugin, SecretKey, Server, Store,
};
use hotswap_protocol::Toolchain;

use super::NatsServer;

/// The longest wait; after it the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause before another attempt.
const AGAIN: Duration = Duration::from_millis(200);
/// The stack size of the thread of a host.
const STACK: usize = 512 << 10;

/// A fleet of many hosts.
pub struct ManyHosts {
    pub server: NatsServer,
    operator: Store,
    hosts: Vec<SimulatedHost>,
}

/// A simulated host with the client of its agent.
struct SimulatedHost {
    store: Store,
    id: Id,
    news: Arc<News>,
}

/// What the server has announced.
#[derive(Default)]
struct News {
    reported: Mutex<Reported>,
    is_new: Condvar,
}

#[derive(Debug, Clone, Default)]
struct Reported {
    /// The number of declarations so far, and the last one.
    declared: u64,
    last: Option<Declaration>,
    connected: u64,
}

impl News {
    fn note(&self, change: Change) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Declared(declaration) => {
                reported.declared += 1;
                reported.last = Some(declaration);
            }
            Change::Keys => {}
            Change::Connected => reported.connected += 1,
        }
        self.is_new.notify_all();
    }

    fn reported(&self) -> Reported {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the announcements meet a condition, and returns them.
    fn wait_for(&self, what: &str, is_so: impl Fn(&Reported) -> bool) -> Reported {
        let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.is_new.wait_timeout_while(reported, PATIENCE, |reported| !is_so(reported));
        let (reported, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{what} was not reported: {reported:?}");
        reported.clone()
    }
}

fn id(name: &str) -> Id {
    name.parse().expect("a name")
}

fn channel_name() -> Id {
    id("main")
}

fn location(server: &NatsServer) -> Location {
    let url = format!("nats://{}/games", server.address());
    Location::Nats(Server::at(&url).expect("an address"))
}

/// A release of one plugin whose artifact has this size.
fn push(store: &Store, name: &str, size: usize) {
    let bytes = super::Numbers::seeded(name).below(256).take(size);
    let bytes: Vec<u8> = bytes.map(|byte| u8::try_from(byte).expect("a byte")).collect();
    let artifact = Artifact {
        built_by: Toolchain {
            rustc_release: "1.95.0".to_owned(),
            rustc_commit: String::new(),
            target: "x86_64-unknown-linux-gnu".to_owned(),
            panic_strategy: "unwind".to_owned(),
            plugin_crate_version: "0.1.0".to_owned(),
            abi_version: 1,
        },
        build_id: format!("build of {name}"),
        crate_version: "0.1.0".to_owned(),
        sha256: store.push_blob(&bytes).expect("push an artifact"),
        size_bytes: size as u64,
    };
    let plugins = vec![ReleasePlugin { name: "world".to_owned(), artifacts: vec![artifact] }];
    let fleet = store.fleet().id.clone();
    let release =
        Release { id: id(name), fleet, pushed_at_ms: 1, by: "operator".to_owned(), plugins };
    store.push_release(&release).expect("push a release");
}

impl SimulatedHost {
    fn connect(server: &NatsServer, number: usize) -> Self {
        let news = Arc::new(News::default());
        let store = Store::open(&location(server)).expect("open the fleet");
        let reported = Arc::clone(&news);
        store.watch(&channel_name(), Box::new(move |change| reported.note(change))).expect("watch");
        // This reads the keys that it trusts.
        store.channel(&channel_name()).expect("read the channel");
        Self { store, id: id(&format!("game-{number}")), news }
    }

    /// Reports what the host runs, as its agent would.
    fn report(&self, release: Option<&Id>, seen: Mark) -> Result<(), FleetError> {
        let arm = hotswap_fleet::Arm { calls: 1_234_567, errors: 12, panics: 0 };
        self.store.report(&HostReport {
            id: self.id.clone(),
            channel: channel_name(),
            name: "game".to_owned(),
            pid: 1,
            machine: Some("machine".to_owned()),
            socket: None,
            at_ms: hotswap_protocol::clock::now_ms(),
            stratum: "rustc 1.95.0, x86_64-unknown-linux-gnu, unwind".to_owned(),
            state: HostState::Serving,
            release: release.cloned(),
            builds: [("world".to_owned(), "build".to_owned())].into(),
            staged: None,
            problem: None,
            seen,
            health: [("world".to_owned(), arm)].into(),
            more: MoreOfHost::default(),
        })
    }

    /// Follows an announced declaration without a request, as an agent does.
    fn follow(&self, reported: &Declaration, expected: Mark) {
        let declared = self.store.verify_announced(&channel_name(), reported);
        let declared = declared.unwrap_or_else(|error| panic!("{}: {error}", self.id));
        assert_eq!(declared.mark, expected, "{}", self.id);
        self.report_with_retries(&declared);
    }

    fn report_with_retries(&self, declared: &Channel) {
        retry(|| self.report(declared.base.as_ref(), declared.mark));
    }
}

/// Repeats an operation until it succeeds, as an agent does.
fn retry<T>(work: impl Fn() -> Result<T, FleetError>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match work() {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(AGAIN);
    }
}

/// The durations of an operation, one for each host, sorted.
#[derive(Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// A percentile of the durations.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub fn worst(&self) -> Duration {
        self.percentile(100)
    }
}

impl ManyHosts {
    /// Starts a server with a fleet of two releases, each with an artifact of this size, and connects this many
    /// hosts.
    pub fn connect(count: usize, artifact: usize) -> (Self, Times) {
        let server = NatsServer::start();
        let operator = Store::create(&location(&server), &id("games"), &channel_name(), Vec::new());
        let operator = operator.expect("make a fleet");
        operator.prepare().expect("set up the server");
        let dir = tempfile::tempdir().expect("a directory");
        let key = SecretKey::generate(&dir.path().join("key")).expect("make a key");
        let (secret, public) = key;
        let operator = operator.signed_by(vec![secret]);
        let unsigned = operator.channel(&channel_name()).expect("read the channel");
        let changed = operator.change_keys(|keys| {
            keys.keys.push(public);
            Ok(())
        });
        changed.expect("keep the key");
        operator.sign_declarations(&unsigned, &unsigned, None).expect("sign the channel");
        push(&operator, "r1", artifact);
        push(&operator, "r2", artifact);
        let numbers: Vec<usize> = (0..count).collect();
        let hosts = at_once(&numbers, |number| SimulatedHost::connect(&server, *number));
        let (hosts, times): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let many = Self { server, operator, hosts };
        (many, sorted(times))
    }

    /// Makes all hosts fetch and verify a release, with starts spread over a time.
    pub fn fetch(&self, spread: Duration) -> Times {
        let (count, release) = (u32::try_from(self.hosts.len()).expect("a count"), id("r1"));
        let starts: Vec<(u32, &SimulatedHost)> = (0..).zip(&self.hosts).collect();
        let fetched = at_once(&starts, |(number, host)| {
            thread::sleep(spread * *number / count.max(1));
            let began = Instant::now();
            // Unlike an agent, this writes nothing to the disk.
            retry(|| host.store.verify(&release, host.store.keys()?.as_ref()));
            began.elapsed()
        });
        sorted(fetched.into_iter().map(|(time, _)| time).collect())
    }

    /// Declares another release by one write. Returns how long it takes until each host has reported that it runs
    /// it.
    pub fn declare(&self, release: &str) -> Times {
        let read = self.operator.channel(&channel_name()).expect("read the channel");
        let mut new = read.clone();
        new.set_base(Some(id(release)));
        new.raise_mark(&[]);
        let before: Vec<u64> =
            self.hosts.iter().map(|host| host.news.reported().declared).collect();
        let waiting: Vec<(u64, &SimulatedHost)> = before.into_iter().zip(&self.hosts).collect();
        let are_waiting = std::sync::Barrier::new(self.hosts.len() + 1);
        let written = Mutex::new(None);
        let times = thread::scope(|scope| {
            scope.spawn(|| {
                are_waiting.wait();
                *written.lock().expect("unharmed") = Some(Instant::now());
                self.operator.write_channel(&read, &new).expect("declare");
            });
            at_once(&waiting, |(before, host)| {
                are_waiting.wait();
                let reported =
                    host.news.wait_for("what is declared", |reported| reported.declared > *before);
                host.follow(&reported.last.expect("a declaration"), new.mark);
                Instant::now()
            })
        });
        let written = written.lock().expect("unharmed").expect("the time of the write");
        let took =
            |(reported, _): &(Instant, Duration)| reported.saturating_duration_since(written);
        sorted(times.iter().map(took).collect())
    }

    /// Makes each host report once.
    pub fn report(&self) -> Times {
        let declared = self.operator.channel(&channel_name()).expect("read the channel");
        sorted(
            at_once(&self.hosts, |host| host.report_with_retries(&declared))
                .into_iter()
                .map(|(_, time)| time)
                .collect(),
        )
    }

    /// Kills the server, and starts it again after a while. Returns how long it then takes until each host has
    /// reported again.
    pub fn lose_server(&mut self, away: Duration) -> Times {
        let declared = self.operator.channel(&channel_name()).expect("read the channel");
        let before: Vec<u64> =
            self.hosts.iter().map(|host| host.news.reported().connected).collect();
        self.server.kill();
        thread::sleep(away);
        self.server.start_again();
        let started = Instant::now();
        let waiting: Vec<(u64, &SimulatedHost)> = before.into_iter().zip(&self.hosts).collect();
        let back = at_once(&waiting, |(before, host)| {
            host.news.wait_for("the server", |reported| reported.connected > *before);
            host.report_with_retries(&declared);
            started.elapsed()
        });
        sorted(back.into_iter().map(|(time, _)| time).collect())
    }

    /// The number of hosts that report this release, as an operator reads it.
    pub fn running(&self, release: &str) -> usize {
        // The server may just have started again.
        let (hosts, unreadable) = retry(|| self.operator.hosts(&channel_name()));
        assert!(unreadable.is_empty(), "{unreadable:?}");
        let release = Some(id(release));
        hosts.iter().filter(|host| host.release == release).count()
    }
}

/// Runs `work` for each item on a thread of its own, and measures each duration.
fn at_once<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<(R, Duration)> {
    let work = &work;
    thread::scope(|scope| {
        let begin = |one| {
            let timed = move || {
                let began = Instant::now();
                let result = work(one);
                (result, began.elapsed())
            };
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, timed).expect("a thread")
        };
        let begun: Vec<_> = all.iter().map(begin).collect();
        begun.into_iter().map(|thread| thread.join().expect("no host fails")).collect()
    })
}

fn sorted(mut times: Vec<Duration>) -> Times {
    times.sort_unstable();
    Times(times)
}
