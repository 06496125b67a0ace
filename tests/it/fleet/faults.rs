//! Rollouts survive hosts, agents and controllers that are killed in each phase, and plugins that hang or become
//! slow.

use std::{
    fs::{self, OpenOptions},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::Command,
    sync::mpsc::channel,
    thread,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Hosts, TempFiles, agent_command, hosts_with_release, is_baking};
use crate::support::{Gate, PATIENCE, Place, PluginDir, Process, host_command, revision, succeed};

/// A fleet in a directory whose hosts wait at a gate in the `on_init` of `gated`, if there is one.
fn hosts_with_gate(init: Option<&Gate>) -> Hosts {
    let fleet = TempFiles::new();
    let fleet_args = vec!["--fleet".to_owned(), fleet.0.path().to_str().unwrap().to_owned()];
    let variables: Vec<(&str, &str)> =
        init.iter().map(|gate| ("GATED_INIT", gate.path())).collect();
    Hosts::with_environment(fleet, fleet_args, &[], &variables)
}

impl Hosts {
    /// Pushes revisions of `echo` and `gated` as a release; returns the digest of that of `gated`.
    fn push_gated(&self, release: &str, echo: u32, gated: u32, more: &[&str]) -> String {
        let artifacts = TempFiles::new();
        artifacts.put("echo.so", &revision("echo", echo));
        artifacts.put("gated.so", &revision("gated", gated));
        let push = ["push", artifacts.0.path().to_str().unwrap(), "--id", release];
        assert_eq!(self.json(&[&push[..], more].concat())["new"], true);
        let release = self.json(&["verify", release]);
        let plugins = release["plugins"].as_array().unwrap();
        let gated = plugins.iter().find(|plugin| plugin["name"] == "gated").unwrap();
        gated["artifacts"][0]["sha256"].as_str().unwrap().to_owned()
    }

    fn host(&self, pid: &Value) -> &Process {
        self.hosts.iter().find(|host| json!(host.pid()) == *pid).unwrap()
    }

    fn cause(&self) -> Value {
        self.json(&["status"])["rollout"]["cause"].clone()
    }

    /// The path of an artifact that the agent has fetched.
    fn fetched_path(&self, sha256: &str) -> PathBuf {
        let agents = fs::read_dir(self.place.state_dir().join("hotswap/agent")).unwrap();
        let agents: Vec<PathBuf> = agents.map(|dir| dir.unwrap().path()).collect();
        assert_eq!(agents.len(), 1, "{agents:?}");
        agents[0].join(format!("blobs/{sha256}.so"))
    }
}

/// A pipe in the place of a file: its reader waits until something is written.
struct Pipe(PathBuf);

impl Pipe {
    fn at(path: PathBuf) -> Self {
        let mut make = Command::new("mkfifo");
        make.arg(&path);
        succeed(make);
        Self(path)
    }

    /// Waits for a reader, which then keeps waiting until the returned value is dropped.
    fn wait_for_reader(&self) -> fs::File {
        let (tell, opened) = channel();
        let path = self.0.clone();
        thread::spawn(move || tell.send(OpenOptions::new().write(true).open(path)));
        opened.recv_timeout(PATIENCE).expect("a reader opens the pipe").unwrap()
    }
}

#[test]
fn a_host_that_is_killed_while_its_agent_fetches_for_it_is_left_out() {
    let hosts = hosts_with_gate(None);
    let sha256 = hosts.push_gated("r2", 2, 1, &[]);
    let pipe = Pipe::at(hosts.fetched_path(&sha256));
    let rollout = hosts.roll_out("r2");
    let fetches = pipe.wait_for_reader();
    let killed = &hosts.hosts[0];
    killed.signal(Signal::KILL);
    // Its end is reported while the agent still fetches for the other hosts.
    let has_died = |status: &Value| {
        let host = status["hosts"].as_array().unwrap().iter().find(|it| it["pid"] == killed.pid());
        status["rollout"]["state"] == "staging" && host.is_some_and(|it| it["state"] == "died")
    };
    hosts.wait_for("a host that died", has_died);
    drop(fetches);
    let answer = hosts.call_until_end_of(rollout);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(hosts.revisions()[1..], ["2", "2"]);
}

