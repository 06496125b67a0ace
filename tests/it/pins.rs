//! Pinned calls: made again in each new version of their plugin, and compared with the version before.

use hotswap_protocol::{MAX_PINNED_BYTES, MAX_PINS};
use serde_json::{Value, json};

use crate::{
    socket::{Client, Listening},
    support::Gate,
};

fn pin(client: &mut Client, id: u64, function: &str, args: Value) -> Value {
    client.ask(id, "pin", json!({"plugin": "echo", "function": function, "args": args}))
}

/// The next pinned call that was made.
fn next_pin_call(client: &mut Client) -> Value {
    loop {
        let line = client.receive().expect("an event");
        if line["params"]["event"] == "pin_called" {
            return line["params"]["pin"].clone();
        }
    }
}

#[test]
fn a_pinned_call_is_made_again_after_each_reload_and_compared() {
    let host = Listening::new();
    let (mut client, mut watching) = (host.greeted_client(), host.greeted_client());
    watching.ask(2, "subscribe", json!({"events": true}));

    let revision = pin(&mut client, 2, "revision", json!([]))["result"].clone();
    assert_eq!((&revision["id"], &revision["now"]["value"]), (&json!(1), &json!(1)), "{revision}");
    assert_eq!(revision["now"]["version"], 1);
    assert_eq!(revision.get("before"), None);
    let fail = pin(&mut client, 3, "fail", json!([]))["result"].clone();
    assert_eq!(
        fail["now"]["error"]["kind"], "plugin_error",
        "the result of a failing call is its error: {fail}"
    );
    let again = pin(&mut client, 4, "revision", json!([]))["result"].clone();
    assert_eq!(again["id"], 1, "the same call is pinned only once");
    let reported = [next_pin_call(&mut watching), next_pin_call(&mut watching)];
    assert_eq!(reported, [revision, fail]);

    host.host.plugins.install("echo", 2);
    client.ask(5, "reload", json!(null));
    let (revision, fail) = (next_pin_call(&mut watching), next_pin_call(&mut watching));
    assert_eq!((&revision["before"]["value"], &revision["now"]["value"]), (&json!(1), &json!(2)));
    assert_eq!((&revision["now"]["version"], &revision["is_same"]), (&json!(2), &json!(false)));
    assert_eq!((&fail["now"]["version"], &fail["is_same"]), (&json!(2), &json!(true)), "{fail}");

    // A reload that loads nothing makes no calls. A call that was unpinned is not made either.
    client.ask(6, "reload", json!(null));
    assert_eq!(client.ask(7, "unpin", json!({"id": 2}))["result"]["function"], "fail");
    host.host.plugins.install("echo", 3);
    client.ask(8, "reload", json!(null));
    let revision = next_pin_call(&mut watching);
    assert_eq!((&revision["function"], &revision["now"]["value"]), (&json!("revision"), &json!(3)));
    let pins = client.ask(9, "pins", json!(null))["result"]["pins"].clone();
    assert_eq!(pins, json!([revision]));
    let refused = client.ask(10, "unpin", json!({"id": 2}))["error"]["data"].clone();
    assert_eq!(refused["kind"], "pin");
    assert_eq!(refused["message"], "there is no pin 2; there are 1");
}

#[test]
fn calls_with_effects_or_large_arguments_cannot_be_pinned() {
    let host = Listening::new();
    let mut client = host.greeted_client();
    let refusal = |answer: Value| {
        assert_eq!(answer["error"]["data"]["kind"], "pin", "{answer}");
        answer["error"]["data"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        refusal(pin(&mut client, 2, "post", json!(["hello"]))),
        "echo v1 says that `post` has effects, so the call must not be repeated automatically"
    );
    assert_eq!(
        host.host.engine.snapshot().plugins[0].versions[0].calls,
        0,
        "a refused pin calls nothing"
    );
    let long = "x".repeat(MAX_PINNED_BYTES);
    let refused = refusal(pin(&mut client, 3, "repeat", json!([[long]])));
    assert!(refused.starts_with("the arguments have "), "{refused}");
    let answer = client.ask(4, "pin", json!({"plugin": "echo@1", "function": "revision"}));
    assert!(refusal(answer).ends_with("name the plugin"));
    let answer = pin(&mut client, 5, "add", json!([1]));
    assert_eq!(
        answer["error"]["data"]["kind"], "bad_argument",
        "a call with a wrong number of arguments is refused: {answer}"
    );

    for number in 0..MAX_PINS {
        pin(&mut client, 100, "add", json!([number, 1]));
    }
    let refused = refusal(pin(&mut client, 6, "add", json!([-1, 1])));
    assert_eq!(refused, format!("{MAX_PINS} calls are pinned; remove one first"));
}

#[test]
fn a_pinned_call_that_does_not_return_blocks_no_other() {
    let host = Listening::new();
    let (mut client, mut watching) = (host.greeted_client(), host.greeted_client());
    let gate = Gate::new();
    client.begin(2, "pin", json!({"plugin": "echo", "function": "hold", "args": [gate.path()]}));
    gate.arrival().release();
    assert_eq!(client.receive().unwrap()["result"]["now"]["value"], 1);
    pin(&mut client, 3, "revision", json!([]));
    host.host.plugins.install("shares", 1);
    host.host.reload();
    client.ask(6, "pin", json!({"plugin": "shares", "function": "count"}));
    watching.ask(2, "subscribe", json!({"events": true}));

    host.host.plugins.install("echo", 2);
    host.host.plugins.install("shares", 2);
    client.ask(4, "reload", json!(null));
    let held = gate.arrival();
    // The calls of each plugin have a thread of their own.
    let called = next_pin_call(&mut watching);
    assert_eq!((&called["function"], &called["now"]["version"]), (&json!("count"), &json!(2)));
    // The first call of a plugin blocks its thread, and the next reload uses another thread.
    host.host.plugins.install("echo", 3);
    client.ask(5, "reload", json!(null));
    let called = next_pin_call(&mut watching);
    assert_eq!((&called["function"], &called["now"]["value"]), (&json!("revision"), &json!(3)));
    held.release();
    gate.arrival().release();
    let called = next_pin_call(&mut watching);
    assert_eq!((&called["function"], &called["now"]["value"]), (&json!("hold"), &json!(2)));
    let called = next_pin_call(&mut watching);
    assert_eq!((&called["function"], &called["now"]["value"]), (&json!("hold"), &json!(3)));
}
