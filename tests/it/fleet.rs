//! A fleet in a directory: requests to hosts, and three hosts with an agent.

mod console;
mod faults;
mod names;
mod nats;

use std::{
    fs,
    os::unix::net::UnixListener,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use hotswap_engine::{
    ConsoleSocket, args,
    protocol::{HostHealth, OfferAnswer},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    socket::Client,
    support::{
        Answer, Host, PATIENCE, Place, PluginDir, Process, artifact, host_command, revision,
    },
};

/// A temporary directory: for a fleet, or for artifacts outside the plugin directory.
struct TempFiles(TempDir);

impl TempFiles {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// A host in this process with a console socket, and its client.
fn host_with_client(plugins: &[&str]) -> (Host, Client, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::at(dir.path().join("socket"));
    let host = Host::new(PluginDir::of(plugins), |builder| builder.console(Some(socket)));
    host.reload();
    let client = Client::greeted(&host.engine.snapshot().host.socket);
    (host, client, dir)
}

fn revision_of(host: &Host) -> u32 {
    host.engine.plugin("echo").unwrap().invoke("revision", args![]).unwrap()
}

fn outcome<'a>(answer: &'a Value, plugin: &str) -> &'a Value {
    let plugins = answer["result"]["plugins"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let plugin = plugins.iter().find(|entry| entry["name"] == plugin);
    &plugin.unwrap_or_else(|| panic!("{answer}"))["outcome"]
}

#[test]
fn only_the_named_artifacts_are_loaded() {
    let (host, mut client, _dir) = host_with_client(&["echo", "by-hand"]);
    let elsewhere = TempFiles::new();
    let new = elsewhere.put("0123abcd.so", &revision("echo", 2));
    let artifacts = json!({"artifacts": [new]});

    let plan = client.ask(2, "plan", json!({"apply": artifacts}));
    assert_eq!(
        (outcome(&plan, "echo"), outcome(&plan, "by-hand")),
        (&json!("ok"), &json!("removed"))
    );
    assert_eq!(plan["result"]["plugins"][1]["new"]["path"], new.to_str().unwrap(), "{plan}");
    assert_eq!(revision_of(&host), 1, "a plan loads nothing");

    let applied = client.ask(3, "apply", artifacts.clone());
    assert_eq!(
        (outcome(&applied, "echo"), outcome(&applied, "by-hand")),
        (&json!("ok"), &json!("removed"))
    );
    assert_eq!(revision_of(&host), 2);
    let again = client.ask(4, "apply", artifacts);
    assert_eq!(outcome(&again, "echo"), "unchanged");

    // The host's own plugin directory is unchanged.
    let reloaded = client.ask(5, "reload", json!(null));
    assert_eq!(
        (outcome(&reloaded, "echo"), outcome(&reloaded, "by-hand")),
        (&json!("ok"), &json!("added"))
    );
    assert_eq!(revision_of(&host), 1);
}

#[test]
fn artifacts_that_cannot_all_be_loaded_change_nothing() {
    let (host, mut client, _dir) = host_with_client(&["echo"]);
    let elsewhere = TempFiles::new();
    let new = elsewhere.put("echo.so", &revision("echo", 2));
    let failing = elsewhere.put("failing.so", &artifact("fail-on-init"));
    let mut refused = |artifacts: Value| {
        let answer = client.ask(2, "apply", json!({"artifacts": artifacts}));
        assert_eq!(revision_of(&host), 1, "{answer}");
        answer["error"]["data"]["message"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    assert!(refused(json!([new, failing])).contains("fail-on-init"));
    assert!(refused(json!([])).contains("names no artifact"));
    assert!(refused(json!(["echo.so"])).contains("an absolute path is expected"));
    assert!(refused(json!([new, elsewhere.0.path()])).contains("not a regular file"));
    assert!(refused(json!([new, elsewhere.0.path().join("gone.so")])).contains("gone.so"));
}

#[test]
fn a_host_reports_whether_it_accepts_a_release_and_its_health() {
    let dir = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::at(dir.path().join("socket"));
    let plays = Arc::new(AtomicBool::new(true));
    let asked = (plays.clone(), plays.clone());
    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        builder
            .console(Some(socket))
            .label("region", "eu")
            .on_offer(move |offer| {
                match (offer.release.as_str(), asked.0.load(Ordering::Relaxed)) {
                    ("bad", _) => panic!("it is too much for it"),
                    ("r3", _) => OfferAnswer::No { reason: "not here".to_owned() },
                    (_, true) => OfferAnswer::Later { reason: "a match is running".to_owned() },
                    (_, false) => OfferAnswer::Now,
                }
            })
            .health(move || match asked.1.load(Ordering::Relaxed) {
                true => HostHealth::well(),
                false => HostHealth::unwell("no players"),
            })
    });
    let mut client = Client::greeted(&host.engine.snapshot().host.socket);
    let mut offered = |release: &str| {
        let answer = client.ask(2, "offer", json!({"release": release, "plugins": ["echo"]}));
        answer["result"].clone()
    };
    let later = json!({"answer": "later", "reason": "a match is running"});
    assert_eq!(offered("r2"), later);
    assert_eq!(offered("r3"), json!({"answer": "no", "reason": "not here"}));
    let panicked = json!({"answer": "later", "reason": "the host's `on_offer` panicked"});
    assert_eq!(offered("bad"), panicked);
    plays.store(false, Ordering::Relaxed);
    assert_eq!(offered("r2"), json!({"answer": "now"}));

    let snapshot = client.ask(3, "snapshot", json!(null));
    let reported = &snapshot["result"]["host"];
    assert_eq!(reported["labels"], json!({"region": "eu"}));
    assert_eq!(reported["health"], json!({"is_well": false, "reason": "no players"}));
    plays.store(true, Ordering::Relaxed);
    assert_eq!(host.engine.snapshot().host.health, Some(HostHealth::well()));
    // A callback that waits for a lock, which code of a plugin may have, keeps nobody from the host.
    let lock = Arc::new(Mutex::new(()));
    let (for_offer, for_health) = (lock.clone(), lock.clone());
    let dir = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::at(dir.path().join("socket"));
    let host = Host::new(PluginDir::of(&["echo"]), |builder| {
        builder
            .console(Some(socket))
            .on_offer(move |_| {
                drop(for_offer.lock());
                OfferAnswer::Now
            })
            .health(move || {
                drop(for_health.lock());
                HostHealth::well()
            })
    });
    let mut client = Client::greeted(&host.engine.snapshot().host.socket);
    let mut offered = || client.ask(2, "offer", json!({"release": "r2"}))["result"].clone();
    let held = lock.lock().unwrap();
    let later = json!({"answer": "later", "reason": "the host's `on_offer` does not return"});
    thread::scope(|scope| {
        let health = scope.spawn(|| host.engine.snapshot().host.health);
        assert_eq!([offered(), offered()], [later.clone(), later.clone()]);
        assert_eq!(health.join().unwrap(), Some(HostHealth::well()), "the last answer counts");
    });
    drop(held);
    while offered() == later {}
    assert_eq!(offered(), json!({"answer": "now"}));
    // A host without a callback accepts every release.
    let (_host, mut client, _dir) = host_with_client(&["echo"]);
    let answer = client.ask(2, "offer", json!({"release": "r2"}));
    assert_eq!(answer["result"], json!({"answer": "now"}));
}

/// Three hosts with their fleet and its agent.
struct Hosts {
    place: Place,
    /// The directory of the fleet, or a directory for the test.
    fleet: TempFiles,
    /// The arguments that name the fleet.
    fleet_args: Vec<String>,
    _plugins: PluginDir,
    hosts: Vec<Process>,
    agent: Process,
}

impl Hosts {
    fn start() -> Self {
        let fleet = TempFiles::new();
        let fleet_args = vec!["--fleet".to_owned(), fleet.0.path().to_str().unwrap().to_owned()];
        Self::with_fleet(fleet, fleet_args)
    }

    fn with_fleet(fleet: TempFiles, fleet_args: Vec<String>) -> Self {
        Self::with_agent(fleet, fleet_args, &[])
    }

    /// Like [`with_fleet`](Self::with_fleet), with more arguments for the agent.
    fn with_agent(fleet: TempFiles, fleet_args: Vec<String>, more: &[&str]) -> Self {
        Self::with_environment(fleet, fleet_args, more, &[])
    }

    /// Like [`with_agent`](Self::with_agent), with these environment variables for the hosts.
    fn with_environment(
        fleet: TempFiles,
        fleet_args: Vec<String>,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let (place, plugins) = (Place::new(), PluginDir::of(&["echo"]));
        let start = |_| {
            let mut host = host_command(&place, &plugins);
            host.envs(variables.iter().copied());
            let mut host = Process::start(host);
            host.wait_for_text("listening on");
            host
        };
        let hosts = (0..3).map(start).collect();
        let args: Vec<&str> = fleet_args.iter().map(String::as_str).collect();
        place.json(&[&["fleet", "init"], &args[..]].concat());
        let agent = Process::start(agent_command(&place, &fleet_args, more));
        let started = Self { place, fleet, fleet_args, _plugins: plugins, hosts, agent };
        started.wait_for("three hosts", |status| status["hosts"].as_array().unwrap().len() == 3);
        started
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let fleet_args: Vec<&str> = self.fleet_args.iter().map(String::as_str).collect();
        [&["fleet"], args, &fleet_args].concat()
    }

    fn json(&self, args: &[&str]) -> Value {
        self.place.json(&self.args(args))
    }

    /// Pushes a revision of `echo`; returns the release's name.
    fn push(&self, number: u32) -> String {
        let artifacts = TempFiles::new();
        let file = artifacts.put("echo.so", &revision("echo", number));
        let pushed = self.json(&["push", file.to_str().unwrap(), "--id", &format!("r{number}")]);
        assert_eq!(pushed["new"], true);
        pushed["id"].as_str().unwrap().to_owned()
    }

    /// Begins a rollout, and follows it.
    fn roll_out(&self, release: &str) -> JoinHandle<Answer> {
        let mut rollout = self.place.command("hotswap");
        rollout.args(self.args(&["rollout", release, "--follow", "--fast"]));
        thread::spawn(|| Process::start(rollout).finish())
    }

    /// Waits until the fleet is in a certain state.
    fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut watch = self.place.command("hotswap");
        watch.args(self.args(&["status", "--watch", "--json"]));
        Process::start(watch).wait_for_json(what, is_so)
    }

    /// Calls functions in all hosts until a rollout has ended.
    fn call_until_end_of(&self, rollout: JoinHandle<Answer>) -> Answer {
        while !rollout.is_finished() {
            for host in &self.hosts {
                self.call(host.pid(), &["revision", "--repeat", "5"]);
            }
        }
        rollout.join().unwrap()
    }

    fn call(&self, pid: u32, args: &[&str]) -> Answer {
        self.place.hotswap(&[&["invoke", "--host", &pid.to_string(), "echo"], args].concat())
    }

    /// The revisions that the hosts run, as the hosts report them.
    fn revisions(&self) -> Vec<String> {
        let pids = self.hosts.iter().map(Process::pid);
        pids.map(|pid| {
            self.call(pid, &["revision"]).stdout.lines().next().unwrap_or_default().to_owned()
        })
        .collect()
    }
}

