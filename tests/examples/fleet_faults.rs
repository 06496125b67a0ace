//! Rollouts of a fleet while its programs are killed and stopped at random: the agent, hosts, a controller, commands,
//! and the NATS server if the fleet is on one. Each host is called all the time. Counts calls that fail in hosts that
//! were not killed, hosts that run the release under trial in each step, declarations that go back, hosts that do not
//! converge, and actions that are missing in the audit log or are there twice.
//!
//! `cargo run -p hotswap-tests --example fleet_faults [SEED] [MINUTES] [nats]`, by default seed 1 and 3 minutes, and a
//! fleet in a directory. With `nats`, it starts a NATS server on loopback: the one that `.ci/tools` installs, or
//! `HOTSWAP_NATS_SERVER`. The same seed gives the same faults in the same order; when they hit depends on the machine.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it uses a part of what the tests share")]
mod support;

mod calls;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use calls::Caller;
use hotswap_fleet::{AuditEntry, FleetError, Id, Location, Mark, Phase, Rollout, Server, Store};
use rustix::process::Signal;
use support::{NatsServer, Numbers, Place, PluginDir, Process, host_command, revision};

const HOSTS: usize = 6;
/// One of so many releases panics.
const PANICS: u32 = 4;
/// The largest number of hosts that run in the steps before the last one, which are those of `Pace::fast`: one host,
/// 5 %, 25 %.
const LARGEST_SHARES: [fn(usize) -> usize; 3] =
    [|_| 1, |hosts| (hosts * 5).div_ceil(100), |hosts| (hosts * 25).div_ceil(100)];
/// The pause between two calls of a host.
const PAUSE: Duration = Duration::from_millis(1);
/// The pause between two readings of what hosts run.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long hosts may take to run what is declared once there are no more faults.
const CONVERGED_WITHIN: Duration = Duration::from_secs(60);

/// A host that is called all the time.
struct Host {
    process: Process,
    load: Arc<Load>,
    /// The thread ends with the host.
    caller: thread::JoinHandle<()>,
}

/// What the calls of a host say.
struct Load {
    pid: u32,
    /// The revision that answered the last call.
    revision: AtomicU32,
    /// The number of calls that were answered.
    calls: AtomicU64,
    failed: Mutex<Vec<String>>,
    is_killed: AtomicBool,
}

impl Host {
    fn start(place: &Place, plugins: &PluginDir) -> Self {
        let mut process = Process::start(host_command(place, plugins));
        process.wait_for_text("listening on");
        let pid = process.pid();
        let load = Arc::new(Load {
            pid,
            revision: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            failed: Mutex::default(),
            is_killed: AtomicBool::new(false),
        });
        let socket = socket_of(place, pid);
        let caller = {
            let load = Arc::clone(&load);
            thread::spawn(move || load.call_until_killed(&socket))
        };
        Self { process, load, caller }
    }
}

impl Load {
    fn call_until_killed(&self, socket: &Path) {
        let mut caller = Caller::connect(socket).expect("connect to a new host");
        while !self.is_killed.load(Ordering::Relaxed) {
            match caller.call("revision", &[]) {
                Ok(answer) => match answer["result"]["value"].as_u64() {
                    Some(revision) => {
                        let revision = u32::try_from(revision).expect("a revision");
                        self.revision.store(revision, Ordering::Release);
                        self.calls.fetch_add(1, Ordering::Relaxed);
                    }
                    None => self.fail(answer.to_string()),
                },
                // The host was killed, or it has ended by itself.
                Err(_) if self.is_killed.load(Ordering::Relaxed) => return,
                Err(error) => return self.fail(error.to_string()),
            }
            thread::sleep(PAUSE);
        }
    }

    fn fail(&self, why: String) {
        self.failed.lock().expect("no panic").push(why);
    }
}

fn socket_of(place: &Place, pid: u32) -> PathBuf {
    place.state_dir().join(format!("hotswap/{pid}.sock"))
}