#[test]
fn a_host_that_is_killed_while_it_loads_causes_a_rollback() {
    let gate = Gate::new();
    let hosts = hosts_with_gate(Some(&gate));
    hosts.push_gated("r2", 2, 1, &[]);
    let rollout = hosts.roll_out("r2");
    let loads = gate.arrival();
    let status = hosts.wait_for("a host that loads", |status| {
        status["hosts"].as_array().unwrap().iter().any(|host| host["state"] == "applying")
    });
    let all = status["hosts"].as_array().unwrap();
    let applying = all.iter().find(|host| host["state"] == "applying").unwrap();
    hosts.host(&applying["pid"]).signal(Signal::KILL);
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let cause = hosts.cause();
    assert_eq!((&cause["kind"], &cause["plugin"]), (&json!("crashed"), &json!("gated")), "{cause}");
    assert_eq!(hosts.revisions().iter().filter(|revision| *revision == "1").count(), 2);
    drop(loads);

    // No other host loads that build, even as a part of another release.
    hosts.push_gated("r3", 3, 1, &[]);
    let answer = hosts.roll_out("r3").join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let cause = hosts.cause();
    assert_eq!(
        (&cause["problem"], &cause["plugin"]),
        (&json!("quarantined"), &json!("gated")),
        "{cause}"
    );
}

#[test]
fn a_plugin_that_hangs_in_on_init_goes_to_one_host_and_is_rolled_back() {
    let gate = Gate::new();
    let hosts = hosts_with_gate(Some(&gate));
    hosts.push_gated("r2", 2, 1, &[]);
    let rollout = hosts.roll_out("r2");
    let _hangs = gate.arrival();
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    let cause = hosts.cause();
    assert_eq!(
        (&cause["kind"], &cause["problem"], &cause["plugin"]),
        (&json!("refused"), &json!("load"), &json!("gated")),
        "{cause}"
    );
    let message = cause["message"].as_str().unwrap();
    assert!(message.contains("on_init: did not return within"), "{message}");
    assert!(!gate.has_arrivals(), "a second host loads the candidate");
    // That host, too, goes on with the build that it had.
    assert_eq!(hosts.revisions(), ["1", "1", "1"]);
    let status = hosts.json(&["status"]);
    assert!(hosts_with_release(&status, "r2").is_empty(), "{status}");
}

#[test]
fn a_release_that_becomes_slow_is_rolled_back() {
    let hosts = hosts_with_gate(None);
    hosts.push_gated("r2", 2, 1, &[]);
    let answer = hosts.call_until_end_of(hosts.roll_out("r2"));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let work = |pid: u32| {
        let args = ["invoke", "--host", &pid.to_string(), "gated", "work", "--repeat", "60000"];
        let answer = hosts.place.hotswap(&args);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    };
    hosts.hosts.iter().for_each(|host| work(host.pid()));

    hosts.push_gated("r3", 2, 2, &[]);
    hosts.json(&["rollout", "r3", "--fast"]);
    let status = hosts.wait_for("a host that tries r3", |status| is_baking(status, "r3"));
    // In a test, the first calls suffice to go on, but they are too few to show that the release is slow.
    hosts.json(&["pause"]);
    let tries =
        u32::try_from(hosts_with_release(&status, "r3")[0]["pid"].as_u64().unwrap()).unwrap();
    work(tries);
    hosts.wait_for("its end", |status| status["rollout"]["state"] == "rolled_back");
    let cause = hosts.cause();
    assert_eq!((&cause["kind"], &cause["plugin"]), (&json!("slower"), &json!("gated")), "{cause}");
    assert_eq!(hosts.json(&["status"])["release"], "r2");
    hosts.wait_for("r2 everywhere", |status| hosts_with_release(status, "r2").len() == 3);
}