fn agent_command(place: &Place, fleet_args: &[String], more: &[&str]) -> Command {
    let mut agent = place.command("hotswap");
    agent.args(["agent", "--json"]).args(fleet_args).args(more);
    agent
}

fn hosts_with_release<'a>(status: &'a Value, release: &str) -> Vec<&'a Value> {
    let hosts = status["hosts"].as_array().unwrap().iter();
    hosts.filter(|host| host["release"] == release).collect()
}

fn is_baking(status: &Value, release: &str) -> bool {
    status["rollout"]["state"] == "baking" && hosts_with_release(status, release).len() == 1
}

/// Release 2 goes from one host to all hosts. Release 3 panics, so it reaches only the first host and is rolled
/// back.
fn roll_out_good_and_panicking_release(hosts: &Hosts) {
    let r2 = hosts.push(2);
    let answer = hosts.call_until_end_of(hosts.roll_out(&r2));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    let status = hosts.json(&["status"]);
    assert_eq!((&status["release"], &status["rollout"]["state"]), (&json!("r2"), &json!("done")));
    assert_eq!(hosts_with_release(&status, "r2").len(), 3, "{status}");

    let r3 = hosts.push(3);
    let rollout = hosts.roll_out(&r3);
    let status = hosts.wait_for("a host that tries r3", |status| is_baking(status, "r3"));
    let pid = hosts_with_release(&status, "r3")[0]["pid"].as_u64().unwrap();
    hosts.call(u32::try_from(pid).unwrap(), &["explode", "boom"]);
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    let status = hosts.json(&["status"]);
    assert_eq!(status["rollout"]["state"], "rolled_back");
    assert_eq!(status["rollout"]["cause"]["kind"], "panicked", "{status}");
    assert_eq!(status["release"], "r2");
}

