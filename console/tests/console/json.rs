//! `assets/json.md`: the output of `--json`, written from real output.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;

use hotswap_console::host::HostExit;
use hotswap_console::session::{
    BuildEffect, BuildLine, Job, JobOutcome, LogLine, OutputStream, SessionEvent, Watch,
};
use hotswap_fleet::{Id, Location, Pace, Phase, Reason, Rollout, Store};
use hotswap_protocol::{
    Ending, ErrorKind, Event, FirstFailure, Freed, GuardTrip, LogLevel, PhaseKind, PhaseTiming,
    VersionState, WireError,
};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::fake_host::FakeHost;
use crate::support::samples;

const INTRODUCTION: &str = "\
# What `hotswap` prints with `--json`

Each command prints one object on one line. `hosts`, `fleet releases`, `fleet hosts` and `fleet audit` print an array.
`logs`, `run`, `agent`, `fleet status --watch`, `fleet rollout --follow` and `fleet controller` print an object on each
line. On this page the lines are broken for reading. Fields may be added to these shapes; none is removed or gets
another meaning. Fields that may be missing or `null` are named.

Exit codes: 0 done; 1 it failed, and the line is an `error`; 2 the command line is wrong, and nothing is printed to
stdout; 3 no host runs, or several do and `--host PID|SOCKET` chose none; 4 a rollout is paused or cannot be judged;
5 a rollout was rolled back.

A test writes this page from the output of the commands:
`UPDATE_ASSETS=1 cargo test -p hotswap-console --test console json`.
";

/// A command, and the text about its fields.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["hosts"], "The hosts of this user that answer, by process id."),
    (
        &["status"],
        "Plugins are in load order, and versions newest first. `state` is `loading`, `active`, \
         `retired`, `pinned`, `freed`, `kept` or `failed`. `detail` is the state with a remark, \
         and `remark` is the remark alone. `holders` lists what keeps a version in use, and \
         `held_by` is the same as data: `kind` is `call`, `task`, `value`, `thread`, `handle`, \
         `ending` or `thread_local`, `count` is more than 1 only for holders without names, and \
         the other fields are present if they are known. `activity` is what runs if it is not a \
         function. `failure` says why a version never served: `plugin` is missing if no plugin is \
         at fault, and `cause` is one of the causes of an error. `ending` says `how` a version \
         ended, once it has: `freed`, with what it left; `failed`; or `kept`, where `kind` is the \
         reason, such as `needs_library`, `unseen_function` or `loader`, and `symbol`, `library` \
         or `signal` is what the reason is about. `source` is missing outside a git repository. \
         `functions` are the functions of the active version, with JSON Schemas. \
         `latency_buckets` is the histogram of the timed calls: the number of calls that took at \
         most `up_to_ns`. `host_outdated` says whether the host is older than its sources; it is \
         `null` if no console has built the host. `is_rolled_back` is present, and true, if a \
         rollback keeps the plugin at an earlier build.",
    ),
    (
        &["reload"],
        "`outcome` is `ok`, `unchanged`, `rebound`, `added`, `removed`, `missing` (the artifact \
         is gone, and the plugin stays loaded), `held` or `not reloadable`. `version` serves now; \
         it is missing if the plugin was removed. `data_bag` says what happened to the values: \
         `added`, `kept`, `shared`, `migrated` or `dropped`. `build_phases` says how long \
         building the new artifacts took, if the host's store knows. `rollback` prints the same, \
         and `rolled_back` is the plugin that was rolled back.",
    ),
    (
        &["invoke", "world", "greet", "Ada", "2"],
        "`value` is the result of the function. With `--beside` there is also `beside`: a \
         `result` of the same shape, or an `error`. With `--repeat` there are `latencies`.",
    ),
    (
        &["pin", "list"],
        "The calls that are repeated in each new version of their plugin. `now` is the result in \
         the version that serves, `before` the result in the version before it, and `is_same` \
         compares them. `before` and `is_same` are missing until the call was made in another \
         version. A result has a `value`; or `large_value`, the size of a value of more than \
         8,192 bytes; or an `error`. `pin add` and `pin remove` print one such call.",
    ),
    (
        &["vault"],
        "`size_bytes` and `value` are `null` for a value that cannot be serialised. The answer is \
         bounded: `data_bag` and `slots` list the first 1,000 of `data_bag_len` and `slots_len`. \
         A large value has only its beginning, without `size_bytes`; its `cuts` (and \
         `extension_cuts`) have the place of each cut as a JSON pointer, the number of elements \
         or bytes that are `shown`, and the full number, `of`. As long as `changes` \
         (`vault_changes` in `status`) stays the same, so does the answer. `owned_by` is the \
         owner as data: its `kind` is `host`, `version` or `gone`.",
    ),
    (
        &["reloads"],
        "The last 64 loads and reloads, the oldest first. A successful one has a `report`, as \
         `reload` prints it, and a failed one an `error`.",
    ),
    (&["live"], "The functions and types that hosts find by name alone, in the newest generation."),
    (
        &["free", "world@1"],
        "`state` is the state of the version now. If it is not `freed`, the exit code is 1.",
    ),
    (
        &["logs"],
        "One object on each line: a record, or the number of lost records. A record of a plugin \
         has `plugin` and `version`; `fields`, if there are any, are pairs.",
    ),
];

