//! A fleet on a real NATS server: everything that works in a directory, and servers that end or lose data.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    process::Command,
    time::Duration,
};

use hotswap_fleet::{Location, Server, Store};
use rustix::process::Signal;
use serde_json::Value;

use super::{Hosts, TempFiles, hosts_with_release, is_baking, roll_out_good_and_panicking_release};
use crate::support::{
    ManyHosts, NatsServer, Place, PluginDir, Process, host_command, nats_server, repository,
    revision, succeed,
};

/// Three hosts with an agent, and the server of their fleet.
fn hosts() -> (NatsServer, Hosts) {
    let server = NatsServer::start();
    let hosts = Hosts::with_fleet(TempFiles::new(), fleet_args(&server));
    (server, hosts)
}

fn fleet_args(server: &NatsServer) -> Vec<String> {
    vec!["--store".to_owned(), format!("nats://{}/games", server.address())]
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_release_goes_from_one_host_to_all_and_a_bad_one_back() {
    let (_server, hosts) = hosts();
    roll_out_good_and_panicking_release(&hosts);
    assert_eq!(hosts.json(&["status"])["fleet"], "games");

    // Controllers advance a rollout that no command follows. Several may run, and each may be killed at any time.
    let start = || {
        let mut controller = hosts.place.command("hotswap");
        controller.args(hosts.args(&["controller", "--json"]));
        Process::start(controller)
    };
    let (mut controller, other) = (start(), start());
    let r4 = hosts.push(4);
    hosts.json(&["rollout", &r4, "--fast"]);
    hosts.wait_for("a host that tries r4", |status| is_baking(status, "r4"));
    other.signal(Signal::KILL);
    hosts.json(&["promote"]);
    controller.wait_for_json("r4 everywhere", |status| {
        status["rollout"]["release"] == "r4" && status["rollout"]["state"] == "done"
    });
    assert_eq!(hosts.revisions(), ["4", "4", "4"]);
    let audit = hosts.json(&["audit"]);
    let done: Vec<&str> =
        audit.as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    for what in ["init", "push", "rollout", "baking", "done", "rolled_back"] {
        assert!(done.contains(&what), "{what}: {done:?}");
    }
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn an_agent_that_is_started_before_its_server_waits_for_it() {
    let mut server = NatsServer::start();
    let (place, fleet_args) = (Place::new(), fleet_args(&server));
    let fleet_args: Vec<&str> = fleet_args.iter().map(String::as_str).collect();
    place.json(&[&["fleet", "init"], &fleet_args[..]].concat());
    server.kill();
    let plugins = PluginDir::of(&["echo"]);
    let mut host = Process::start(host_command(&place, &plugins));
    host.wait_for_text("listening on");
    let mut agent = place.command("hotswap");
    agent.args(["agent", "--json", "--label", "region=eu"]).args(&fleet_args);
    let mut agent = Process::start(agent);
    agent.wait_for_text("cannot connect");
    server.start_again();
    let report = agent.wait_for_json("the host", |report| report["state"] == "serving");
    assert_eq!(report["labels"]["region"], "eu", "{report}");
    assert!(report["stratum"].as_str().unwrap().ends_with(" region=eu"), "{report}");
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_rollout_continues_when_the_server_is_back() {
    let (mut server, mut hosts) = hosts();
    let r2 = hosts.push(2);
    // The agent gets the declaration, and then cannot fetch the release.
    hosts.agent.signal(Signal::STOP);
    let rollout = hosts.roll_out(&r2);
    hosts.wait_for("its staging", |status| status["rollout"]["state"] == "staging");
    server.kill();
    hosts.agent.signal(Signal::CONT);
    hosts.agent.wait_for_text("the server is not reached");
    server.start_again();
    hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    server.kill();
    // The hosts go on without the server.
    let mut revisions = hosts.revisions();
    revisions.sort();
    assert_eq!(revisions, ["1", "1", "2"]);
    server.start_again();
    let answer = hosts.call_until_end_of(rollout);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn a_server_that_lost_its_data_or_has_an_old_copy_rolls_no_host_back() {
    let (mut server, mut hosts) = hosts();
    server.kill();
    let older = hosts.fleet.0.path().join("older");
    copy(&server.store_dir(), &older);
    server.start_again();
    let r2 = hosts.push(2);
    let answer = hosts.call_until_end_of(hosts.roll_out(&r2));
    assert_eq!(answer.code, Some(0), "{answer:?}");

    // The server starts with an old copy, in which no release is declared.
    server.kill();
    let store = server.store_dir();
    fs::remove_dir_all(&store).unwrap();
    copy(&older, &store);
    server.start_again();
    hosts.agent.wait_for_text("went back from");
    let has_seen_more = |status: &Value| hosts_with_release(status, "r2").len() == 3;
    let status = hosts.wait_for("what the hosts tell anew", has_seen_more);
    assert_eq!(status["release"], Value::Null, "{status}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    // The next declaration is newer than all that any host has seen.
    let r3 = hosts.push(3);
    let pinned = status["hosts"][0]["id"].as_str().unwrap().to_owned();
    let release = hosts.push(2);
    hosts.json(&["rollback", &release]);
    hosts.json(&["pin", &pinned, &r3]);
    hosts.wait_for("a host that runs r3", |status| hosts_with_release(status, "r3").len() == 1);
    let mut revisions = hosts.revisions();
    revisions.sort();
    assert_eq!(revisions, ["2", "2", "3"]);

    // The server starts without data.
    server.kill();
    fs::remove_dir_all(server.store_dir()).unwrap();
    server.start_again();
    hosts.agent.wait_for_text("the server has nothing of it");
    let fleet_args = fleet_args(&server);
    let fleet_args: Vec<&str> = fleet_args.iter().map(String::as_str).collect();
    let error = hosts.place.refusal(1, &[&["fleet", "status"], &fleet_args[..]].concat());
    assert!(error["message"].as_str().unwrap().contains("the server has nothing of it"), "{error}");
    hosts.json(&["init"]);
    hosts.agent.wait_for_text("the fleet here is now games, made at");
    let mut revisions = hosts.revisions();
    revisions.sort();
    assert_eq!(revisions, ["2", "2", "3"]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn each_role_of_the_guide_has_only_its_own_permissions() {
    let guide = fs::read_to_string(repository().join("GUIDE.md")).unwrap();
    let (_, config) = guide.split_once("```text\n# nats-server -c FILE\n").unwrap();
    let (config, _) = config.split_once("```").unwrap();
    let dir = TempFiles::new();
    let roles = ["viewer", "agent", "publisher", "operator"];
    let secrets = roles.iter().fold(config.to_owned(), |config, role| {
        config.replace(&format!("${}", role.to_uppercase()), &format!("secret-of-{role}"))
    });
    let store = dir.0.path().join("store");
    let secrets = secrets.replace("/var/lib/nats", store.to_str().unwrap());
    let config = dir.put("nats.conf", secrets.as_bytes());
    let mut check = Command::new(nats_server());
    check.args(["-t", "-c"]).arg(&config);
    succeed(check);

    let server = NatsServer::start_with(&["--config", config.to_str().unwrap()]);
    let place = Place::new();
    let url = format!("nats://{}", server.address());
    let as_user = |user: &str, args: &[&str]| {
        let creds = dir.put(user, format!("{user}:secret-of-{user}\n").as_bytes());
        let fleet_args = ["--store", &url, "--creds", creds.to_str().unwrap(), "--json"];
        place.hotswap(&[&["fleet"], args, &fleet_args].concat())
    };
    let may = |user: &str, args: &[&str]| {
        let answer = as_user(user, args);
        assert_eq!(answer.code, Some(0), "{user} {args:?}: {answer:?}");
    };
    let may_not = |user: &str, args: &[&str]| {
        let answer = as_user(user, args);
        assert_eq!(answer.code, Some(1), "{user} {args:?}: {answer:?}");
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(error.contains("this user has no permission"), "{user} {args:?}: {error}");
        error
    };
    let file = dir.put("echo.so", &revision("echo", 2));
    let push = ["push", file.to_str().unwrap(), "--id", "r2"];
    may_not("viewer", &["init"]);
    may("operator", &["init"]);
    may_not("agent", &push);
    may("publisher", &push);
    may("viewer", &["verify", "r2"]);
    let pin = ["pin", "somebody", "r2"];
    for user in ["viewer", "agent", "publisher"] {
        may("viewer", &["status"]);
        may_not(user, &pin);
    }
    // A server whose disk is full does not confirm a write either, and answers questions.
    let error = may_not("viewer", &pin);
    assert!(error.contains("the server answers, and ") && error.contains("full"), "{error}");
    may("operator", &pin);
    // An agent accepts consoles, but not those of users who may only read.
    let fleet_of = |user: &str| {
        let creds = dir.put(user, format!("{user}:secret-of-{user}\n").as_bytes());
        let mut server = Server::at(&url).unwrap();
        server.credentials = Some(creds);
        Store::open(&Location::Nats(server)).unwrap()
    };
    let (agent, host) = (fleet_of("agent"), "somebody".parse().unwrap());
    let socket = dir.0.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let _kept = agent.allow_attach(&host, socket).unwrap();
    let attach = |user: &str| {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        fleet_of(user).attach(&host, theirs)
    };
    // The server may not know yet that the agent listens.
    assert!((0..100).any(|_| attach("operator").is_ok()));
    for user in ["viewer", "publisher"] {
        assert!(attach(user).unwrap_err().to_string().contains("this user has no permission"));
    }
    let nobody = dir.put("nobody", b"nobody:nothing\n");
    let fleet_args = ["--store", &url, "--creds", nobody.to_str().unwrap()];
    let error = place.refusal(1, &[&["fleet", "status"], &fleet_args[..]].concat());
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("authorization violation"), "{error}");
    assert!(message.ends_with("with `--creds FILE`"), "{error}");
    let error = place.refusal(1, &["fleet", "status", "--creds", nobody.to_str().unwrap()]);
    assert!(error["message"].as_str().unwrap().contains("`--store nats://HOST:PORT`"), "{error}");
}

/// The same steps as in the example `fleet_thousand`, with fewer hosts. No step may fail.
#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn many_hosts_fetch_and_follow_and_outlive_their_server() {
    let (mut many, _) = ManyHosts::connect(50, 2 << 20);
    println!("all have fetched after {:?}", many.fetch(Duration::ZERO).worst());
    // Together they have fetched 100 MiB. The server keeps this only in its files, and not in memory.
    let memory = most_memory_mib(many.server.pid());
    assert!(memory < 150, "{memory} MiB");
    for release in ["r2", "r1"] {
        let times = many.declare(release);
        println!("{release}: half after {:?}, all after {:?}", times.percentile(50), times.worst());
        assert_eq!(many.running(release), 50);
    }
    many.report();
    many.lose_server(Duration::ZERO);
    assert_eq!(many.running("r1"), 50);
    many.fetch(Duration::ZERO);
    many.declare("r2");
    assert_eq!(many.running("r2"), 50);
}

fn most_memory_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