#[test]
fn a_release_goes_from_one_host_to_all_and_back() {
    let hosts = Hosts::start();
    roll_out_good_and_panicking_release(&hosts);

    // A release that was altered goes to no host, and the error names it.
    let r4 = hosts.push(4);
    let release = hosts.json(&["verify", &r4]);
    let sha256 = release["plugins"][0]["artifacts"][0]["sha256"].as_str().unwrap();
    let blob = hosts.fleet.0.path().join(format!("blobs/{sha256}.so"));
    let mut altered = fs::read(&blob).unwrap();
    altered[4096] ^= 1;
    fs::write(&blob, altered).unwrap();
    let error = hosts.place.refusal(1, &hosts.args(&["rollout", &r4, "--follow", "--fast"]));
    assert_eq!(error["kind"], "fleet");
    let message = error["message"].as_str().unwrap();
    let names = format!("echo of release r4: {}: the artifact was altered", blob.display());
    assert!(message.starts_with(&names), "{message}");

    // A release that only adds a plugin.
    let artifacts = TempFiles::new();
    artifacts.put("echo.so", &revision("echo", 2));
    artifacts.put("by-hand.so", &artifact("by-hand"));
    hosts.json(&["push", artifacts.0.path().to_str().unwrap(), "--id", "r5"]);
    hosts.json(&["rollback", "r5"]);
    hosts.wait_for("r5 with both plugins", |status| {
        let hosts = hosts_with_release(status, "r5");
        hosts.iter().filter(|host| host["builds"]["by-hand"].is_string()).count() == 3
    });
    hosts.json(&["rollback"]);
    hosts.wait_for("r2", |status| hosts_with_release(status, "r2").len() == 3);

    // Back to the builds in each host's own directory.
    hosts.json(&["rollback"]);
    hosts.wait_for("no release", |status| hosts_with_release(status, "r2").is_empty());
    assert_eq!(hosts.revisions(), ["1", "1", "1"]);
    let audit = hosts.json(&["audit"]);
    let done: Vec<&str> =
        audit.as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    for what in ["init", "push", "rollout", "baking", "done", "rolled_back", "rollback"] {
        assert!(done.contains(&what), "{what}: {done:?}");
    }

    // A host without a plugin directory, which gets all its plugins from the fleet, goes back to none.
    let mut host = hosts.place.command("sample-host");
    host.arg("--plugins").arg(hosts.fleet.0.path().join("no/plugins")).env("HOTSWAP_CONSOLE", "1");
    let host = Process::start(host);
    let runs = |status: &Value, builds: usize| {
        let mut all = status["hosts"].as_array().unwrap().iter();
        let it = all.find(|it| it["pid"] == host.pid());
        it.is_some_and(|it| it["builds"].as_object().unwrap().len() == builds)
    };
    hosts.json(&["rollback", "r2"]);
    hosts.wait_for("r2 in the new host", |status| runs(status, 1));
    hosts.json(&["rollback"]);
    hosts.wait_for("no plugin in the new host", |status| runs(status, 0));
}