/// The fleet with its programs. A program that was killed is started again.
struct Fleet {
    place: Place,
    plugins: PluginDir,
    dir: tempfile::TempDir,
    server: Option<NatsServer>,
    /// When a server that was killed is started again.
    server_back_at: Option<Instant>,
    /// The arguments that name the fleet.
    args: [String; 2],
    hosts: Vec<Host>,
    agent: Process,
    controller: Process,
    /// The command that follows the present rollout, unless it was killed.
    follower: Option<Process>,
    /// What stopped programs are to be continued, and when.
    stopped: Vec<(u32, Instant)>,
    /// The calls of hosts that were killed.
    earlier: (u64, Vec<String>),
    counts: BTreeMap<&'static str, u64>,
}

impl Fleet {
    fn start(on_nats: bool) -> Self {
        let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
        let dir = tempfile::tempdir().expect("make a directory");
        let server = on_nats.then(NatsServer::start);
        let args = match &server {
            Some(server) => ["--store".to_owned(), url(server)],
            None => ["--fleet".to_owned(), path(dir.path()).to_owned()],
        };
        place.json(&["fleet", &args[0], &args[1], "init"]);
        let agent = start(&place, &args, &["agent"], &["--pardon"]);
        let controller = start(&place, &args, &["fleet"], &["controller"]);
        let hosts = (0..HOSTS).map(|_| Host::start(&place, &plugins)).collect();
        Self {
            place,
            plugins,
            dir,
            server,
            server_back_at: None,
            args,
            hosts,
            agent,
            controller,
            follower: None,
            stopped: Vec::new(),
            earlier: (0, Vec::new()),
            counts: BTreeMap::new(),
        }
    }

    fn command(&self, args: &[&str]) -> Process {
        start(&self.place, &self.args, &["fleet"], args)
    }

    fn open(&self) -> Store {
        let location = match &self.server {
            Some(server) => Location::Nats(Server::at(&url(server)).expect("its address")),
            None => Location::Directory(self.dir.path().to_owned()),
        };
        Store::open(&location).expect("open the fleet")
    }

    /// Starts the server if its time has come. A controller ends if it is started without a server.
    fn start_server(&mut self, now: bool) {
        if let Some(server) = &mut self.server
            && self.server_back_at.is_some_and(|at| now || at <= Instant::now())
        {
            server.start_again();
            self.server_back_at = None;
            kill(&mut self.controller);
            self.controller = self.command(&["controller"]);
        }
    }

    fn push(&self, number: u32) -> String {
        let artifacts = tempfile::tempdir().expect("make a directory");
        let file = artifacts.path().join("echo.so");
        fs::write(&file, revision("echo", number)).expect("write an artifact");
        let name = format!("r{number}");
        let answer = self.command(&["push", path(&file), "--id", &name]).finish();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        name
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Continues the programs whose time has come.
    fn continue_stopped(&mut self, all: bool) {
        self.stopped.retain(|(pid, until)| {
            let is_due = all || *until <= Instant::now();
            if is_due && let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                // It may have been killed meanwhile.
                let _ = rustix::process::kill_process(pid, Signal::CONT);
            }
            !is_due
        });
    }

    fn stop(&mut self, pid: u32, seconds: u64) {
        let id = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
        let _ = rustix::process::kill_process(id, Signal::STOP);
        self.stopped.push((pid, Instant::now() + Duration::from_secs(seconds)));
    }

