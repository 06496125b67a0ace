//! A sample host, made from the JSON that such a host sends.

use std::collections::BTreeMap;

use hotswap_build::{
    Bound, ChangedFunction, ChangedItem, ItemChange, SourceChanges, SourceDiff, SourceLine,
    SourceLineKind,
};
use hotswap_console::compare::difference::{DeclaredDiff, DiffRequest, Difference};
use hotswap_console::compare::preview::{PluginPreview, Preview, Prospect, ValuePreview};
use hotswap_console::compare::replay::{Answer, CallOutcome, Replay, ReplayedCall};
use hotswap_console::screen::model::Place;
use hotswap_console::session::{BuildEffect, BuildLine, SessionEvent};
use hotswap_protocol::{
    ArtifactChange, CauseKind, Failure, Holder, HostInfo, InFlightCall, InvokeResult, LiveSnapshot,
    LogLevel, LogRecord, Outcome, Owner, PastReload, PinnedCall, PlannedPlugin, ReloadEnd,
    ReloadPlan, ReloadReport, Reloads, Snapshot, Step, Toolchain, VaultSnapshot, VersionInfo,
    VersionState, WireError,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// 2026-11-22 12:00:00 UTC.
pub const NOON_MS: u64 = 1_795_348_800_000;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub fn built_by() -> Toolchain {
    read(json!({
        "rustc_release": "1.95.0",
        "rustc_commit": "59807616e1fa2540724bfbac14d7976d7e4a3860",
        "target": "x86_64-unknown-linux-gnu",
        "panic_strategy": "unwind",
        "plugin_crate_version": "0.1.0-5d0c1e2f",
        "abi_version": 6,
    }))
}

pub fn host(pid: u32) -> HostInfo {
    read(json!({
        "name": "sample-host",
        "pid": pid,
        "started_at_ms": NOON_MS,
        "plugin_dir": "/srv/plugins",
        "store_dir": "/srv/store",
        "staging_dir": "/srv/staging",
        "socket": format!("/run/hotswap/{pid}.sock"),
        "calls_file": format!("/proc/{pid}/fd/9"),
        "engine_version": "0.1.0",
        "toolchain": "rustc 1.95.0 (59807616e)",
        "built_by": built_by(),
        "trusted_libraries": ["libsqlite3.so.0"],
    }))
}

pub fn version(version: u32, state: VersionState, detail: &str) -> VersionInfo {
    read(json!({
        "version": version,
        "state": state,
        "detail": detail,
        "remark": detail.split_once(": ").map_or("", |(_, remark)| remark),
        "ending": match state {
            VersionState::Freed => {
                json!({ "how": "freed", "unmapped_bytes": 4_508_877, "after_us": 12_000, "heap_bytes": 0 })
            }
            VersionState::Failed => json!({ "how": "failed" }),
            _ => Value::Null,
        },
        "build_id": format!("{version:x}c0ffee{version:025x}"),
        "crate_version": "0.1.0",
        "source": {
            "commit": "b135eab0c0ffee00000000000000000000000000",
            "commit_time": 1_795_340_000,
            "branch": "main",
            "dirty": version > 1,
        },
        "loaded_at_ms": NOON_MS + u64::from(version) * 60_000,
        "size_bytes": 4_508_877,
        "heap_bytes": 12_345,
        "calls": 1_234,
        "holders": match state {
            VersionState::Retired => {
                vec!["call of greet on \"http-3\" (4125), ≥ 4.0 s", "value `greetings`"]
            }
            _ => Vec::new(),
        },
        "held_by": if state == VersionState::Retired { holders() } else { Vec::new() },
    }))
}

/// The builds in the plugin directory: those that serve, and the one that failed.
pub fn installed() -> BTreeMap<String, String> {
    let build = |(plugin, number)| {
        let build_id = version(number, VersionState::Active, "").build_id;
        (str::to_owned(plugin), build_id)
    };
    [("world", 3), ("cat", 1), ("dog", 1)].into_iter().map(build).collect()
}

/// The holders of a replaced version: a running call, and a value in use.
fn holders() -> Vec<Holder> {
    read(json!([
        {
            "kind": "call",
            "function": "greet",
            "thread": "http-3",
            "thread_id": 4125,
            "since_ms": NOON_MS + 296_000,
            "is_at_least": true,
        },
        { "kind": "value", "key": "greetings", "since_ms": NOON_MS + 299_000 },
    ]))
}

/// A version as the owner of something in the Vault.
pub fn owner(plugin: &str, version: u32) -> Owner {
    Owner::Version { plugin: plugin.into(), version }
}

/// The calls in flight when a host died: a call, and another call that it made.
pub fn calls() -> Vec<InFlightCall> {
    let call = |plugin: &str, version, function: Option<&str>| InFlightCall {
        plugin: plugin.into(),
        version,
        patch: None,
        function: function.map(Into::into),
        thread: "http-3".into(),
        thread_id: 4125,
        activity: None,
        build_id: Some(format!("{version:x}c0ffee{version:025x}")),
    };
    vec![call("world", 3, Some("greet")), call("cat", 1, None)]
}

/// A pinned call of `greet` with these results in v2 and v3.
pub fn pin(id: u64, was: &str, is: &str) -> PinnedCall {
    let answer = |version: u32, value: &str| json!({ "version": version, "at_ms": NOON_MS, "elapsed_ns": 49_000, "value": value });
    read(json!({
        "id": id,
        "plugin": "world",
        "function": "greet",
        "args": ["Ada", id],
        "now": answer(3, is),
        "before": answer(2, was),
        "is_same": was == is,
    }))
}

pub fn snapshot(pid: u32) -> Snapshot {
    let times = json!({ "type": "integer", "format": "uint32", "minimum": 0 });
    let world = [
        version(3, VersionState::Active, "active"),
        version(2, VersionState::Retired, "retired: 1 call, 1 value"),
        version(
            1,
            VersionState::Freed,
            "freed: 4.3 MiB unmapped after 12 ms, 1 KiB left on the heap",
        ),
    ];
    let cat = [version(1, VersionState::Active, "active")];
    let panicked = "panicked at 'no bone', src/lib.rs:12";
    let mut dog = version(1, VersionState::Failed, &format!("failed in on_load: {panicked}"));
    dog.failure = Some(Failure {
        plugin: Some("dog".into()),
        step: Some(Step::OnLoad),
        cause: CauseKind::Panic,
        message: panicked.into(),
        causes: Vec::new(),
    });
    let dog = [dog];
    read(json!({
        "host": host(pid),
        "generation": 3,
        "plugins": [
            {
                "name": "world",
                "versions": world,
                "functions": [
                    {
                        "name": "greet",
                        "signature": "(name: String, times: u32) -> String",
                        "doc": "Says hello.",
                        "params": [
                            { "name": "name", "type": "String", "schema": { "type": "string" } },
                            { "name": "times", "type": "u32", "schema": times },
                        ],
                        "returns": { "type": "string" },
                        "calls": 1_234,
                        "latency_us_p50": 7.1,
                        "latency_us_p99": 8.1,
                        "latency_buckets": [
                            { "up_to_ns": 7_167, "calls": 60 },
                            { "up_to_ns": 8_191, "calls": 65 },
                        ],
                    },
                    {
                        "name": "reset",
                        "signature": "() -> ()",
                        "doc": "Forgets all greetings.",
                        "params": [],
                        "returns": { "type": "null" },
                        "calls": 0,
                    },
                ],
            },
            { "name": "cat", "versions": cat, "imports": ["world"] },
            { "name": "dog", "versions": dog },
        ],
    }))
}

pub fn vault() -> VaultSnapshot {
    read(json!({
        "generation": 3,
        "data_bag": [
            {
                "key": "greetings",
                "type": "u64",
                "owner": "world v3",
                "owned_by": { "kind": "version", "plugin": "world", "version": 3 },
                "size_bytes": 2,
                "value": 42,
            },
        ],
        "extension": { "served": 7, "heartbeats": 3 },
        "extension_type": "sample_host::Counters",
        "slots": [
            {
                "interface": "Greeter",
                "name": "cat",
                "owner": "cat v1",
                "owned_by": { "kind": "version", "plugin": "cat", "version": 1 },
            },
        ],
    }))
}

pub fn live() -> LiveSnapshot {
    let fire = json!({
        "type": "object",
        "properties": { "rounds": { "type": "integer", "format": "uint32", "minimum": 0 } },
        "required": ["rounds"],
    });
    read(json!({
        "generation": 3,
        "functions": [
            {
                "plugin": "guardian",
                "version": 2,
                "name": "live_fire",
                "signature": "(fire: LiveFire) -> String",
                "doc": "Fires.",
                "params": [{ "name": "fire", "type": "LiveFire", "schema": fire.clone() }],
                "returns": { "type": "string" },
                "is_live": true,
                "calls": 7,
            },
        ],
        "types": [
            {
                "plugin": "guardian",
                "version": 2,
                "name": "LiveFire",
                "doc": "An order to fire.",
                "schema": fire,
            },
        ],
    }))
}

/// `world` was built.
pub fn built(effect: BuildEffect) -> SessionEvent {
    built_as(effect, 0)
}

/// `world` was built with this many warnings.
pub fn built_with_warnings(warnings: usize) -> SessionEvent {
    built_as(BuildEffect::NewCode, warnings)
}

/// `world` was built; three functions and a type changed.
pub fn built_with_changes() -> SessionEvent {
    built_with(BuildEffect::NewCode, 0, Some(source_changes()))
}

/// The changes of a build: three functions and a type.
pub fn source_changes() -> SourceChanges {
    let function = |(name, bound)| {
        let file = "/src/world/src/lib.rs".into();
        ChangedFunction { name: str::to_owned(name), file, bound }
    };
    let functions = [("greet", None), ("meet", None), ("nap", Some(Bound::Future))];
    let (item, file) = (Some("struct Score".to_owned()), "/src/world/src/lib.rs".into());
    SourceChanges {
        functions: functions.map(function).into(),
        items: vec![ChangedItem { item, file, change: ItemChange::Changed }],
    }
}

fn built_as(effect: BuildEffect, warnings: usize) -> SessionEvent {
    built_with(effect, warnings, None)
}

fn built_with(
    effect: BuildEffect,
    warnings: usize,
    changes: Option<SourceChanges>,
) -> SessionEvent {
    SessionEvent::Built {
        plugin: "world".into(),
        build_id: "4c0ffee0".into(),
        path: "/srv/plugins/world.so".into(),
        warnings,
        effect,
        changes,
        patchable: None,
        not_patched: None,
        is_served: false,
        phases: Vec::new(),
    }
}

pub fn report() -> ReloadReport {
    read(json!({
        "generation": 4,
        "plugins": [
            { "name": "world", "outcome": "ok", "version": 4, "build_id": "4c0ffee0", "elapsed_us": 900 },
            { "name": "cat", "outcome": "unchanged", "version": 1, "elapsed_us": 900 },
        ],
        "elapsed_us": 41_200,
        "phases": [
            { "phase": "find", "elapsed_us": 300 },
            { "phase": "stage", "elapsed_us": 2_000 },
            { "phase": "open", "plugin": "world", "elapsed_us": 31_000 },
            { "phase": "on_load", "plugin": "world", "elapsed_us": 3_100 },
            { "phase": "on_load", "plugin": "cat", "elapsed_us": 100 },
            { "phase": "publish", "elapsed_us": 10 },
        ],
        "build_phases": [
            { "phase": "check", "plugin": "world", "elapsed_us": 1_000 },
            { "phase": "compile", "plugin": "world", "elapsed_us": 134_000 },
            { "phase": "link", "plugin": "world", "elapsed_us": 73_000 },
            { "phase": "stamp", "plugin": "world", "elapsed_us": 600 },
            { "phase": "store", "plugin": "world", "elapsed_us": 3_000 },
        ],
        "data_bag": [{ "key": "greetings", "change": "shared" }],
    }))
}

pub fn refusal() -> WireError {
    read(json!({
        "kind": "reload",
        "message": "world has no v9 in this host; it has v1, v2, v3",
        "plugin": "world",
        "step": "find",
        "cause": "refused",
        "chain": ["nothing else was tried"],
    }))
}

pub fn greeting() -> InvokeResult {
    read(json!({
        "value": "Hello, Ada! Hello, Ada!",
        "plugin": "world",
        "version": 3,
        "elapsed_us": 8,
        "elapsed_ns": 8_200,
    }))
}

pub fn record(seq: u64, level: LogLevel, message: &str) -> LogRecord {
    read(json!({
        "seq": seq,
        "at_ms": NOON_MS + seq * 1_000,
        "level": level,
        "target": "sample_host::http",
        "message": message,
    }))
}

/// The reloads that a host remembers: it loaded `world v2`, failed to load another build, and then loaded `world
/// v3`.
pub fn reloads() -> Reloads {
    let world = |generation: u64, version: u32, outcome| {
        let plugins = json!([
            { "name": "world", "outcome": outcome, "version": version, "elapsed_us": 900 },
        ]);
        let phases = json!([{ "phase": "stage", "elapsed_us": 2_000 }]);
        let report: ReloadReport = read(json!({
            "generation": generation, "plugins": plugins, "elapsed_us": 2_100, "phases": phases,
        }));
        ReloadEnd::Report(report)
    };
    let ends = [world(2, 2, "added"), ReloadEnd::Error(refusal()), world(3, 3, "ok")];
    let minutes = [1, 2, 3].map(|minute| NOON_MS + minute * 60_000);
    let reloads = minutes.into_iter().zip(ends).map(|(at_ms, end)| PastReload { at_ms, end });
    Reloads { reloads: reloads.collect() }
}

/// The preview of a reload that would replace `world` and remove `dog`.
pub fn preview() -> Preview {
    let plan = plan();
    let change = |value| read::<ArtifactChange>(value);
    let [world, cat] = [&plan.plugins[0], &plan.plugins[1]];
    let plugin = |planned: &PlannedPlugin| PluginPreview {
        name: planned.name.clone(),
        outcome: planned.outcome,
        loaded: planned.loaded.clone(),
        new: planned.new.clone(),
        changes: Vec::new(),
        data_bag: Vec::new(),
        imported_by: Vec::new(),
        host_expects: Vec::new(),
        is_breaking: false,
        not_compared: None,
        error: None,
    };
    let (was, now) = ("(name: String, times: u32) -> String", "(name: String) -> String");
    let detail = format!("was `{was}`, now `{now}`");
    let changes = vec![
        change(json!({
            "item": "function", "name": "greet", "change": "changed", "detail": detail,
            "was": was, "now": now, "is_breaking": true,
        })),
        change(json!({
            "item": "function", "name": "wave", "change": "added", "detail": "() -> ()",
            "now": "() -> ()", "is_breaking": false,
        })),
        change(json!({
            "item": "live_type", "name": "LiveFire", "change": "changed",
            "detail": "`pace` was added and is optional", "is_breaking": false,
        })),
    ];
    let greetings = ValuePreview {
        key: "greetings".into(),
        type_name: "u64".into(),
        prospect: Prospect::Same,
        detail: "stays if the new version requests this type again".into(),
        is_breaking: false,
    };
    let host_expects = vec![read(json!({
        "item": "function", "plugin": "world", "name": "greet",
        "expected": "fn(String, u32) -> String", "fingerprint": "1f",
        "by": "world", "difference": detail,
    }))];
    let world = PluginPreview {
        changes,
        host_expects,
        data_bag: vec![greetings],
        imported_by: vec!["cat".into()],
        is_breaking: true,
        ..plugin(world)
    };
    let dog = PluginPreview {
        name: "dog".into(),
        outcome: Outcome::Removed,
        is_breaking: true,
        ..plugin(cat)
    };
    Preview { generation: 3, is_breaking: true, plugins: vec![world, dog, plugin(cat)] }
}

/// An error of the compiler in this line of a plugin.
pub fn mistake(plugin: &str, row: u32) -> SessionEvent {
    let place = place(plugin, row);
    let line = BuildLine::Diagnostic {
        level: "error",
        message: "cannot find value `nam` in this scope".into(),
        rendered: format!(
            "\u{1b}[1m\u{1b}[91merror[E0425]\u{1b}[0m: cannot find value `nam`\n \
             --> {plugin}/src/lib.rs:{row}:5\n"
        ),
        file: Some(place.file),
        row: place.row,
        column: place.column,
    };
    SessionEvent::Build { package: plugin.into(), line }
}

/// The place of a line.
pub fn place(plugin: &str, row: u32) -> Place {
    let file = format!("/src/{plugin}/src/lib.rs").into();
    Place { file, row: Some(row), column: Some(5) }
}

/// The differences between v3 of `world` and the work tree.
pub fn difference(request: DiffRequest) -> Difference {
    let changes = preview().plugins.remove(0).changes;
    let lines = [
        (SourceLineKind::File, "sample-plugins/world/src/lib.rs"),
        (SourceLineKind::Place, "@@ -12,4 +12,4 @@ fn greet"),
        (SourceLineKind::Context, "fn greet(vault: &Vault, name: String) -> Result<String> {"),
        (SourceLineKind::Removed, "    Ok(format!(\"Hello, {name}!\"))"),
        (SourceLineKind::Added, "    Ok(format!(\"Good day, {name}!\"))"),
        (SourceLineKind::Context, "}"),
    ];
    let lines = (1..).zip(lines).map(|(row, (kind, text))| {
        let place = (kind == SourceLineKind::Added).then(|| ("/src/world/src/lib.rs".into(), row));
        SourceLine { kind, text: text.to_owned(), place }
    });
    let source =
        SourceDiff { files: 1, insertions: 1, deletions: 1, lines: lines.collect(), omitted: 0 };
    let declared = DeclaredDiff { build_id: "4c0ffee0".into(), changes };
    Difference { request, declared: Ok(Some(declared)), source: Ok(source) }
}

/// The plan of a reload that would replace `world` by an artifact that does not exist.
pub fn plan() -> ReloadPlan {
    read(json!({
        "generation": 3,
        "plugins": [
            {
                "name": "world",
                "outcome": "ok",
                "loaded": { "version": 3, "build_id": "3c0ffee0", "path": "/srv/staging/world.so" },
                "new": { "path": "/srv/plugins/world.so", "build_id": "4c0ffee0", "crate_version": "0.1.0" },
            },
            {
                "name": "cat",
                "outcome": "unchanged",
                "loaded": { "version": 1, "build_id": "1c0ffee0", "path": null },
                "new": null,
            },
        ],
    }))
}

/// The host after a reload in which `world` v4 has replaced v3: `greet` takes another parameter, panics
/// and is slow, `wave` is new, and `reset` is gone.
pub fn reloaded() -> Snapshot {
    let mut snapshot = snapshot(4121);
    let world = &mut snapshot.plugins[0];
    world.versions[0].state = VersionState::Retired;
    let mut serving = version(4, VersionState::Active, "active");
    serving.failures.panics = 12;
    serving.heap_bytes = Some(40_000);
    world.versions.insert(0, serving);
    let mut wave = world.functions.remove(1);
    wave.name = "wave".into();
    world.functions.push(wave);
    let greet = &mut world.functions[0];
    greet.signature = "(name: String, times: u64, loud: bool) -> String".into();
    greet.params[1].type_name = "u64".into();
    let loud = json!({ "name": "loud", "type": "bool", "schema": { "type": "boolean" } });
    greet.params.push(read(loud));
    greet.failures.panics = 12;
    greet.latency_us_p50 = Some(14.2);
    snapshot
}

/// The replay of pinned calls for that reload: one result differs, one call fails now, one must not be made any
/// more, and one result is the same.
pub fn replay() -> Replay {
    let answer = |outcome| Answer { elapsed_ns: None, outcome };
    let value =
        |text: &str| Answer { elapsed_ns: Some(48_000), outcome: CallOutcome::Value(json!(text)) };
    let call = |function: &str, old, new, is_same| ReplayedCall {
        plugin: "world".into(),
        function: function.into(),
        args: vec![json!("Ada")],
        version: Some(3),
        build_id: plan().plugins[0].new.as_ref().map(|new| new.build_id.clone()),
        old,
        new,
        is_same,
    };
    let exit = hotswap_console::host::HostExit { code: None, signal: Some(11) };
    let refused =
        WireError::new(hotswap_protocol::ErrorKind::Pin, "world says that `post` has effects");
    let calls = vec![
        call("greet", value("Hello, Ada!"), value("HELLO, ADA!"), Some(false)),
        call("wave", value("o/"), answer(CallOutcome::Ended(exit)), Some(false)),
        call("wait", value("done"), answer(CallOutcome::RunsOn(5000)), Some(false)),
        call("meet", value("Hi"), value("Hi"), Some(true)),
        call("post", value("sent"), answer(CallOutcome::NotCalled(refused)), None),
    ];
    Replay { calls, error: None }
}