/// The whole page.
async fn page() -> String {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 4121);
    let mut page = INTRODUCTION.to_owned();
    for (command, about) in COMMANDS {
        let lines = output(&runtime, &[command, &["--json"][..]].concat()).await;
        section(&mut page, &format!("`hotswap {}`", command.join(" ")), about, &lines);
    }
    let about = "`stored` is the artifact in the store, for rollbacks. `source` is `null` outside \
                 a git repository. `effect` is `new_code`, `same_code` or `up_to_date`. `changes` \
                 lists the functions whose bodies changed since the last build, and other \
                 `items`, each `added`, `removed` or `changed` (an `item` that is `null` is the \
                 whole file); it is `null` if the changes are not known, such as after a run of \
                 cargo. `bound` says what else depends on the body: `future`, `opaque_result` or \
                 `trait`. `patchable` says whether a running version of the earlier build in \
                 OUT_DIR could get the new code as a patch, and `not_patched` why not; both are \
                 missing if OUT_DIR had no build, or this one. With `--static-linking` it prints \
                 the `name` and `dir` of the generated crate, the `plugins` that it links, and, \
                 if one was chosen, their `live_prefix` and the `cargo_config` that sets it. With \
                 `--cargo-build=false` it prints `plugin`, `manifest`, `source_dirs`, the \
                 `included` files, the items that the sources have `declared` (`kind`, which is \
                 `plugin`, `function`, `live_function`, `live_type` or `not_live`; `name`, \
                 `file`, `line`), and the files that were `unread`, with a `reason`. The output \
                 of the compiler goes to stderr.";
    section(&mut page, "`hotswap build PLUGIN_DIR OUT_DIR`", about, &[built()]);
    let about = "What a reload would change. `outcome` is as for `reload`. `loaded` is `null` for \
                 a new plugin, and `new` is `null` if no other build would be loaded. `item` is \
                 `function`, `live_type`, `type`, `export` or `import`; `change` is `added`, \
                 `removed` or `changed`; `was` and `now` are the two sides, if each is short. \
                 `host_expects` lists what the host's own code uses and the reload would break: \
                 `item` is `function`, `live_function` or `export`, and `difference` says how; \
                 the reload would be refused. `prospect` is the future of a value according to \
                 its type: `same`, `changed`, `gone`, `unknown` or `dropped`. If an artifact \
                 cannot be opened, or a reload would be refused, it prints an `error` instead.";
    section(&mut page, "`hotswap reload --dry-run`", about, &[to_json(samples::preview())]);
    let about = "The same, with `replay`: the results of the pinned calls in the serving builds \
                 (`old`) and in the new builds (`new`). Each call runs in a process of its own, \
                 without the host and its Vault. A result is a `value`, a `large_value` (the size \
                 in bytes of a value that is not kept), an `error`, `runs_on` (the call had not \
                 returned after this many milliseconds), `ended` (how the call ended its \
                 process), or `not_called` with the reason, such as a function with effects. \
                 `is_same` is `null` if one of the calls was not made. `version` is `null` for a \
                 new plugin, and `build_id` for one that would be removed. If builds cannot be \
                 loaded without their host, there is an `error`, and no call was made.";
    let mut replayed = to_json(samples::preview());
    replayed["plugins"] = json!([]);
    replayed["replay"] = to_json(samples::replay());
    section(&mut page, "`hotswap reload --dry-run --replay`", about, &[replayed]);
    let about = "`misfit` says why the host in `judged_by` would refuse the artifact; if `host` \
                 is `null` there, it compares with the toolchain of this program. `keep_reason` \
                 says why the image could not be unmapped, and `kept_for` is the same as data, as \
                 in the `ending` of a version. All these are `null` if nothing is wrong, and \
                 `source` is `null` outside a git repository. `contents` is present only with \
                 `--open`; its `export` is `null` if the plugin exports nothing. `fingerprints` \
                 are hashes of the types of everything that a host can use with Rust types.";
    section(&mut page, "`hotswap inspect --open FILE`", about, &[inspection()]);
    let about = "One object for each event, with the kind in `event`; records of the host's log \
                 are among them. Events of the engine have their own fields, as `reload_finished` \
                 here.";
    section(&mut page, "`hotswap run HOST`", about, &run_lines());
    let about = "Other commands of `hotswap fleet` that change something print the same. \
                 `release` is `null` if hosts run the builds of their own plugin directories, and \
                 `rollout` is `null` before the first one. `outdated` says that hosts follow a newer \
                 declaration than the stored one, which is an older copy then. `state` of a \
                 rollout is `checking`, \
                 `staging`, `activating`, `baking`, `promoting`, `done`, `paused`, \
                 `rolling_back`, `rolled_back` or `superseded`; `reason` says why it is paused or \
                 went back, and `cause` is the same as data. `state` of a host is `serving`, \
                 `applying`, `refused`, `crashed`, `died`, `lost`, or `unknown` if a server has \
                 lost its report. `release` is what it runs, `staged` the release to which it can \
                 switch at once, `problem` its last problem, and `health` the results of calls \
                 since its versions began. `labels`, `offer` (the answer to an offered release: \
                 `answer` is `later` or `no`) and `own_health` are present if there are any.";
    section(&mut page, "`hotswap fleet status`", about, &fleet_status(&runtime).await);
    let about = "`name`, `use` and `forget` print the same. `use` is the default fleet, or \
                 `null`. `creds`, `tls_ca` and `sign` are present if there are any.";
    let url = "nats://nats.example:4222/games";
    let name =
        ["fleet", "name", "prod", "--store", url, "--creds", "/home/me/prod.creds", "--json"];
    section(&mut page, "`hotswap fleet names`", about, &output(&runtime, &name).await);
    let about = "`kind` is for programs, and `message` for people. `plugin`, `step`, `cause` and \
                 `chain` are present if they are known. `cause` is `artifact`, `toolchain`, `io`, \
                 `loader`, `plugin`, `panic`, `timed_out`, `import`, `callback`, `host_expects`, \
                 `refused` or `other`. If `kind` is `host_expects`, `broken` lists what the \
                 host's own code uses and the reload would have broken, as `reload --dry-run` \
                 does.";
    section(&mut page, "Any failure", about, &[json!({ "error": samples::refusal() })]);
    page
}