#[test]
fn an_agent_that_is_killed_while_it_fetches_stages_or_loads_continues_afterwards() {
    let (init, open) = (Gate::new(), Gate::new());
    let mut hosts = hosts_with_gate(Some(&init));
    let sha256 = hosts.push_gated("r2", 2, 1, &[]);
    let pipe = Pipe::at(hosts.fetched_path(&sha256));
    let rollout = hosts.roll_out("r2");
    let start = |hosts: &Hosts| {
        let mut agent = agent_command(&hosts.place, &hosts.fleet_args, &[]);
        agent.env("GATED_OPEN", open.path());
        Process::start(agent)
    };
    let fetches = pipe.wait_for_reader();
    hosts.agent.signal(Signal::KILL);
    hosts.agent.end();
    drop(fetches);
    fs::remove_file(&pipe.0).unwrap();

    hosts.agent = start(&hosts);
    let stages = open.arrival();
    hosts.agent.signal(Signal::KILL);
    hosts.agent.end();
    drop((stages, open));

    hosts.agent = Process::start(agent_command(&hosts.place, &hosts.fleet_args, &[]));
    let loads = init.arrival();
    hosts.agent.signal(Signal::KILL);
    hosts.agent.end();
    hosts.agent = Process::start(agent_command(&hosts.place, &hosts.fleet_args, &[]));
    hosts.agent.wait_for_json("a host that is being given it", |host| host["state"] == "applying");
    assert!(!init.has_arrivals(), "the release is loaded a second time");
    drop((loads, init));
    let answer = hosts.call_until_end_of(rollout);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    let status = hosts.json(&["status"]);
    let states: Vec<&Value> =
        hosts_with_release(&status, "r2").iter().map(|host| &host["state"]).collect();
    assert_eq!(states, ["serving"; 3], "{status}");
}

