//! Rollouts of a fleet in a directory whose hosts are called all the time. Two releases follow each other, and each
//! tenth rollout panics in its first host. Measures how many calls fail; whether the exit code of each rollout is
//! right; and whether the time of a rollout, the agent's memory and the files grow. Then measures how long a release
//! that panics or crashes stays in use, how long a late host takes to get the declared release, the cost of an idle
//! agent, and how long it takes to report a new host.
//!
//! `cargo run --release -p hotswap-tests --example fleet_rollouts [ROLLOUTS]`, by default 20, some seconds each.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it uses a part of what the tests share")]
mod support;

mod calls;

use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use calls::Caller;
use hotswap_fleet::{HostReport, HostState, Id, Location, Phase, Store};
use rustix::process::Signal;
use serde_json::json;
use support::{PATIENCE, Place, PluginDir, Process, host_command, revision};

const HOSTS: usize = 4;
/// One of so many rollouts panics.
const PANICS: usize = 10;
/// The pause between two calls of a host.
const PAUSE: Duration = Duration::from_micros(200);
/// The pause between two readings of the fleet's state while something is timed.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The number of hosts that are started to see when they are reported, one after the other.
const NEW_HOSTS: usize = 40;
/// The time for which the idle agent is observed.
const IDLE: Duration = Duration::from_secs(20);

/// The hosts, their fleet and its agent.
struct Fleet {
    place: Place,
    plugins: PluginDir,
    dir: tempfile::TempDir,
    store: Store,
    hosts: Vec<Process>,
    agent: Process,
}

impl Fleet {
    fn start() -> Self {
        let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
        let dir = tempfile::tempdir().expect("make a directory");
        let location = Location::Directory(dir.path().to_owned());
        place.json(&["fleet", "--fleet", dir.path().to_str().expect("a path"), "init"]);
        let store = Store::open(&location).expect("open the fleet");
        let mut agent = place.command("hotswap");
        agent.arg("agent").arg("--fleet").arg(dir.path());
        let agent = Process::start(agent);
        let mut fleet = Self { place, plugins, dir, store, hosts: Vec::new(), agent };
        for _ in 0..HOSTS {
            fleet.add_host();
        }
        fleet.wait_for("the hosts", |hosts| hosts.len() == HOSTS);
        fleet
    }

    /// Starts a host, and returns when it listens.
    fn add_host(&mut self) -> u32 {
        let mut host = Process::start(host_command(&self.place, &self.plugins));
        host.wait_for_text("listening on");
        let pid = host.pid();
        self.hosts.push(host);
        pid
    }

    fn command(&self, args: &[&str]) -> support::Answer {
        self.start_command(args).finish()
    }

    fn start_command(&self, args: &[&str]) -> Process {
        let mut command = self.place.command("hotswap");
        command.arg("fleet").arg("--fleet").arg(self.dir.path()).args(args);
        Process::start(command)
    }