#[test]
fn a_host_that_is_killed_while_it_bakes_is_replaced_and_a_rollout_without_calls_waits() {
    let hosts = Hosts::start();
    let r2 = hosts.push(2);
    let rollout = hosts.roll_out(&r2);
    let status = hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    let tries = hosts_with_release(&status, "r2")[0]["pid"].as_u64().unwrap();
    let host = hosts.hosts.iter().find(|host| u64::from(host.pid()) == tries).unwrap();
    host.signal(Signal::KILL);
    let is_replaced = |status: &Value| {
        let states: Vec<&Value> =
            hosts_with_release(status, "r2").iter().map(|host| &host["state"]).collect();
        states.contains(&&json!("died")) && states.contains(&&json!("serving"))
    };
    hosts.wait_for("another host that tries r2", is_replaced);
    // There were no calls, so the candidate cannot be judged, and the rollout waits.
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(4), "{answer:?}");
    let status = hosts.json(&["status"]);
    assert_eq!(status["rollout"]["cause"]["kind"], "too_little_evidence", "{status}");

    // Another rollout waits until this one has ended.
    let r3 = hosts.push(3);
    let message = hosts.place.refusal(1, &hosts.args(&["rollout", &r3]))["message"].clone();
    assert!(message.as_str().unwrap().contains("`--queue` waits for its end"), "{message}");
    let mut queued = hosts.place.command("hotswap");
    queued.args(hosts.args(&["rollout", &r3, "--fast", "--queue", "--json"]));
    let mut queued = Process::start(queued);
    queued.wait_for_json("the one before", |status| status["rollout"]["state"] == "paused");

    let order = |order: &str| hosts.json(&[order])["rollout"]["state"].clone();
    assert_eq!(order("resume"), "baking");
    assert_eq!(order("pause"), "paused");
    order("promote");
    queued.wait_for_json("its end", |status| status["rollout"]["state"] == "done");
    let queued = queued.finish();
    assert_eq!(queued.code, Some(0), "{queued:?}");
    let status = hosts.json(&["status"]);
    assert_eq!((&status["release"], &status["rollout"]["release"]), (&json!("r2"), &json!("r3")));
    // A rollout that cannot begin does not end the one before it.
    let error = hosts.place.refusal(1, &hosts.args(&["rollout", &r2, "--supersede"]));
    assert!(error["message"].as_str().unwrap().contains("declares already"), "{error}");
    assert_ne!(hosts.json(&["status"])["rollout"]["state"], "superseded");
    hosts.json(&["abort"]);
    let is_back = |status: &Value| status["rollout"]["state"] == "rolled_back";
    hosts.wait_for("r2 everywhere", is_back);
    let alive = hosts.revisions().iter().filter(|revision| *revision == "2").count();
    assert_eq!(alive, 2);
}

