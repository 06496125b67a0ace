//! The services of an agent for its hosts: metrics and consoles.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
};

use hotswap_fleet::{HostReport, Id, Location, Server, Store};
use serde_json::{Value, json};

use super::{Hosts, TempFiles, hosts_with_release, is_baking};
use crate::support::{NatsServer, PATIENCE, Process, get};

/// The samples of a text in the format of Prometheus, by name and labels.
fn parse_samples(text: &str) -> BTreeMap<String, f64> {
    let mut declared = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some((name, sort)) =
                comment.strip_prefix("TYPE ").and_then(|it| it.split_once(' '))
            {
                assert!(["counter", "gauge", "histogram"].contains(&sort), "{line}");
                declared.push(name.to_owned());
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let last = declared.last().unwrap_or_else(|| panic!("no `TYPE` line precedes {line:?}"));
        assert!(name.starts_with(last) && name.ends_with('}'), "{line}");
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{line}");
    }
    samples
}

fn sum(samples: &BTreeMap<String, f64>, beginning: &str, containing: &str) -> f64 {
    let found =
        samples.iter().filter(|(name, _)| name.starts_with(beginning) && name.contains(containing));
    found.map(|(_, value)| value).sum()
}

#[test]
fn an_agent_serves_metrics() {
    let fleet = TempFiles::new();
    let fleet_args = vec!["--fleet".to_owned(), fleet.0.path().to_str().unwrap().to_owned()];
    let mut hosts = Hosts::with_agent(fleet, fleet_args, &["--metrics", "0"]);
    let reported =
        hosts.agent.wait_for_json("where metrics are", |line| line["metrics"].is_string());
    let url = reported["metrics"].as_str().unwrap().to_owned();
    let address = url.strip_prefix("http://").and_then(|it| it.strip_suffix("/metrics"));
    let address: SocketAddr = address.unwrap_or_else(|| panic!("{url}")).parse().unwrap();
    assert!(address.ip().is_loopback());
    let metrics = || {
        let (status, text) = get(address, "/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        parse_samples(&text)
    };
    let first = metrics();
    assert_eq!(sum(&first, "hotswap_host_state{", "state=\"serving\""), 3.0, "{first:?}");
    assert_eq!(sum(&first, "hotswap_fleet_reached{", "channel=\"main\""), 1.0);
    assert_eq!(sum(&first, "hotswap_version_info{", "plugin=\"echo\""), 3.0);
    assert_eq!(
        sum(&first, "hotswap_rollout_state{", ""),
        0.0,
        "before the first rollout, it has no state"
    );

    // While a release is tried, the agent asks hosts more often.
    let r2 = hosts.push(2);
    let rollout = hosts.roll_out(&r2);
    let status = hosts.wait_for("a host that tries r2", |status| is_baking(status, "r2"));
    let tries = hosts_with_release(&status, "r2")[0]["id"].as_str().unwrap().to_owned();
    let pid = u32::try_from(hosts_with_release(&status, "r2")[0]["pid"].as_u64().unwrap()).unwrap();
    hosts.call(pid, &["explode", "boom"]);
    assert_eq!(rollout.join().unwrap().code, Some(5));
    let now = metrics();
    let state = "state=\"rolled_back\"";
    assert_eq!(sum(&now, "hotswap_rollout_state{", state), 1.0, "{now:?}");
    assert_eq!(sum(&now, "hotswap_rollout_steps{", "release=\"r2\""), 4.0);
    // It runs the earlier build again, as a new version.
    let host = format!("host=\"{tries}\"");
    assert_eq!(sum(&now, "hotswap_panics_total{", &host), 0.0);
    for pid in hosts.hosts.iter().map(Process::pid) {
        hosts.call(pid, &["revision", "--repeat", "20"]);
    }
    let reported = hosts.wait_for("calls", |status| {
        let health = |host: &Value| host["health"]["echo"]["calls"].as_u64() >= Some(20);
        status["hosts"].as_array().unwrap().iter().all(health)
    });
    let now = metrics();
    let calls: u64 = reported["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["health"]["echo"]["calls"].as_u64().unwrap())
        .sum();
    assert!(sum(&now, "hotswap_calls_total{", "plugin=\"echo\"") >= calls as f64, "{now:?}");
    let buckets: Vec<f64> = { now.iter() }
        .filter(|(name, _)| {
            name.starts_with("hotswap_timed_call_seconds_bucket{") && name.contains(&host)
        })
        .map(|(_, calls)| *calls)
        .collect();
    let timed = sum(&now, "hotswap_timed_call_seconds_count{", &host);
    assert!(timed > 0.0 && buckets.len() == 26 && buckets.iter().all(|it| *it <= timed), "{now:?}");
    let infinite = sum(
        &now,
        "hotswap_timed_call_seconds_bucket{",
        &format!("{host},plugin=\"echo\",le=\"+Inf\""),
    );
    assert_eq!(infinite, timed);
    assert_eq!(get(address, "/other").unwrap().0, 404);
}

#[test]
fn a_console_attaches_to_a_host_by_its_name_in_the_fleet() {
    let hosts = Hosts::start();
    let status = hosts.json(&["status"]);
    let host = &status["hosts"][1];
    let mut console = hosts.place.command("hotswap-console");
    console.args(["attach", host["id"].as_str().unwrap(), "--plain"]).args(&hosts.fleet_args);
    let pid = host["pid"].to_string();
    Process::start(console).wait_for_text(&pid);
    // A name that no host of the fleet has can be a host of this machine.
    let mut console = hosts.place.command("hotswap-console");
    console.args(["attach", "nobody", "--plain"]).args(&hosts.fleet_args);
    let answer = Process::start(console).finish();
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(answer.stderr.contains("no host is named nobody"), "{answer:?}");
}

fn open_store(server: &NatsServer) -> Store {
    let url = format!("nats://{}/games", server.address());
    Store::open(&Location::Nats(Server::at(&url).unwrap())).unwrap()
}

/// The answer of a host to a greeting through its agent.
fn greet(fleet: &Store, host: &Id) -> Value {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    fleet.attach(host, theirs).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "hello",
        "params": { "protocol": hotswap_protocol::PROTOCOL_VERSION, "client": "test" },
    });
    writeln!(ours, "{hello}").unwrap();
    let mut answer = String::new();
    BufReader::new(ours).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
#[ignore = "needs a NATS server; `.ci/run` has one"]
fn through_nats_a_console_attaches_to_a_host_of_another_machine() {
    let server = NatsServer::start();
    let fleet_args = vec!["--store".to_owned(), format!("nats://{}/games", server.address())];
    let hosts = Hosts::with_agent(TempFiles::new(), fleet_args, &["--attach"]);
    let status = hosts.json(&["status"]);
    let host: Id = status["hosts"][0]["id"].as_str().unwrap().parse().unwrap();
    let (fleet, pid) = (open_store(&server), &status["hosts"][0]["pid"]);
    let answer = greet(&fleet, &host);
    assert_eq!(answer["result"]["host"]["pid"], *pid, "{answer}");

    // A host of another machine; this test acts as its agent.
    let (reports, _) = fleet.hosts(&"main".parse().unwrap()).unwrap();
    let real = reports.into_iter().find(|report| report.id == host).unwrap();
    let far: Id = "far-away".parse().unwrap();
    let socket = real.socket.clone().unwrap();
    let machine = Some("another".to_owned());
    fleet.report(&HostReport { id: far.clone(), machine, socket: None, ..real }).unwrap();
    let console = || {
        let mut console = hosts.place.command("hotswap-console");
        console.args(["attach", "far-away", "--plain"]).args(&hosts.fleet_args);
        console
    };
    let answer = Process::start(console()).finish();
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("the agent of the host does not run, or was started without `--attach`"),
        "{answer:?}"
    );
    let kept = fleet.allow_attach(&far, socket);
    assert!(kept.is_some());
    let mut attached = Process::start(console());
    attached.wait_for_text(&pid.to_string());
    // The console gets the events of that host.
    hosts.call(u32::try_from(pid.as_u64().unwrap()).unwrap(), &["explode", "seen from afar"]);
    attached.wait_for_text("seen from afar");
    drop(kept);
}