fn section(page: &mut String, title: &str, about: &str, lines: &[Value]) {
    write!(page, "\n## {title}\n\n").unwrap();
    for line in wrap(about) {
        writeln!(page, "{line}").unwrap();
    }
    page.push_str("\n```json\n");
    for line in lines {
        writeln!(page, "{line:#}").unwrap();
    }
    page.push_str("```\n");
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().unwrap();
        if last.len() + word.len() >= 100 {
            lines.push(word.to_owned());
        } else {
            let space = if last.is_empty() { "" } else { " " };
            write!(last, "{space}{word}").unwrap();
        }
    }
    lines
}

async fn output(runtime: &TempDir, args: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotswap"));
    command.args(args).stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", runtime.path()).env("XDG_CONFIG_HOME", runtime.path());
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The output of `hotswap fleet status` for a fleet in which a host has crashed.
async fn fleet_status(runtime: &TempDir) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let id = |text: &str| text.parse::<Id>().unwrap();
    let location = Location::Directory(dir.path().to_owned());
    let fleet = Store::create(&location, &id("games"), &id("main"), Vec::new()).unwrap();
    let artifact = json!({
        "built_by": samples::built_by(), "build_id": "7f3a90c0ffee00000000000000000000",
        "crate_version": "0.1.0", "sha256": fleet.push_blob(b"world").unwrap(), "size_bytes": 5,
    });
    let release = json!({
        "id": "r2", "fleet": "games", "pushed_at_ms": samples::NOON_MS, "by": "ada",
        "plugins": [{"name": "world", "artifacts": [artifact]}],
    });
    fleet.push_release(&serde_json::from_value(release).unwrap()).unwrap();
    let arm = json!({"calls": 120, "errors": 1, "panics": 0});
    let host = json!({
        "id": "sample-host-4121", "channel": "main", "name": "sample-host", "pid": 4121,
        "at_ms": samples::NOON_MS, "stratum": "all", "state": "crashed", "release": "r2",
        "builds": {"world": "7f3a90c0ffee00000000000000000000"}, "staged": "r2",
        "problem": {"kind": "crash", "release": "r2", "plugin": "world",
            "message": "its process ended in world v2: greet on \"http-3\" (4125)"},
        "seen": {"epoch": samples::NOON_MS, "seq": 1}, "health": {"world": arm},
    });
    fleet.report(&serde_json::from_value(host).unwrap()).unwrap();
    let mut rollout = fleet_rollout();
    rollout.reason =
        Some(Reason::Crashed { host: id("sample-host-4121"), plugin: Some("world".into()) });
    fleet.write_rollout(None, &rollout).unwrap();
    let place = dir.path().to_str().unwrap();
    output(runtime, &["fleet", "status", "--fleet", place, "--json"]).await
}