#[test]
fn a_build_that_crashed_a_host_is_loaded_by_no_other() {
    let hosts = Hosts::start();
    let r2 = hosts.push(2);
    let rollout = hosts.roll_out(&r2);
    let status = hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    let pid = hosts_with_release(&status, "r2")[0]["pid"].to_string();
    let socket = hosts.fleet.0.path().join("held");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut call = hosts.place.command("hotswap");
    call.args(["invoke", "--host", &pid, "echo", "hold", socket.to_str().unwrap()]);
    let _call = Process::start(call);
    let _held = listener.accept().unwrap();
    let host = hosts.hosts.iter().find(|host| host.pid().to_string() == pid).unwrap();
    host.signal(Signal::KILL);
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let cause = hosts.json(&["status"])["rollout"]["cause"].clone();
    assert_eq!((&cause["kind"], &cause["plugin"]), (&json!("crashed"), &json!("echo")), "{cause}");

    let answer = hosts.roll_out(&r2).join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let cause = hosts.json(&["status"])["rollout"]["cause"].clone();
    assert_eq!((&cause["kind"], &cause["problem"]), (&json!("refused"), &json!("quarantined")));

    // A pinned host runs another release than the others.
    let r3 = hosts.push(3);
    let status = hosts.wait_for("a host", |status| !serving_hosts(status).is_empty());
    let pinned = serving_hosts(&status)[0]["id"].as_str().unwrap().to_owned();
    hosts.json(&["pin", &pinned, &r3]);
    let is_pinned = |status: &Value| hosts_with_release(status, "r3").len() == 1;
    let status = hosts.wait_for("a host that runs r3", is_pinned);
    assert_eq!(hosts_with_release(&status, "r3")[0]["id"], pinned.as_str());
    hosts.json(&["unpin", &pinned]);
    hosts.wait_for("no host that runs r3", |status| hosts_with_release(status, "r3").is_empty());
}

#[test]
fn a_plugin_that_ends_the_process_that_opens_it_ends_no_host() {
    let hosts = Hosts::start();
    let artifacts = TempFiles::new();
    let file = artifacts.put("aborts.so", &artifact("aborts"));
    hosts.json(&["push", file.to_str().unwrap(), "--id", "r2"]);
    let answer = hosts.roll_out("r2").join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let status = hosts.json(&["status"]);
    let cause = &status["rollout"]["cause"];
    assert_eq!(
        (&cause["kind"], &cause["problem"]),
        (&json!("refused"), &json!("dry_run")),
        "{cause}"
    );
    assert_eq!(hosts.revisions(), ["1", "1", "1"]);
}

fn serving_hosts(status: &Value) -> Vec<&Value> {
    let hosts = status["hosts"].as_array().unwrap().iter();
    hosts.filter(|host| host["state"] == "serving").collect()
}

