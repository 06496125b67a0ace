//! The names that a user gives to fleets.

use std::fs;

use serde_json::json;

use super::{Hosts, TempFiles};
use crate::support::{Place, Process};

#[test]
fn a_fleet_is_found_by_the_name_that_this_user_gave_it() {
    let (place, dir) = (Place::new(), TempFiles::new());
    let dir = dir.0.path().join("fleet of mine").to_str().unwrap().to_owned();
    let file = place.state_dir().join("hotswap/fleets.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "# mine\n").unwrap();
    let named = place.json(&["fleet", "name", "prod", "--fleet", &dir]);
    assert_eq!(named["fleets"]["prod"]["at"], dir.as_str(), "{named}");
    let made = place.json(&["fleet", "init", "--fleet", "prod"]);
    assert!(std::path::Path::new(&dir).join("fleet.json").exists());
    let status = |args: &[&str]| place.json(&[&["fleet", "status"], args].concat());
    assert_eq!(status(&["--fleet", "prod"])["fleet"], made["fleet"]);
    let mut by_environment = place.command("hotswap");
    by_environment.args(["fleet", "status", "--json"]).env("HOTSWAP_FLEET", "prod");
    assert_eq!(Process::start(by_environment).finish().json()["fleet"], made["fleet"]);

    // Without a name, the command uses the fleet that was chosen.
    let error = place.refusal(1, &["fleet", "status"]);
    assert!(error["message"].as_str().unwrap().contains("there is no fleet"), "{error}");
    assert_eq!(place.json(&["fleet", "use", "prod"])["use"], "prod");
    assert_eq!(status(&[])["fleet"], made["fleet"]);
    let elsewhere = place.refusal(1, &["fleet", "status", "--fleet", "./prod"]);
    assert!(elsewhere["message"].as_str().unwrap().contains("/prod: there is no fleet"));

    let error = place.refusal(1, &["fleet", "status", "--fleet", "prodd"]);
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("no fleet is named prodd"), "{message}");
    assert!(message.contains("named fleets: prod "), "{message}");
    let error = place.refusal(1, &["fleet", "use", "prodd"]);
    assert!(error["message"].as_str().unwrap().contains("no fleet is named prodd"), "{error}");

    // The credentials of this user are stored with the name.
    let url = "nats://127.0.0.1:1/games";
    let far = ["fleet", "name", "far", "--store", url, "--creds", "/somewhere/creds"];
    let names = place.json(&far);
    assert_eq!(names["fleets"]["far"], json!({ "at": url, "creds": "/somewhere/creds" }));
    let error = place.refusal(1, &["fleet", "status", "--fleet", "far"]);
    assert!(error["message"].as_str().unwrap().contains("/somewhere/creds"), "{error}");

    let names = place.json(&["fleet", "forget", "prod"]);
    assert_eq!((&names["use"], &names["fleets"]["prod"]), (&json!(null), &json!(null)));
    assert!(fs::read_to_string(&file).unwrap().contains("# mine\n"));
    fs::write(&file, "use = \"prod\"\n").unwrap();
    let error = place.refusal(1, &["fleet", "status"]);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("fleets.toml: `use` names prod"), "{message}");
}

#[test]
fn a_host_names_its_agent_and_accepts_no_second_one() {
    let hosts = Hosts::start();
    let dir = hosts.fleet.0.path().to_str().unwrap();
    hosts.json(&["name", "prod"]);
    let status = hosts.json(&["status"]);
    let (host, pid) = (&status["hosts"][1]["id"], status["hosts"][1]["pid"].to_string());
    let reported = hosts.place.json(&["status", "--host", &pid]);
    let agent = json!({ "fleet": dir, "channel": "main", "host": host, "pid": hosts.agent.pid() });
    assert_eq!(reported["host"]["agent"], agent);
    // A reload by hand is answered with what the agent will do about it.
    let answer = hosts.place.hotswap(&["reload", "--host", &pid]);
    let name = format!("the agent with pid {} for channel main", hosts.agent.pid());
    assert!(answer.stderr.contains(&name), "{answer:?}");
    assert!(answer.stderr.contains(&format!("fleet pin {}", host.as_str().unwrap())), "{answer:?}");

    let other = TempFiles::new();
    let other = ["--fleet", other.0.path().to_str().unwrap()];
    hosts.place.json(&[&["fleet", "init"], &other[..]].concat());
    let mut second = hosts.place.command("hotswap");
    second.args(["agent", "--json"]).args(other);
    let mut second = Process::start(second);
    let trouble = second.wait_for_text("trouble");
    assert!(trouble.contains(&name) && trouble.contains(dir), "{trouble}");

    // The host is chosen by its name in a named fleet.
    let mut console = hosts.place.command("hotswap-console");
    console.args(["attach", "--fleet", "prod", host.as_str().unwrap(), "--plain"]);
    Process::start(console).wait_for_text(&pid);
}