    /// One fault. `dice` decides which one.
    fn hurt(&mut self, dice: &mut dyn FnMut(usize) -> usize) {
        let seconds = [1, 1, 2, 4, 8][dice(5)];
        let kinds = if self.server.is_some() { 17 } else { 12 };
        match dice(kinds) {
            0 | 1 => {
                self.count("agent killed");
                kill(&mut self.agent);
                self.agent = start(&self.place, &self.args, &["agent"], &["--pardon"]);
            }
            2 => {
                self.count("agent stopped");
                self.stop(self.agent.pid(), seconds);
            }
            3 => {
                self.count("host killed");
                let host = self.hosts.remove(dice(HOSTS));
                self.end_host(host);
                self.hosts.push(Host::start(&self.place, &self.plugins));
            }
            4 => {
                self.count("host stopped");
                let pid = self.hosts[dice(HOSTS)].load.pid;
                self.stop(pid, seconds);
            }
            5 | 6 => {
                self.count("controller killed");
                kill(&mut self.controller);
                self.controller = self.command(&["controller"]);
            }
            7 => {
                self.count("controller stopped");
                self.stop(self.controller.pid(), seconds);
            }
            8 => {
                if let Some(mut follower) = self.follower.take() {
                    self.count("follower killed");
                    kill(&mut follower);
                }
            }
            9 => {
                if let Some(pid) = self.follower.as_ref().map(Process::pid) {
                    self.count("follower stopped");
                    self.stop(pid, seconds);
                }
            }
            12 | 13 => {
                if self.server_back_at.is_none()
                    && let Some(server) = &mut self.server
                {
                    server.kill();
                    self.server_back_at = Some(Instant::now() + Duration::from_secs(seconds));
                    self.count("server killed");
                }
            }
            kind => {
                self.count("command killed");
                let key = self.dir.path().join(format!("{}.key", self.counts["command killed"]));
                let args: &[&str] = match kind {
                    10 => &["pin", "nobody", "r2"],
                    11 => &["unpin", "nobody"],
                    14 => &["sign"],
                    15 => &["keys", "--new", path(&key)],
                    _ => &["rollback"],
                };
                let mut command = self.command(args);
                thread::sleep(Duration::from_millis(dice(300) as u64));
                kill(&mut command);
            }
        }
    }

    /// Makes a release panic in a host that runs it. Returns whether it did.
    fn panic_in(&self, number: u32) -> bool {
        let runs = |host: &&Host| host.load.revision.load(Ordering::Acquire) == number;
        let Some(host) = self.hosts.iter().find(runs) else { return false };
        if self.stopped.iter().any(|(pid, _)| *pid == host.load.pid) {
            return false;
        }
        let caller = Caller::connect(&socket_of(&self.place, host.load.pid));
        let answer = caller.and_then(|mut caller| caller.call("explode", &["boom"]));
        answer.is_ok()
    }

    fn end_host(&mut self, host: Host) {
        let Host { mut process, load, caller } = host;
        load.is_killed.store(true, Ordering::Relaxed);
        kill(&mut process);
        caller.join().expect("the calls end");
        self.earlier.0 += load.calls.load(Ordering::Relaxed);
        self.earlier.1.append(&mut load.failed.lock().expect("no panic"));
    }