/// A fleet in a directory without hosts, and the files of its keys.
struct Keyed {
    place: Place,
    fleet: TempFiles,
    keys: TempFiles,
    artifact: PathBuf,
}

impl Keyed {
    fn new() -> Self {
        let keys = TempFiles::new();
        let artifact = keys.put("echo.so", &revision("echo", 1));
        Self { place: Place::new(), fleet: TempFiles::new(), keys, artifact }
    }

    fn key(&self, name: &str) -> String {
        self.keys.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["fleet", "--fleet", self.fleet.0.path().to_str().unwrap()], args].concat()
    }

    fn json(&self, args: &[&str]) -> Value {
        self.place.json(&self.args(args))
    }

    fn refused(&self, args: &[&str]) -> String {
        let error = self.place.refusal(1, &self.args(args));
        error["message"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.fleet.0.path().join(name)
    }

    /// The actions in the audit log.
    fn audited(&self) -> Vec<String> {
        let entries = self.json(&["audit"]);
        let what = |entry: &Value| entry["what"].as_str().unwrap().to_owned();
        entries.as_array().unwrap().iter().map(what).collect()
    }

    /// Kills a command where it waits for the lock of a file: `lock` is taken for a write of documents, `audit.jsonl` for
    /// one of the audit log.
    fn kill_at(&self, args: &[&str], lock: &str) {
        let file = fs::OpenOptions::new().append(true).create(true).open(self.file(lock)).unwrap();
        file.lock().unwrap();
        let mut command = self.place.command("hotswap");
        command.args(self.args(args));
        let mut command = Process::start(command);
        let (pid, deadline) = (command.pid().to_string(), Instant::now() + PATIENCE);
        let waits = |line: &str| line.contains("->") && line.split_whitespace().any(|it| it == pid);
        while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let has_ended = stat.contains(") Z ") || Instant::now() > deadline;
            assert!(!has_ended, "{args:?} does not wait for {lock}");
            thread::yield_now();
        }
        command.signal(Signal::KILL);
        command.end();
    }

    fn push(&self, release: &str, keys: &[&str]) -> Value {
        let keys: Vec<&str> = keys.iter().flat_map(|key| ["--sign", key]).collect();
        let push = ["push", self.artifact.to_str().unwrap(), "--id", release];
        self.json(&[&push[..], &keys].concat())
    }
}

#[test]
fn a_fleet_is_made_in_the_directory_that_follows_init() {
    let (place, elsewhere) = (Place::new(), TempFiles::new());
    let here = elsewhere.0.path();
    for (at, made) in [("one", "one"), ("./two", "two")] {
        let mut init = place.command("hotswap");
        init.current_dir(here).args(["fleet", "init", at]);
        assert_eq!(Process::start(init).finish().code, Some(0));
        let made = here.join(made);
        let status = place.json(&["fleet", "status", "--fleet", made.to_str().unwrap()]);
        assert_eq!(status["channel"], "main");
    }
    let twice = place.hotswap(&["fleet", "init", "three", "--fleet", here.to_str().unwrap()]);
    assert_eq!(twice.code, Some(2), "{twice:?}");
}

#[test]
fn a_rollout_whose_beginning_could_not_be_audited_is_in_the_audit_log_later() {
    let fleet = Keyed::new();
    fleet.json(&["init"]);
    fleet.push("r1", &[]);
    let audit = fleet.fleet.0.path().join("audit.jsonl");
    let before = fs::read(&audit).unwrap();
    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    assert!(fleet.refused(&["rollout", "r1"]).contains("is not in the audit log yet: "));
    fs::remove_dir(&audit).unwrap();
    fs::write(&audit, before).unwrap();
    let other = fleet.refused(&["promote", "--channel", "mains"]);
    assert!(other.contains("the fleet has no such channel"), "{other}");
    fleet.json(&["promote"]);
    assert_eq!(fleet.audited(), ["init", "push", "rollout", "promoting", "done"]);
}