#[test]
fn a_killed_host_is_reported_even_if_its_files_are_removed() {
    let mut hosts = Hosts::start();
    let r2 = hosts.push(2);
    hosts.json(&["rollback", &r2]);
    let status =
        hosts.wait_for("r2 everywhere", |status| hosts_with_release(status, "r2").len() == 3);
    let killed = &hosts_with_release(&status, "r2")[0]["pid"];
    hosts.hosts.retain_mut(|host| {
        let is_killed = json!(host.pid()) == *killed;
        if is_killed {
            host.signal(Signal::KILL);
            host.end();
        }
        !is_killed
    });
    // `hotswap hosts` removes the socket of the host that has ended.
    let listed = hosts.place.json(&["hosts"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    hosts.wait_for("a host that died", |status| {
        let mut all = status["hosts"].as_array().unwrap().iter();
        all.any(|host| host["pid"] == *killed && host["state"] == "died")
    });
}

#[test]
fn a_host_that_ends_while_no_agent_runs_is_reported_by_the_next_agent() {
    let mut hosts = Hosts::start();
    let r2 = hosts.push(2);
    hosts.json(&["rollout", &r2, "--fast"]);
    let status = hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    let tries = hosts_with_release(&status, "r2")[0].clone();
    // A reload by hand is answered with advice on how to keep its result.
    let other = status["hosts"].as_array().unwrap().iter().find(|host| host["id"] != tries["id"]);
    let (id, pid) = (other.unwrap()["id"].as_str().unwrap(), other.unwrap()["pid"].to_string());
    let reloaded = hosts.place.hotswap(&["reload", "--host", &pid]);
    let advice = format!("`hotswap fleet pin {id} RELEASE {}`", hosts.fleet_args.join(" "));
    assert!(reloaded.stderr.contains(&advice), "{reloaded:?}");

    hosts.agent.signal(Signal::KILL);
    hosts.agent.end();
    hosts.host(&tries["pid"]).signal(Signal::KILL);
    // A host that ran before the machine was restarted: another process has its process id now.
    let reports = hosts.fleet.0.path().join("hosts");
    let report = fs::read(reports.join(format!("{id}.json"))).unwrap();
    let mut report: Value = serde_json::from_slice(&report).unwrap();
    let socket = reports.join("no-socket");
    (report["id"], report["pid"], report["socket"]) = (json!("before-1"), json!(1), json!(socket));
    fs::write(reports.join("before-1.json"), report.to_string()).unwrap();
    hosts.agent = Process::start(agent_command(&hosts.place, &hosts.fleet_args, &[]));
    // The result is the same as if an agent had seen it: another host tries the release.
    let is_replaced = |status: &Value| {
        let mut states =
            hosts_with_release(status, "r2").into_iter().map(|host| (&host["id"], &host["state"]));
        states.any(|(id, state)| *id == tries["id"] && *state == "died")
            && hosts_with_release(status, "r2").iter().any(|host| host["state"] == "serving")
            && status["hosts"].as_array().unwrap().iter().all(|host| host["id"] != "before-1")
    };
    hosts.wait_for("another host that tries r2", is_replaced);
}

#[test]
fn controllers_that_are_killed_in_each_phase_are_replaced_by_others() {
    let (init, open) = (Gate::new(), Gate::new());
    let mut hosts = hosts_with_gate(Some(&init));
    let keys = TempFiles::new();
    let key = |name: &str| keys.0.path().join(name).to_str().unwrap().to_owned();
    let (release_key, director) = (key("release.key"), key("director.key"));
    // If there is a director, agents decide nothing.
    hosts.json(&["keys", "--new", &release_key]);
    hosts.json(&["keys", "--new-director", &director, "--sign", &release_key]);
    hosts.agent.signal(Signal::KILL);
    hosts.agent.end();
    let mut agent = agent_command(&hosts.place, &hosts.fleet_args, &[]);
    agent.env("GATED_OPEN", open.path());
    hosts.agent = Process::start(agent);
    hosts.push_gated("r2", 2, 1, &["--sign", &release_key]);
    hosts.json(&["rollout", "r2", "--fast", "--sign", &director]);
    let controller = || {
        let mut controller = hosts.place.command("hotswap");
        controller.args(hosts.args(&["controller", "--json", "--sign", &director]));
        Process::start(controller)
    };
    let until = |mut controller: Process, phase: &str| {
        controller.wait_for_json(phase, |status| status["rollout"]["state"] == phase);
        controller.signal(Signal::KILL);
        controller.end();
    };
    assert_eq!(hosts.json(&["status"])["rollout"]["state"], "checking");
    until(controller(), "staging");
    drop(open);
    until(controller(), "activating");
    let loads = init.arrival();
    drop((loads, init));
    until(controller(), "baking");
    let mut last = controller();
    let mut is_done = false;
    while !is_done {
        hosts.hosts.iter().for_each(|host| drop(hosts.call(host.pid(), &["revision"])));
        is_done = hosts.json(&["status"])["rollout"]["state"] == "done";
    }
    last.wait_for_json("its end", |status| status["rollout"]["state"] == "done");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    let audit = hosts.json(&["audit"]);
    let said =
        |what: &str| audit.as_array().unwrap().iter().filter(|entry| entry["what"] == what).count();
    for what in ["staging", "promoting", "done"] {
        assert_eq!(said(what), 1, "{what}: {audit}");
    }
}

#[test]
fn commands_end_with_advice_if_their_host_is_stopped() {
    let (place, plugins, files) = (Place::new(), PluginDir::of(&["echo"]), TempFiles::new());
    let mut host = Process::start(host_command(&place, &plugins));
    host.wait_for_text("listening on");
    let pid = host.pid().to_string();
    let held = files.0.path().join("held");
    let listener = UnixListener::bind(&held).unwrap();
    let mut call = place.command("hotswap");
    call.args(["invoke", "--host", &pid, "echo", "hold", held.to_str().unwrap()]);
    let call = Process::start(call);
    let _held = listener.accept().unwrap();
    let mut follow = place.command("hotswap");
    follow.args(["logs", "--host", &pid, "--follow"]);
    let mut follow = Process::start(follow);
    follow.wait_for_text("echo");
    host.signal(Signal::STOP);
    let stopped = format!("the host with process id {pid} has not answered for ");
    let advice = format!("`kill -CONT {pid}` continues it");
    for command in [&["status"][..], &["status", "--host", &pid], &["reload"]] {
        let message = place.refusal(3, command)["message"].to_string();
        assert!(message.contains(&stopped) && message.contains(&advice), "{message}");
    }
    let listed = place.hotswap(&["hosts"]);
    assert!(listed.code == Some(0) && listed.stderr.contains(&stopped), "{listed:?}");
    // The call had begun before.
    let answer = call.finish();
    assert!(answer.stderr.contains(&advice), "{answer:?}");
    // Records may follow.
    follow.wait_for_text(&advice);
    host.signal(Signal::CONT);
    follow.wait_for_text("the host answers again");
    host.signal(Signal::KILL);
    assert_eq!(follow.finish().code, Some(0));
}

#[test]
fn a_fleet_that_is_gone_for_a_while_is_reported_once_and_once_when_it_is_back() {
    let mut hosts = Hosts::start();
    let r2 = hosts.push(2);
    hosts.json(&["rollback", &r2]);
    hosts.wait_for("r2 everywhere", |status| hosts_with_release(status, "r2").len() == 3);
    let fleet = hosts.fleet.0.path().to_owned();
    let away = fleet.with_extension("away");
    fs::rename(&fleet, &away).unwrap();
    let trouble = hosts.agent.wait_for_json("its trouble", |line| line["trouble"].is_string());
    assert!(trouble["trouble"].as_str().unwrap().contains("the fleet is gone"), "{trouble}");
    // The reports of these hosts cannot be stored now.
    for host in &hosts.hosts[..2] {
        host.signal(Signal::KILL);
        hosts
            .agent
            .wait_for_json("its end", |line| line["state"] == "died" && line["pid"] == host.pid());
    }
    fs::rename(&away, &fleet).unwrap();
    hosts.agent.wait_for_json("the end of the trouble", |line| line["recovered"].is_string());
    hosts.wait_for("both reports", |status| {
        let all = status["hosts"].as_array().unwrap().iter();
        all.filter(|host| host["state"] == "died").count() == 2
    });
    hosts.agent.signal(Signal::TERM);
    let said = hosts.agent.finish().stdout;
    let count = |what: &str| said.lines().filter(|line| line.contains(what)).count();
    assert_eq!((count("\"trouble\""), count("\"recovered\"")), (1, 1), "{said}");
}

#[test]
fn a_declaration_that_went_back_is_shown_as_an_older_copy() {
    let hosts = Hosts::start();
    let r2 = hosts.push(2);
    let declaration = hosts.fleet.0.path().join("channels/main.json");
    let earlier = fs::read(&declaration).unwrap();
    let status = hosts.json(&["rollback", &r2]);
    assert_eq!(status["outdated"], false, "{status}");
    hosts.wait_for("r2 everywhere", |status| hosts_with_release(status, "r2").len() == 3);
    let beside = hosts.fleet.0.path().join("earlier");
    fs::write(&beside, earlier).unwrap();
    fs::rename(&beside, &declaration).unwrap();
    let status = hosts.json(&["status"]);
    assert_eq!((&status["outdated"], &status["release"]), (&json!(true), &Value::Null), "{status}");
    assert_eq!(hosts.revisions(), ["2", "2", "2"]);
    hosts.json(&["rollback", &r2]);
    hosts.wait_for("a newer declaration", |status| {
        status["outdated"] == false && hosts_with_release(status, "r2").len() == 3
    });
}

#[test]
fn a_crash_counts_even_if_the_agent_cannot_store_it() {
    let hosts = Hosts::start();
    let r2 = hosts.push(2);
    let rollout = hosts.roll_out(&r2);
    let status = hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    let tries = hosts_with_release(&status, "r2")[0]["pid"].clone();
    let socket = hosts.fleet.0.path().join("held");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut call = hosts.place.command("hotswap");
    call.args(["invoke", "--host", &tries.to_string(), "echo", "hold", socket.to_str().unwrap()]);
    let _call = Process::start(call);
    let _held = listener.accept().unwrap();
    // The directory of the agent's state is gone, as if its disk were full.
    let state = hosts.place.state_dir().join("hotswap/agent");
    fs::rename(&state, state.with_extension("away")).unwrap();
    hosts.host(&tries).signal(Signal::KILL);
    let answer = rollout.join().unwrap();
    assert_eq!(answer.code, Some(5), "{answer:?}");
    assert_eq!(hosts.cause()["kind"], "crashed");
    let others = |status: &Value| {
        let all = status["hosts"].as_array().unwrap().iter();
        all.filter(|host| host["state"] == "serving" && host["release"].is_null()).count()
    };
    hosts.wait_for("the others", |status| others(status) == 2);
}

#[test]
fn an_agent_keeps_no_artifacts_of_releases_that_are_long_gone() {
    let hosts = Hosts::start();
    let mut fetched = Vec::new();
    for number in 2..6 {
        let release = hosts.push(number);
        let verified = hosts.json(&["verify", &release]);
        let sha256 = verified["plugins"][0]["artifacts"][0]["sha256"].as_str().unwrap().to_owned();
        hosts.json(&["rollback", &release]);
        hosts.wait_for("it everywhere", |status| hosts_with_release(status, &release).len() == 3);
        fetched.push(hosts.fetched_path(&sha256));
    }
    let is_there: Vec<bool> = fetched.iter().map(|path| path.exists()).collect();
    assert_eq!((is_there[0], is_there[2], is_there[3]), (false, true, true));
}

#[test]
fn the_first_end_during_a_load_of_the_declared_release_is_an_accident_and_the_second_a_crash() {
    let open = Gate::new();
    let fleet = TempFiles::new();
    let fleet_args = vec!["--fleet".to_owned(), fleet.0.path().to_str().unwrap().to_owned()];
    let hosts = Hosts::with_environment(fleet, fleet_args, &[], &[("GATED_OPEN", open.path())]);
    hosts.push_gated("r2", 2, 1, &[]);
    // All hosts load it, without a trial.
    hosts.json(&["rollback", "r2"]);
    let waiting: Vec<_> = (0..3).map(|_| open.arrival()).collect();
    for (host, state) in [(0, "died"), (1, "crashed")] {
        let pid = hosts.hosts[host].pid();
        hosts.hosts[host].signal(Signal::KILL);
        hosts.wait_for(state, |status| {
            let mut all = status["hosts"].as_array().unwrap().iter();
            all.any(|host| host["pid"] == pid && host["state"] == state)
        });
    }
    // The host that has begun to load it goes on.
    drop((waiting, open));
    let status = hosts.wait_for("r2", |status| !hosts_with_release(status, "r2").is_empty());
    assert_eq!(hosts_with_release(&status, "r2")[0]["pid"], hosts.hosts[2].pid(), "{status}");
}

#[test]
fn an_agent_reports_nothing_to_a_fleet_that_has_replaced_its_own() {
    let mut hosts = Hosts::start();
    let fleet = hosts.fleet.0.path().to_owned();
    fs::rename(&fleet, fleet.with_extension("away")).unwrap();
    hosts.json(&["init"]);
    let trouble = hosts.agent.wait_for_json("its trouble", |line| {
        line["trouble"].as_str().is_some_and(|text| text.contains("the fleet here is now"))
    });
    assert!(trouble["trouble"].as_str().unwrap().contains("restart the agents"), "{trouble}");
    let pid = hosts.hosts[0].pid();
    hosts.hosts[0].signal(Signal::KILL);
    hosts.agent.wait_for_json("its end", |line| line["state"] == "died" && line["pid"] == pid);
    assert_eq!(hosts.json(&["status"])["hosts"], json!([]));
}
