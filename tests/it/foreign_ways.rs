//! Plugins do what ordinary programs do. It works, or a message says what to do.

use hotswap_engine::{Value, args};
use insta::assert_snapshot;
use serde_json::Value as Json;

use crate::support::{Host, in_own_process};

fn call(host: &Host, function: &str) -> String {
    let plugin = host.engine.plugin("foreign-ways").unwrap();
    plugin.invoke::<()>(function, args![]).unwrap_err().message().to_owned()
}

fn without_quotes(text: &str) -> &str {
    text.trim_matches('"')
}

#[test]
fn records_of_the_crate_log_are_in_the_hosts_log() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let host = Host::with(&["foreign-ways"]);
        let plugin = host.engine.plugin("foreign-ways").unwrap();
        plugin.invoke::<()>("write_logs", args![]).unwrap();
        plugin.invoke::<()>("log_in_span", args![]).unwrap();
    });
    // Each field of a span has the value that was recorded last, also through `Span::current`.
    assert!(end.output.contains(r#"spans="work{number=7 done=99 user=Ada}""#), "{}", end.output);
    let lines: Vec<_> = end.output.lines().filter(|line| line.contains("rustls")).collect();
    assert_snapshot!(
        lines.join("\n").trim(),
        @r#"INFO rustls::conn: suite 7 plugin="foreign-ways" version=1"#
    );
    assert!(!end.output.contains("nobody asks"), "{}", end.output);
}

#[test]
fn a_plugins_tokio_without_a_runtime_says_what_to_do() {
    let host = Host::with(&["foreign-ways"]);
    let plugin = host.engine.plugin("foreign-ways").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sleeping = plugin.invoke_async::<()>("sleep", &[]);
    let error = runtime.block_on(sleeping).unwrap_err().message().to_owned();
    let (place, message) = error.split_once(": ").unwrap();
    assert!(place.starts_with("panicked at "), "{place}");
    assert_snapshot!(message, @"there is no reactor running, must be called from the context of a Tokio 1.x runtime (hint: a plugin has its own copy of tokio, which does not see the host's runtime: use `hotswap_plugin::rt` for tasks and time on the host's runtime; for sockets and clients, make a runtime of the plugin's own in `on_init`, and shut it down in `on_free`)");
}

#[test]
fn a_second_subscriber_says_that_logs_are_forwarded_already() {
    let host = Host::with(&["foreign-ways"]);
    let hint = "(hint: the records that a plugin logs with `tracing` or `log` already go to the host's log: \
                leave the subscriber and the logger to the host)";
    for function in ["set_subscriber", "set_logger"] {
        let error = call(&host, function);
        assert!(error.ends_with(hint), "{error}");
    }
    for (version, what) in (2..).zip(["subscriber", "logger"]) {
        host.engine.vault().data_bag().set("set in on_init", what.to_owned()).unwrap();
        host.plugins.install("foreign-ways", version);
        let error = host.engine.reload().unwrap_err().to_string();
        assert!(error.contains("on_init") && error.ends_with(hint), "{error}");
    }
}

#[test]
fn a_plugins_own_panic_hook_does_not_hide_the_place() {
    let end = in_own_process(|| {
        tracing_subscriber::fmt().with_ansi(false).without_time().init();
        let host = Host::with(&["foreign-ways"]);
        println!("error: {}", call(&host, "panics"));
        let plugin = host.engine.plugin("foreign-ways").unwrap();
        plugin.invoke::<()>("panics_on_thread", args![]).unwrap();
    });
    let error = end.output.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("foreign-ways/src/lib.rs:") && error.ends_with(": caught"), "{error}");
    let count = |text: &str| end.output.matches(text).count();
    assert_eq!((count("not caught"), count("the plugin's own hook")), (1, 1), "{}", end.output);
}

#[test]
fn values_that_json_cannot_represent_arrive_unchanged() {
    let host = Host::with(&["foreign-ways"]);
    let plugin = host.engine.plugin("foreign-ways").unwrap();
    let numbers = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    let bits = |numbers: &[f64]| numbers.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
    let args = args![numbers.clone(), f32::NEG_INFINITY];
    let (read, part): (Vec<f64>, f32) = plugin.invoke("numbers", args).unwrap();
    assert_eq!((bits(&read), part), (bits(&numbers), f32::NEG_INFINITY));

    // The same values as JSON, as a console sends and shows them.
    let args = [Value::from(vec![Value::from("NaN"), Value::from("-inf")]), Value::from(0.5)];
    let seen = Json::from(plugin.invoke_value("numbers", &args).unwrap());
    assert_eq!(seen, serde_json::json!([["NaN", "-Infinity"], 0.5]));
    let wide = [i128::MIN.to_string(), u128::MAX.to_string()];
    let args = wide.clone().map(Value::from);
    let read: (i128, u128) = plugin.invoke("wide", &args).unwrap();
    assert_eq!(read, (i128::MIN, u128::MAX));
    let seen = Json::from(plugin.invoke_value("wide", &args).unwrap());
    assert_eq!(seen, serde_json::json!(wide));
    let any = plugin.invoke_value("any", args![f64::INFINITY]).unwrap();
    assert_eq!(any.to::<f64>().unwrap(), f64::INFINITY);

    let bag = host.engine.vault_snapshot().data_bag;
    let entry = bag.into_iter().find(|entry| entry.key == "no number").unwrap();
    assert_eq!(without_quotes(&entry.value.unwrap().to_string()), "NaN");
}

#[test]
fn a_raw_identifier_is_known_without_its_prefix() {
    let host = Host::with(&["foreign-ways"]);
    assert_eq!(host.engine.invoke::<u32>("foreign-ways", "type", args![7_u32]).unwrap(), 7);
    let functions = host.engine.snapshot().plugins.remove(0).functions;
    let signature = functions.into_iter().find(|it| it.name == "type").unwrap().signature;
    assert_eq!(signature, "(match: u32) -> u32");
}