#[test]
fn what_a_command_did_is_in_the_audit_log_once_wherever_it_was_killed() {
    let fleet = Keyed::new();
    let (release, director) = (fleet.key("release.key"), fleet.key("director.key"));
    let artifact = fleet.artifact.to_str().unwrap();
    fs::write(fleet.file("audit.jsonl"), "").unwrap();
    fleet.kill_at(&["init"], "audit.jsonl");
    fleet.json(&["keys", "--new", &release]);
    let (release, director) = (release.as_str(), director.as_str());
    let keys = ["keys", "--new-director", director, "--sign", release];
    fleet.kill_at(&keys, "lock");
    fs::remove_file(director).unwrap();
    fleet.kill_at(&keys, "audit.jsonl");
    // The keys have changed, and the declaration was not signed.
    for lock in ["lock", "audit.jsonl"] {
        fleet.kill_at(&["sign", "--sign", director], lock);
    }
    for id in ["r1", "r2"] {
        fleet.kill_at(&["push", artifact, "--id", id, "--sign", release], "audit.jsonl");
    }
    let second = fleet.key("second.key");
    fleet.json(&["keys", "--new", &second, "--sign", release]);
    fleet.kill_at(&["sign", "r2", "--sign", &second], "audit.jsonl");
    let mut expected = vec!["init", "keys", "keys", "sign", "keys", "push", "push", "sign"];
    assert_eq!(fleet.audited(), expected);
    // Another command replaces what was written.
    for command in [
        &["pin", "host", "r1"][..],
        &["unpin", "host"],
        &["rollback", "r1"],
        &["rollout", "r2"],
        &["pause"],
        &["resume"],
        &["abort"],
        &["promote"],
    ] {
        for lock in ["lock", "audit.jsonl"] {
            fleet.kill_at(&[command, &["--sign", director]].concat(), lock);
        }
    }
    fleet.json(&["pin", "host", "r2", "--sign", director]);
    expected.extend([
        "pin",
        "unpin",
        "rollback",
        "rollout",
        "paused",
        "checking",
        "rolling_back",
        "promoting",
        "pin",
    ]);
    let mut audited = fleet.audited();
    audited.sort_unstable();
    expected.sort_unstable();
    assert_eq!(audited, expected);
}

#[test]
fn a_follower_ends_with_its_own_rollout_even_if_another_one_has_begun() {
    let fleet = Keyed::new();
    fleet.json(&["init"]);
    for release in ["r1", "r2", "r3"] {
        fleet.push(release, &[]);
    }
    let follow = |release: &str| {
        let mut follow = fleet.place.command("hotswap");
        follow.args(fleet.args(&["rollout", release, "--follow", "--fast"]));
        let mut follower = Process::start(follow);
        follower.wait_for_text(&format!("rollout of {release} is being staged"));
        // It looks at the fleet again when everything has happened.
        follower.signal(Signal::STOP);
        follower
    };
    let first = follow("r1");
    fleet.json(&["promote"]);
    let second = follow("r2");
    first.signal(Signal::CONT);
    assert_eq!(first.finish().code, Some(0));
    fleet.json(&["rollout", "r3", "--supersede"]);
    second.signal(Signal::CONT);
    let answer = second.finish();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let superseded = "the rollout of r2 was superseded, and now there is one of r3, which ";
    assert!(answer.stderr.contains(superseded), "{answer:?}");
    assert!(!answer.stdout.contains("r3"), "{answer:?}");
}

#[test]
fn a_fleet_with_keys_takes_only_signed_releases() {
    let fleet = Keyed::new();
    let (one, two) = (fleet.key("one.key"), fleet.key("two.key"));
    let (one, two) = (one.as_str(), two.as_str());
    fleet.json(&["init"]);
    fleet.push("r1", &[]);
    fleet.json(&["verify", "r1"]);
    let keys = fleet.json(&["keys", "--new", one]);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert!(
        fleet
            .refused(&["verify", "r1"])
            .ends_with("requires a signature; `hotswap fleet sign r1 --sign SECRET-KEY` adds one")
    );
    let artifact = fleet.artifact.to_str().unwrap();
    assert!(fleet.refused(&["push", artifact, "--id", "r2"]).contains("`--sign SECRET-KEY`"));
    assert_eq!(fleet.push("r2", &[one])["new"], true);
    fleet.json(&["verify", "r2"]);
    assert_eq!(fleet.push("r1", &[one])["new"], false);
    fleet.json(&["verify", "r1"]);
    let releases = fleet.json(&["releases"]);
    assert!(releases.as_array().unwrap().iter().all(|release| release["problem"].is_null()));

    // Without a key of the fleet, no key can be added.
    assert!(
        fleet.refused(&["keys", "--new", two]).contains("has to be signed by the present keys")
    );
    let keys = fleet.json(&["keys", "--new", two, "--sign", one]);
    assert_eq!((&keys["serial"], keys["keys"].as_array().unwrap().len()), (&json!(2), 2));
    fleet.push("r3", &[two]);
    let first = keys["keys"][0].as_str().unwrap();
    fleet.json(&["keys", "--remove", first, "--sign", two]);
    assert!(fleet.refused(&["verify", "r2"]).ends_with(&format!("{first}, which was retired")));
    fleet.json(&["verify", "r3"]);
}