    /// Whether each host runs the declared release, as calls of it say. Waits for that.
    fn converges(&self, store: &Store) -> bool {
        let deadline = Instant::now() + CONVERGED_WITHIN;
        loop {
            let base = asked(|| store.channel(&main_channel())).base;
            let declared = base.map_or(1, |base| base.as_str()[1..].parse().expect("a number"));
            let runs = |host: &Host| host.load.revision.load(Ordering::Acquire) == declared;
            if self.hosts.iter().all(runs) {
                return true;
            }
            if Instant::now() > deadline {
                let all = self.hosts.iter();
                let all: Vec<_> = all
                    .map(|host| (host.load.pid, host.load.revision.load(Ordering::Acquire)))
                    .collect();
                let (reports, _) = store.hosts(&main_channel()).expect("read the hosts");
                let reports: Vec<_> = { reports.iter() }
                    .map(|it| (it.pid, it.state, &it.release, it.at_ms, &it.problem, it.seen.seq))
                    .collect();
                println!("not converged to {declared}: {all:?}: {reports:?}");
                return false;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn main_channel() -> Id {
    "main".parse().expect("a name")
}

fn url(server: &NatsServer) -> String {
    format!("nats://{}/faults", server.address())
}

/// Reads something, when the server answers.
fn asked<T>(read: impl Fn() -> Result<T, FleetError>) -> T {
    loop {
        match read() {
            Ok(read) => return read,
            Err(error) if error.is_unreachable() => thread::sleep(LOOK_INTERVAL),
            Err(error) => panic!("{error}"),
        }
    }
}

fn start(place: &Place, fleet: &[String], command: &[&str], args: &[&str]) -> Process {
    let mut hotswap = place.command("hotswap");
    hotswap.args(command).args(fleet).args(args);
    Process::start(hotswap)
}

fn kill(process: &mut Process) {
    process.signal(Signal::KILL);
    process.end();
}

/// What somebody who reads the fleet all the time has seen.
#[derive(Default)]
struct Seen {
    mark: Mark,
    went_back: Vec<String>,
    /// The hosts that were there when a step of a rollout began.
    present: BTreeMap<(String, usize), BTreeSet<Id>>,
    /// For each step, how many of them ran the release at most, and how many may; and how often more did.
    largest: BTreeMap<usize, (usize, usize)>,
    excesses: Vec<String>,
    looks: u64,
    entries: Vec<AuditEntry>,
    rollouts: BTreeMap<String, Phase>,
}

impl Seen {
    fn look(&mut self, store: &Store, hosts: &[Arc<Load>]) {
        let channel = asked(|| store.channel(&main_channel()));
        if channel.mark < self.mark {
            self.went_back.push(format!("{:?} after {:?}", channel.mark, self.mark));
        }
        self.mark = channel.mark;
        self.note(channel.unsaid);
        let read = || asked(|| store.rollout(&main_channel()));
        let Some(rollout) = read() else { return };
        self.note(rollout.memory.unsaid.clone());
        self.rollouts.insert(rollout.salt.clone(), rollout.phase);
        if !matches!(rollout.phase, Phase::Activating | Phase::Baking) || rollout.step > 2 {
            return;
        }
        let key = (rollout.salt.clone(), rollout.step);
        let there = || rollout.memory.known.keys().cloned().collect();
        let present = self.present.entry(key).or_insert_with(there).clone();
        let number: u32 = rollout.release.as_str()[1..].parse().expect("a number");
        let runs = |load: &&Arc<Load>| {
            let is_present = present.iter().any(|id| is_of(id, load.pid));
            let is_killed = load.is_killed.load(Ordering::Relaxed);
            is_present && !is_killed && load.revision.load(Ordering::Acquire) == number
        };
        let count = hosts.iter().filter(runs).count();
        // The step may have ended between the reading and the counting.
        let is_same = |now: &Rollout| now.salt == rollout.salt && now.step == rollout.step;
        if !read().is_some_and(|now| is_same(&now) && !now.phase.is_over()) {
            return;
        }
        self.looks += 1;
        let most = LARGEST_SHARES[rollout.step](present.len());
        let largest = self.largest.entry(rollout.step).or_default();
        *largest = (largest.0.max(count), largest.1.max(most));
        if count > most {
            self.excesses.push(format!(
                "{count} of {most} run {} in step {}",
                rollout.release, rollout.step
            ));
        }
    }

    fn note(&mut self, entries: Vec<AuditEntry>) {
        for entry in entries {
            if !self.entries.contains(&entry) {
                self.entries.push(entry);
            }
        }
    }
}

/// Whether a host with this name in the fleet is this process.
fn is_of(id: &Id, pid: u32) -> bool {
    id.as_str().rsplit('-').next() == Some(pid.to_string().as_str())
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default: u64| arguments.next().map_or(default, |it| it.parse().expect("a number"));
    let (seed, minutes) = (number(1), number(3));
    let on_nats = arguments.next().is_some_and(|place| place == "nats");
    let mut numbers = Numbers::seeded(&seed.to_string()).below(1 << 20);
    let mut dice = move |below: usize| numbers.next().expect("an endless sequence") % below;
    let mut fleet = Fleet::start(on_nats);
    let store = fleet.open();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    let loads = Mutex::new(Vec::new());
    let (mut ends, mut not_converged, mut faults) = (BTreeMap::<&str, u64>::new(), 0, 0);
    let began = Instant::now();
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let hosts: Vec<Arc<Load>> = loads.lock().expect("no panic").clone();
                seen.lock().expect("no panic").look(&store, &hosts);
                thread::sleep(LOOK_INTERVAL);
            }
        });
        let deadline = began + Duration::from_secs(minutes * 60);
        for number in 2.. {
            if Instant::now() >= deadline {
                break;
            }
            fleet.start_server(true);
            let release = fleet.push(number);
            fleet.follower = Some(fleet.command(&["rollout", &release, "--fast", "--follow"]));
            let mut next = Instant::now();
            let (asked, mut has_panicked) = (Instant::now(), false);
            loop {
                fleet.continue_stopped(false);
                fleet.start_server(false);
                *loads.lock().expect("no panic") =
                    fleet.hosts.iter().map(|host| Arc::clone(&host.load)).collect();
                if next <= Instant::now() {
                    fleet.hurt(&mut dice);
                    faults += 1;
                    next = Instant::now() + Duration::from_millis(200 + dice(1300) as u64);
                }
                if number % PANICS == 0 && !has_panicked {
                    has_panicked = fleet.panic_in(number);
                }
                let Ok(now) = store.rollout(&main_channel()) else {
                    // The server does not answer.
                    thread::sleep(Duration::from_millis(20));
                    continue;
                };
                let now = now.filter(|now| now.release.as_str() == release);
                match now.map(|now| now.phase) {
                    // The command that begins it was killed before it did so.
                    None if asked.elapsed() > Duration::from_secs(10) => {
                        break *ends.entry("not begun").or_default() += 1;
                    }
                    None => {}
                    Some(Phase::Paused) => {
                        *ends.entry("paused").or_default() += 1;
                        let order = ["resume", "abort"][dice(2)];
                        let _ = fleet.command(&[order]).finish();
                    }
                    Some(phase) if phase.is_over() => {
                        let end = match phase {
                            Phase::Done if has_panicked => "done although it panicked",
                            phase => phase.as_str(),
                        };
                        break *ends.entry(end).or_default() += 1;
                    }
                    Some(_) => {}
                }
                thread::sleep(Duration::from_millis(20));
            }
            fleet.continue_stopped(true);
            fleet.start_server(true);
            fleet.follower = None;
            not_converged += u64::from(!fleet.converges(&store));
        }
        stop.store(true, Ordering::Relaxed);
        watch.join().expect("the watch ends");
    });
    for host in std::mem::take(&mut fleet.hosts) {
        fleet.end_host(host);
    }
    let seen = seen.into_inner().expect("no panic");
    report(&fleet, &store, &seen, began.elapsed(), seed, faults);
    println!(
        "ends of rollouts: {ends:?}; {not_converged} times a host did not run the declared release afterwards"
    );
}

