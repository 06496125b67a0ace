//! Live functions and types: a job that was queued before a reload is handled by the new code.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use hotswap_engine::{Data, Value, args, plugin::JsonSchema, protocol::VersionState};
use insta::assert_snapshot;
use sample_api::JobQueue;
use serde_json::json;

use crate::support::{Host, PluginDir, renamed};

/// A job in the host's queue: the name of a live function, and the data for it.
type Job = (&'static str, Data);

fn fire(rounds: u32) -> Data {
    Data::wrap(&LiveFire { rounds }).unwrap()
}

/// The host's own type for a job.
#[derive(serde::Serialize, JsonSchema)]
#[schemars(crate = "hotswap_engine::plugin::schemars")]
struct LiveFire {
    rounds: u32,
}

/// Runs all jobs of the queue with the newest code, and returns their answers.
fn run_jobs(host: &Host, queue: &mut VecDeque<Job>) -> Vec<String> {
    let current = host.engine.current();
    let live = current.vault().live();
    let done = queue.drain(..).map(|(name, data)| live.call(name, &[data.value().clone()]));
    done.map(|value| value.unwrap().to().unwrap()).collect()
}

#[test]
fn a_job_queued_before_a_reload_is_done_by_the_code_after_it() {
    let host = Host::with(&["lives"]);
    let mut queue = VecDeque::from([("live_fire", fire(1)), ("live_fire", fire(2))]);
    let first: VecDeque<Job> = queue.drain(..1).collect();
    assert_eq!(run_jobs(&host, &mut first.clone()), ["1 rounds"]);
    host.plugins.write("lives", &renamed("lives-more", "lives"));
    host.reload();
    assert_eq!(run_jobs(&host, &mut queue), ["2 rounds, slowly"]);
}

#[test]
fn data_is_renewed_by_the_newest_type() {
    let host = Host::with(&["lives"]);
    let old = fire(3);
    host.plugins.write("lives", &renamed("lives-more", "lives"));
    host.reload();
    let current = host.engine.current();
    let new = current.vault().live().renew(&old).unwrap();
    assert_eq!(
        serde_json::Value::from(new.value().clone()),
        json!({"rounds": 3, "pace": "slowly"})
    );

    assert_ne!(new.fingerprint(), old.fingerprint(), "the object has the newest type now");
    let unchanged = current.vault().live().renew(&new).unwrap();
    assert_eq!(unchanged, new);

    let misfit = Data::named("LiveFire", Value::from(json!({"speed": 3})));
    let error = current.vault().live().renew(&misfit).unwrap_err();
    assert_snapshot!(format!("{error:?}"), @r"
    `LiveFire` does not fit `LiveFire` of lives v2: `rounds` was added and is required, `pace` was added and is optional, `speed` was removed
      caused by: missing field `rounds`
    ");
    let unknown = Data::named("LiveWater", Value::Null);
    let error = current.vault().live().renew(&unknown).unwrap_err();
    assert_snapshot!(error, @"no live type named `LiveWater`; there is LiveFire");
}

#[test]
fn fields_keep_the_order_in_which_they_are_declared() {
    let host = Host::new(PluginDir::empty(), |builder| builder);
    host.plugins.write("lives", &renamed("lives-more", "lives"));
    host.reload();
    let live = host.engine.live_snapshot();
    let properties = live.types[0].schema["properties"].as_object().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["rounds", "pace"]);
    let renewed = host.engine.vault().live().renew(&fire(3)).unwrap();
    let json = serde_json::Value::from(renewed.value().clone());
    assert_eq!(json.to_string(), r#"{"rounds":3,"pace":"slowly"}"#);
}

#[test]
fn live_functions_and_types_are_found_by_attribute_and_by_prefix() {
    let host = Host::with(&["lives"]);
    let live = host.engine.live_snapshot();
    let functions: Vec<_> = live
        .functions
        .iter()
        .map(|live| {
            format!(
                "{} v{}: {}{}",
                live.plugin, live.version, live.function.name, live.function.signature
            )
        })
        .collect();
    assert_eq!(
        functions,
        [
            "lives v1: live_fire(fire: LiveFire) -> String",
            "lives v1: revision() -> u32",
            "lives v1: task_count() -> u32",
        ]
    );
    assert_eq!(live.types.len(), 1);
    assert_eq!(
        (live.types[0].name.as_str(), live.types[0].doc.as_str()),
        ("LiveFire", "A job that waits in a queue.")
    );
    assert_eq!(live.types[0].schema["properties"]["rounds"]["type"], "integer");
}

#[test]
fn a_live_type_may_have_its_json_schema_from_anywhere() {
    let host = Host::with(&["own-schemas"]);
    let live = host.engine.live_snapshot();
    let names: Vec<_> = live.types.iter().map(|live| live.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Above",
            "ByHand",
            "DeriveAbove",
            "DeriveBelow",
            "DeriveUnseen",
            "LiveBelow",
            "LiveByHand",
            "LiveConditional",
            "LiveDerived",
            "LiveNotByHand",
            "LiveOutOfSight",
            "LivePath",
            "Marked",
        ]
    );
    for live in &live.types {
        assert_eq!(live.schema["description"], "its own", "{}", live.name);
    }
}

#[test]
fn a_plugin_calls_live_functions_too() {
    let host = Host::with(&["lives"]);
    let lives = host.engine.plugin("lives").unwrap();
    assert_eq!(lives.invoke::<String>("relay", args![4]).unwrap(), "4 rounds");
}

#[test]
fn a_handle_to_an_old_generation_still_calls_the_newest() {
    let host = Host::with(&["lives"]);
    let old = host.engine.current();
    host.plugins.install("lives", 2);
    host.reload();
    let revision: u32 = old.vault().live().call("revision", args![]).unwrap().to().unwrap();
    assert_eq!(revision, 2);
}

#[test]
fn an_unknown_live_function_is_an_error_that_lists_the_live_functions() {
    let host = Host::with(&["lives"]);
    let error = host.engine.current().vault().live().call("fire", args![]).unwrap_err();
    assert_snapshot!(error, @"no live function named `fire`; there is live_fire, revision, task_count");
}

#[test]
fn a_live_name_defined_twice_names_both_plugins() {
    let host = Host::new(PluginDir::of(&["lives", "lives-too"]), |builder| builder);
    assert_snapshot!(host.refused_reload(), @"lives-too: live: the live function `live_fire` is also in lives v1; in a generation, only one plugin may have a live name");
}

#[test]
fn a_live_type_defined_twice_names_both_plugins() {
    let host = Host::new(PluginDir::of(&["lives", "lives-alike"]), |builder| builder);
    assert_snapshot!(host.refused_reload(), @"lives-alike: live: the live type `LiveFire` is also in lives v1; in a generation, only one plugin may have a live name");
}

#[test]
fn each_of_many_live_functions_is_called_by_its_own_name() {
    let host = Host::with(&["lives-many"]);
    let live = host.engine.live_funcs::<fn() -> u32>();
    // There are many calls, because the first calls of a thread are timed and take another code path.
    for _ in 0..100 {
        for number in 0..80 {
            assert_eq!(live.call(&format!("n{number:02}"), ()).unwrap(), number);
        }
    }
}

#[test]
fn a_typed_call_of_a_live_function_runs_the_newest_version() {
    let host = Host::with(&["lives"]);
    let live = host.engine.live_funcs::<fn() -> u32>();
    assert_eq!(live.call("revision", ()).unwrap(), 1);
    host.plugins.install("lives", 2);
    host.reload();
    assert_eq!(live.call("revision", ()).unwrap(), 2);

    let unknown = live.call("nothing", ()).unwrap_err();
    assert_snapshot!(unknown, @"no live function named `nothing`; there is live_fire, revision, task_count");
    let other = host.engine.live_funcs::<fn(u32) -> u32>().call("revision", (1,)).unwrap_err();
    assert_snapshot!(other, @"lives v2: revision: its signature is `() -> u32`, but `fn(u32) -> u32` is expected: found `()`, expected `(u32,)`");
}

/// A queue of the host.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<Vec<Data>>>);

impl JobQueue for Queue {
    fn add(&self, job: Data) {
        self.0.lock().unwrap().push(job);
    }
}

#[test]
fn a_plugin_queues_jobs_with_the_host_which_saves_them() {
    let host = Host::with(&["queues"]);
    let queue = Queue::default();
    host.engine.vault().extension().register::<dyn JobQueue, _>("jobs", queue.clone()).unwrap();
    host.engine.invoke::<()>("queues", "order", args![1]).unwrap();
    host.engine.invoke::<()>("queues", "order", args![2]).unwrap();
    let saved = serde_json::to_string(&*queue.0.lock().unwrap()).unwrap();

    // The jobs outlive the version that made them, and are saved.
    host.plugins.install("queues", 2);
    host.reload();
    host.wait_for("queues", 1, VersionState::Freed);
    let jobs: Vec<Data> = serde_json::from_str(&saved).unwrap();
    assert_eq!(jobs, *queue.0.lock().unwrap());
    for (number, job) in (1..).zip(jobs) {
        assert_eq!((job.live_name(), job.type_name()), ("LiveJob", "queues::LiveJob"));
        let vault = host.engine.vault();
        let done = vault.live().call("live_job", &[job.value().clone()]).unwrap();
        assert_eq!(done, Value::from(format!("job {number} done by revision 2")));
    }
}

#[test]
fn jobs_are_returned_by_name_and_by_type_and_kept_in_the_data_bag() {
    let host = Host::with(&["queues"]);
    let by_name: Data = host.engine.invoke("queues", "make", args![7]).unwrap();
    let make = host.engine.func::<fn(u32) -> Data>("queues", "make").unwrap();
    assert_eq!(make.call(7).unwrap(), by_name);
    assert_eq!(by_name.value(), &Value::from(json!({"number": 7})));
    assert!(by_name.schema().is_some());

    let keep = host.engine.func::<fn(Data) -> Vec<Data>>("queues", "keep").unwrap();
    assert_eq!(keep.call(by_name.clone()).unwrap().len(), 1);
    host.plugins.install("queues", 2);
    host.reload();
    host.wait_for("queues", 1, VersionState::Freed);
    let bag = host.engine.vault();
    assert_eq!(bag.data_bag().get::<Vec<Data>>("kept").unwrap().unwrap(), [by_name]);

    let value = Value::from(json!({"a": [1, -2, 0.5, null, true], "b": {"c": "d"}}));
    assert_eq!(
        host.engine.invoke::<Value>("queues", "repeat", args![value.clone()]).unwrap(),
        value
    );
    let repeat = host.engine.func::<fn(Value) -> Value>("queues", "repeat").unwrap();
    assert_eq!(repeat.call(value.clone()).unwrap(), value);
}