#[test]
fn two_of_three_keys_sign_a_release_and_a_director_only_chooses_among_them() {
    let fleet = Keyed::new();
    let names = ["one.key", "two.key", "three.key", "director.key"].map(|name| fleet.key(name));
    let [one, two, three, director] = names.each_ref().map(String::as_str);
    // Each person makes a key, and passes on its public part.
    let made = |key: &str| {
        let made = fleet.place.json(&["fleet", "keys", "--generate", key]);
        made["key"].as_str().unwrap().to_owned()
    };
    fleet.json(&["init"]);
    fleet.json(&["keys", "--new", one]);
    let (second, third) = (made(two), made(three));
    let change = ["keys", "--add", &second, "--add", &third, "--threshold", "2"];
    let keys = fleet.json(&[&change[..], &["--new-director", director, "--sign", one]].concat());
    assert_eq!((&keys["threshold"], keys["directors"].as_array().unwrap().len()), (&json!(2), 1));

    let pushed = fleet.push("r1", &[two]);
    assert_eq!((&pushed["signatures"], &pushed["needed"]), (&json!(1), &json!(2)));
    let too_few = "1 of 2 required keys have signed it";
    assert!(fleet.refused(&["verify", "r1"]).contains(too_few));
    assert!(fleet.refused(&["pin", "host", "r1", "--sign", director]).contains(too_few));
    let signed = fleet.json(&["sign", "r1", "--sign", director]);
    assert_eq!(signed["signatures"], 1, "the signature of a director does not count for a release");
    assert_eq!(fleet.json(&["sign", "r1", "--sign", three])["signatures"], 2);
    fleet.json(&["verify", "r1"]);

    // The declaration is signed.
    assert!(fleet.refused(&["pin", "host", "r1"]).contains("`--sign SECRET-KEY`"));
    let status = fleet.json(&["pin", "host", "r1", "--sign", director]);
    assert_eq!(status["pins"]["host"], "r1");
    let path = fleet.fleet.0.path().join("channels/main.json");
    let signed = fs::read_to_string(&path).unwrap();
    fs::write(&path, signed.replace("\"host\":\"r1\"", "\"host\":\"r0\"")).unwrap();
    assert!(fleet.refused(&["status"]).contains("it was altered"));
    fs::write(&path, signed.lines().next().unwrap()).unwrap();
    let advice = "requires a signature; `hotswap fleet sign --sign SECRET-KEY` signs it as it is";
    assert!(fleet.refused(&["status"]).ends_with(advice));
    fs::write(&path, signed).unwrap();
    // The director who signed the declaration was retired. So one of the remaining keys signs it again.
    let director_key = keys["directors"][0].as_str().unwrap();
    let retire = ["keys", "--remove", director_key];
    let refused = fleet.refused(&[&retire[..], &["--sign", one]].concat());
    let advice = "give `--sign SECRET-KEY` for each of the present keys that sign the change";
    assert!(refused.ends_with(&format!("{too_few}; {advice}")), "{refused}");
    let now = fleet.json(&[&retire[..], &["--sign", one, "--sign", three]].concat());
    assert_eq!(now["retired"], json!([director_key]));
    assert_eq!(fleet.json(&["status"])["pins"]["host"], "r1");

    // The keys were replaced by keys that no earlier key has signed.
    let keys_file = fleet.fleet.0.path().join("keys.json");
    let mut evil = now.clone();
    let fleet_id = fleet.json(&["status"])["fleet"].clone();
    (evil["serial"], evil["fleet"], evil["threshold"]) = (json!(9), fleet_id, json!(1));
    fs::write(&keys_file, evil.to_string()).unwrap();
    assert!(fleet.refused(&["status"]).contains("change 4 of the keys is missing"));
}