fn fleet_rollout() -> Rollout {
    let text = |text: &str| text.to_owned();
    Rollout {
        channel: "main".parse().unwrap(),
        release: "r2".parse().unwrap(),
        base: None,
        salt: text("salt"),
        by: text("ada"),
        started_at_ms: samples::NOON_MS,
        pace: Pace::usual(),
        plugins: vec![text("world")],
        changed: vec![text("world")],
        phase: Phase::RolledBack,
        step: 0,
        since_ms: samples::NOON_MS + 12_000,
        reason: None,
        resume: None,
        thresholds: Default::default(),
        base_arms: Default::default(),
        calls_before: 0,
        forgiven: Default::default(),
        memory: Default::default(),
        writes: 0,
    }
}

fn to_json(of: impl Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

/// The output of a build of a plugin.
fn built() -> Value {
    json!({
        "plugin": "world",
        "build_id": "3c0ffee0000000000000000000000003",
        "path": "plugins/world.so",
        "stored": "target/hotswap/store/world/3c0ffee0000000000000000000000003.so",
        "source": samples::version(3, VersionState::Active, "").source,
        "warnings": 0,
        "effect": BuildEffect::NewCode,
        "changes": samples::source_changes(),
        "patchable": false,
        "not_patched": "struct Score was changed (src/lib.rs)",
        "phases": [
            { "phase": "check", "elapsed_us": 2_100 },
            { "phase": "compile", "elapsed_us": 110_000 },
            { "phase": "link", "elapsed_us": 52_000 },
            { "phase": "stamp", "elapsed_us": 9_000 },
            { "phase": "store", "elapsed_us": 3_000 },
        ],
    })
}

/// An artifact's facts and contents.
fn inspection() -> Value {
    let function = &samples::snapshot(1).plugins[0].functions[0];
    let live = &samples::live().types[0];
    json!({
        "path": "plugins/world.so",
        "size_bytes": 4_508_877,
        "name": "world",
        "crate_version": "0.1.0",
        "build_id": "3c0ffee0000000000000000000000003",
        "source": samples::version(3, VersionState::Active, "").source,
        "toolchain": {
            "rustc": "rustc 1.95.0 (59807616e)",
            "target": "x86_64-unknown-linux-gnu",
            "panic_strategy": "unwind",
            "hotswap_plugin": "0.1.0",
        },
        "fits": true,
        "misfit": null,
        "judged_by": {
            "host": "sample-host",
            "pid": 4125,
            "toolchain": {
                "rustc": "rustc 1.95.0 (59807616e)",
                "target": "x86_64-unknown-linux-gnu",
                "panic_strategy": "unwind",
                "hotswap_plugin": "0.1.0",
            },
        },
        "keep_reason": null,
        "kept_for": null,
        "contents": {
            "plugin": "world",
            "build_id": "3c0ffee0000000000000000000000003",
            "functions": [function],
            "live_types": [live],
            "export": {
                "interface": "sample_api::Alpha",
                "methods": ["fn meow(&self, times: u32) -> String"],
            },
            "imports": [
                { "plugin": "beta", "interface": "sample_api::Beta", "optional": false },
            ],
            "types": [
                { "name": "world::Place", "size_bytes": 24, "members": ["x: f64", "y: f64"] },
            ],
            "fingerprints": [
                { "item": "function", "name": "greet", "fingerprint": "1f0d3a5b7c9e2468" },
            ],
        },
    })
}

/// One line of each kind that describes a session.
fn run_lines() -> Vec<Value> {
    let build = || Job::BuildPlugin("world".into());
    let at_ms = samples::NOON_MS;
    let mut record = samples::record(7, LogLevel::Info, "the world turns");
    (record.file, record.line) = (Some("world/src/lib.rs".into()), Some(54));
    record.plugin = Some("world".into());
    record.version = Some(3);
    record.fields = vec![("beat".into(), "7".into())];
    let events = [
        SessionEvent::Opened {
            name: "sample-host".into(),
            package_dir: Some("/src/sample-host".into()),
            plugin_dir: Some("/srv/plugins".into()),
            plugins: vec!["world".into()],
            plugin_packages: vec!["/src/world".into()],
        },
        SessionEvent::Watching { on: true, mode: Watch::On, error: None, file_system: None },
        SessionEvent::Patching { on: true },
        SessionEvent::JobStarted { job: build() },
        SessionEvent::JobProgress { done: 63, total: Some(100), package: "axum".into() },
        SessionEvent::Build {
            package: "world".into(),
            line: BuildLine::Diagnostic {
                level: "error",
                message: "cannot find value `nam` in this scope".into(),
                rendered: "error[E0425]: …".into(),
                file: Some("/src/world/src/lib.rs".into()),
                row: Some(12),
                column: Some(5),
            },
        },
        SessionEvent::Build {
            package: "world".into(),
            line: BuildLine::Output { text: "   Compiling world v0.1.0".into() },
        },
        SessionEvent::Built {
            plugin: "world".into(),
            build_id: "3c0ffee0000000000000000000000003".into(),
            path: "/srv/plugins/world.so".into(),
            warnings: 0,
            effect: BuildEffect::NewCode,
            changes: Some(samples::source_changes()),
            patchable: Some(false),
            not_patched: Some("struct Score was changed (src/lib.rs)".into()),
            is_served: false,
            phases: vec![PhaseTiming { phase: PhaseKind::Link, plugin: None, elapsed_us: 41_000 }],
        },
        SessionEvent::JobFinished {
            job: build(),
            outcome: JobOutcome::Done { summary: "build 3c0ffee0".into() },
            elapsed_ms: 170,
        },
        SessionEvent::JobFinished {
            job: build(),
            outcome: JobOutcome::Failed { error: WireError::new(ErrorKind::Build, "1 error") },
            elapsed_ms: 170,
        },
        SessionEvent::HostStarted { pid: 4121 },
        SessionEvent::Connected { host: samples::host(4121) },
        SessionEvent::EarlyDropped { plugin: "world".into() },
        SessionEvent::ManifestsRefused {
            error: "/w/app/Cargo.toml names the plugin `dgo`, which is neither a package of this workspace nor a \
                    directory relative to the manifest; packages of this workspace: `dog`"
                .into(),
        },
        SessionEvent::ReloadWaits { plugins: vec!["world".into()] },
        SessionEvent::SourcesChanged {
            plugins: vec!["world".into()],
            saved_at_ms: samples::NOON_MS,
        },
        SessionEvent::Engine(Event::ReloadFinished { at_ms, report: samples::report() }),
        SessionEvent::Engine(Event::VersionChanged {
            at_ms,
            plugin: "world".into(),
            version: 2,
            state: VersionState::Freed,
            detail: "freed: 4.3 MiB unmapped after 12 ms, 1 KiB left on the heap".into(),
            ending: Some(Ending::Freed(Freed {
                unmapped_bytes: 4_508_877,
                after_us: 12_000,
                heap_bytes: 1024,
                mapped_bytes: 0,
                descriptors: Vec::new(),
            })),
        }),
        SessionEvent::Engine(Event::FirstCall {
            at_ms,
            plugin: "world".into(),
            version: 3,
            patch: None,
            function: "greet".into(),
            elapsed_us: 730,
        }),
        SessionEvent::Engine(Event::PinCalled {
            at_ms,
            pin: Box::new(samples::pin(1, "Hello", "Hi")),
        }),
        SessionEvent::Engine(Event::Unpinned { at_ms, id: 1 }),
        SessionEvent::Engine(Event::FirstFailure {
            at_ms,
            plugin: "world".into(),
            version: 3,
            patch: Some(2),
            failure: FirstFailure {
                function: "greet".into(),
                message: "panicked at src/lib.rs:12:5: no name".into(),
                at_ms,
                patch: None,
            },
        }),
        SessionEvent::Engine(Event::GuardTripped(GuardTrip {
            at_ms,
            plugin: "world".into(),
            version: 3,
            patch: None,
            failures: 10,
            within_ms: 5000,
            back_to: Some(2),
        })),
        SessionEvent::Disconnected { reason: "the host closed it".into() },
        SessionEvent::HostExited {
            exit: HostExit { code: None, signal: Some(11) },
            expected: false,
            calls: Some(samples::calls()),
        },
        SessionEvent::Ended { error: None },
    ];
    let logs = [
        LogLine::Log(record),
        LogLine::Output { stream: OutputStream::Stdout, text: "listening on …".into() },
        LogLine::Dropped { count: 3 },
    ];
    events.iter().map(to_json).chain(logs.iter().map(to_json)).collect()
}

#[tokio::test]
async fn the_page_shows_the_printed_output() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/json.md");
    let page = page().await;
    if std::env::var_os("UPDATE_ASSETS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, page, "run it again with UPDATE_ASSETS=1, and look at what changed");
}

/// The paths of all fields.
fn fields(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                // The fields of a JSON Schema belong to another standard.
                let path = format!("{path}.{name}");
                if !matches!(name.as_str(), "schema" | "returns") {
                    fields(value, &path, all);
                }
                all.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, path, all)),
        _ => {}
    }
}

#[tokio::test]
async fn a_build_and_its_artifact_have_the_fields_of_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-plugins/guardian");
    let (plugin, out_dir) = (plugin.to_str().unwrap(), directory.path().to_str().unwrap());
    let build = output(&directory, &["build", plugin, out_dir, "--json"]).await.remove(0);
    let path = build["path"].as_str().unwrap().to_owned();
    assert!(Path::new(&path).is_file() && Path::new(build["stored"].as_str().unwrap()).is_file());
    let inspect = output(&directory, &["inspect", "--open", &path, "--json"]).await.remove(0);
    for (printed, shown) in [(build, built()), (inspect, inspection())] {
        assert_all_fields_are_shown(&printed, &shown);
    }
    let refused = output(&directory, &["build", "/nowhere", out_dir, "--json"]).await.remove(0);
    assert_eq!(refused["error"]["kind"], "build");
}

fn assert_all_fields_are_shown(printed: &Value, example: &Value) {
    let (mut found, mut shown) = (BTreeSet::new(), BTreeSet::new());
    fields(printed, "", &mut found);
    fields(example, "", &mut shown);
    let missing: Vec<_> = found.difference(&shown).collect();
    assert!(missing.is_empty(), "the page does not show {missing:?}");
}