    fn push(&self, number: u32) -> String {
        let artifacts = tempfile::tempdir().expect("make a directory");
        let file = artifacts.path().join("echo.so");
        fs::write(&file, revision("echo", number)).expect("write an artifact");
        let name = format!("r{number}");
        let answer = self.command(&["push", file.to_str().expect("a path"), "--id", &name]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        name
    }

    fn reports(&self) -> Vec<HostReport> {
        let (hosts, unreadable) = self.store.hosts(&id("main")).expect("read the hosts");
        assert!(unreadable.is_empty(), "{unreadable:?}");
        hosts
    }

    /// Waits until the hosts' reports meet a condition.
    fn wait_for(&self, what: &str, is_so: impl Fn(&[HostReport]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.reports()) {
            assert!(Instant::now() < deadline, "never came: {what}: {:?}", self.reports());
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Rolls a release out to all hosts; true, because it is declared then.
    fn roll_out(&self, release: &str) -> bool {
        let answer = self.command(&["rollout", release, "--follow", "--fast"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        true
    }

    /// Rolls a release out that panics in its first host; false, because it is rolled back.
    fn roll_out_and_panic(&self, release: &str) -> bool {
        let rollout = self.start_command(&["rollout", release, "--follow", "--fast"]);
        let tries = self.wait_until_tried(release);
        caller(&tries).call("explode", &["boom"]).expect("an answer");
        let answer = rollout.finish();
        assert_eq!(answer.code, Some(5), "{answer:?}");
        false
    }

    /// The agent's memory, and the files of the fleet, of the agent and of the hosts, as text.
    fn describe_size(&self) -> String {
        let (fleet, bytes) = files(self.dir.path());
        let audit = fs::metadata(self.dir.path().join("audit.jsonl")).expect("the audit").len();
        let (others, other_bytes) = files(self.place.state_dir());
        let [resident, anonymous] = memory_of(self.agent.pid());
        format!(
            "the agent has {resident:.1} MiB resident, {anonymous:.1} of them not of files; it and the hosts have \
             {others} files of {other_bytes} bytes; the fleet has {fleet} files of {} bytes and an audit log of {audit}",
            bytes - audit
        )
    }

    /// Begins a rollout. Waits until the release is being judged, and returns a host that tries it.
    fn start_rollout(&self, release: &str) -> HostReport {
        let answer = self.command(&["rollout", release, "--fast"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        self.wait_until_tried(release)
    }

    /// Waits until the release is being judged, and returns a host that tries it.
    fn wait_until_tried(&self, release: &str) -> HostReport {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rollout = self.store.rollout(&id("main")).expect("read it").expect("a rollout");
            let tries = self.reports().into_iter().find(|host| runs(host, release));
            let is_judged = rollout.release.as_str() == release && rollout.phase == Phase::Baking;
            if let Some(host) = tries.filter(|_| is_judged) {
                return host;
            }
            assert!(Instant::now() < deadline, "{release} is not judged: {rollout:?}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The time until no host runs a release any more.
    fn time_until_gone(&self, release: &str) -> Duration {
        let began = Instant::now();
        self.wait_for("all back", |hosts| {
            hosts.iter().all(|host| !host.state.is_there() || !runs(host, release))
        });
        let elapsed = began.elapsed();
        let deadline = Instant::now() + PATIENCE;
        while !self
            .store
            .rollout(&id("main"))
            .expect("read it")
            .is_some_and(|it| it.phase.is_over())
        {
            assert!(Instant::now() < deadline, "the rollout does not end");
            thread::sleep(POLL_INTERVAL);
        }
        elapsed
    }
}

fn id(name: &str) -> Id {
    name.parse().expect("a name")
}

fn runs(host: &HostReport, release: &str) -> bool {
    host.release.as_ref().is_some_and(|it| it.as_str() == release)
}

fn caller(host: &HostReport) -> Caller {
    Caller::connect(host.socket.as_ref().expect("its socket")).expect("connect to a host")
}

fn main() {
    let rollouts: usize =
        std::env::args().nth(1).map_or(20, |number| number.parse().expect("a number"));
    let mut fleet = Fleet::start();
    let releases = [fleet.push(2), fleet.push(3)];
    let bad = roll_out_under_calls(&fleet, &releases, rollouts);
    measure_late_host(&mut fleet);
    measure_idle_agent(&fleet);
    measure_new_hosts(&fleet);
    measure_panic(&fleet, &bad);
    measure_crash(&fleet, &bad);
}

/// Rolls releases out in turn, while each host is called. Returns the release that is not declared at the end.
fn roll_out_under_calls(fleet: &Fleet, releases: &[String; 2], rollouts: usize) -> String {
    let (stop, calls, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (began, mut next) = (Instant::now(), 0);
    thread::scope(|scope| {
        for host in fleet.reports() {
            let (stop, calls, failed) = (&stop, &calls, &failed);
            scope.spawn(move || {
                let mut caller = caller(&host);
                while !stop.load(Ordering::Relaxed) {
                    let answer = caller.call("revision", &[]).expect("an answer");
                    if answer["result"].is_null() {
                        println!("failed: {answer}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
            });
        }
        let mut times = Vec::new();
        for number in 1..=rollouts {
            let began = Instant::now();
            let expected = match number % PANICS == 0 {
                true => fleet.roll_out_and_panic(&releases[next]),
                false => fleet.roll_out(&releases[next]),
            };
            times.push(began.elapsed());
            if expected {
                next = 1 - next;
            }
            if number % PANICS == 0 || number == rollouts {
                times.sort();
                println!(
                    "{number} rollouts: the last {} took {:.1?} to {:.1?}, median {:.1?}; {}",
                    times.len(),
                    times[0],
                    times[times.len() - 1],
                    times[times.len() / 2],
                    fleet.describe_size()
                );
                times.clear();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{rollouts} rollouts over {HOSTS} hosts in {:.0?}: {} calls, {} failed",
        began.elapsed(),
        calls.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed)
    );
    releases[next].clone()
}

fn measure_late_host(fleet: &mut Fleet) {
    let declared = fleet.store.channel(&id("main")).expect("read it").base.expect("a release");
    let pid = fleet.add_host();
    let began = Instant::now();
    fleet.wait_for("the late host", |hosts| {
        let is_it = |host: &HostReport| host.pid == pid && host.state == HostState::Serving;
        hosts.iter().any(|host| is_it(host) && runs(host, declared.as_str()))
    });
    println!(
        "a late host, from when it listens until it has told that it runs {declared}: {:.0?}",
        began.elapsed()
    );
}

fn measure_idle_agent(fleet: &Fleet) {
    let pid = fleet.agent.pid();
    let (began, used) = (Instant::now(), cpu_of(pid));
    thread::sleep(IDLE);
    let part = (cpu_of(pid) - used).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let [resident, anonymous] = memory_of(pid);
    println!(
        "the idle agent of {} hosts: {part:.2} % of a core, {resident:.1} MiB resident, of which {anonymous:.1} MiB are \
         not of files",
        fleet.hosts.len()
    );
}

fn measure_new_hosts(fleet: &Fleet) {
    let mut times: Vec<Duration> = (0..NEW_HOSTS)
        .map(|_| {
            let host = Process::start(host_command(&fleet.place, &fleet.plugins));
            let pid = host.pid();
            let socket = fleet.place.state_dir().join(format!("hotswap/{pid}.sock"));
            let deadline = Instant::now() + PATIENCE;
            while !socket.exists() {
                assert!(Instant::now() < deadline, "{} does not appear", socket.display());
                thread::sleep(POLL_INTERVAL / 4);
            }
            let began = Instant::now();
            fleet.wait_for("the new host", |hosts| hosts.iter().any(|host| host.pid == pid));
            began.elapsed()
        })
        .collect();
    times.sort();
    let nth = |part: usize| times[times.len() * part / 100];
    println!(
        "{NEW_HOSTS} new hosts, from the appearance of the socket until the report: median {:.1?}, 90 % within {:.1?}, \
         the last {:.1?}",
        nth(50),
        nth(90),
        times[times.len() - 1]
    );
}

/// The resident memory of a process, and the part that is not mapped from files, in MiB.
fn memory_of(pid: u32) -> [f64; 2] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    ["VmRSS:", "RssAnon:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("KiB") / 1024.0
    })
}

/// The number of files in a directory and below it, and their bytes.
fn files(dir: &Path) -> (u64, u64) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| match entry.file_type().ok()? {
        kind if kind.is_dir() => Some(files(&entry.path())),
        kind if kind.is_file() => Some((1, entry.metadata().ok()?.len())),
        _ => None,
    });
    sizes.fold((0, 0), |(files, bytes), (more, size)| (files + more, bytes + size))
}

fn measure_panic(fleet: &Fleet, bad: &str) {
    let host = fleet.start_rollout(bad);
    caller(&host).call("explode", &["boom"]).expect("an answer");
    println!(
        "a panic in a canary, until no host has told that it runs the release: {:.0?}",
        fleet.time_until_gone(bad)
    );
}

fn measure_crash(fleet: &Fleet, bad: &str) {
    let host = fleet.start_rollout(bad);
    let held = fleet.dir.path().join("held");
    let listener = UnixListener::bind(&held).expect("listen");
    let mut caller = caller(&host);
    let args = [held.to_str().expect("a path")];
    let params = json!({ "plugin": "echo", "function": "hold", "args": args });
    caller.begin("invoke", &params).expect("ask a host");
    let _held = listener.accept().expect("the call");
    let process = fleet.hosts.iter().find(|it| it.pid() == host.pid).expect("its process");
    process.signal(Signal::KILL);
    println!(
        "a crash of a canary, until no host has told that it runs the release: {:.0?}",
        fleet.time_until_gone(bad)
    );
}

/// The time that a process has used.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read what it has used");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|it| it.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_secs(ticks)
        / u32::try_from(rustix::param::clock_ticks_per_second()).expect("ticks")
}