fn report(fleet: &Fleet, store: &Store, seen: &Seen, took: Duration, seed: u64, faults: u64) {
    let answer = fleet.command(&["audit", "--json"]).finish();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let audit: Vec<AuditEntry> = serde_json::from_str(&answer.stdout).expect("the audit");
    let missing: Vec<&AuditEntry> = seen.entries.iter().filter(|it| !audit.contains(it)).collect();
    let twice = (0..audit.len()).filter(|at| audit[..*at].contains(&audit[*at])).count();
    let about = |what: &str| audit.iter().filter(|entry| entry.what == what).count();
    let releases = store.releases().expect("the releases").len();
    let (calls, failed) = &fleet.earlier;
    println!("seed {seed}, {took:.0?}, {HOSTS} hosts: {faults} faults: {:?}", fleet.counts);
    println!(
        "{calls} calls, {} failed: {:?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    println!(
        "{} looks: hosts in steps 1 to 3 (at most, allowed): {:?}; {} excesses: {:?}",
        seen.looks,
        seen.largest.values().collect::<Vec<_>>(),
        seen.excesses.len(),
        seen.excesses.iter().take(5).collect::<Vec<_>>()
    );
    println!(
        "the declaration went back {} times: {:?}; it is at {:?}",
        seen.went_back.len(),
        seen.went_back,
        seen.mark
    );
    println!(
        "{} actions were seen in documents: {} are missing in the audit log: {missing:?}; {twice} of its {} entries are \
         there twice; {} pushes of {releases} releases, {} beginnings of {} rollouts",
        seen.entries.len(),
        missing.len(),
        audit.len(),
        about("push"),
        about("rollout"),
        seen.rollouts.len()
    );
}
