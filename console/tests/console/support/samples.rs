//! A host as the tests show it.

use hotswap_protocol::{
    DataBagEntry, ExtensionSlot, FunctionInfo, HostInfo, InvokeResult, LogLevel, LogRecord,
    Outcome, ParamInfo, PluginInfo, PluginOutcome, ReloadReport, Snapshot, Source, VaultSnapshot,
    VersionInfo, VersionState,
};
use serde_json::json;

/// 2026-11-22 12:00:00 UTC.
pub const NOON_MS: u64 = 1_795_348_800_000;

pub fn host(pid: u32) -> HostInfo {
    HostInfo {
        name: "sample-host".into(),
        pid,
        started_at_ms: NOON_MS,
        plugin_dir: "/srv/plugins".into(),
        staging_dir: "/srv/staging".into(),
        socket: format!("/run/hotswap/{pid}.sock").into(),
        engine_version: "0.1.0".into(),
        toolchain: "rustc 1.95.0 (59807616e)".into(),
    }
}

pub fn version(version: u32, state: VersionState, detail: &str) -> VersionInfo {
    VersionInfo {
        version,
        state,
        detail: detail.into(),
        build_id: format!("{version:x}c0ffee{version:025x}"),
        crate_version: "0.1.0".into(),
        source: Some(Source {
            commit: "b135eab0c0ffee00000000000000000000000000".into(),
            commit_time: 1_795_340_000,
            branch: "main".into(),
            dirty: version > 1,
        }),
        loaded_at_ms: NOON_MS + u64::from(version) * 60_000,
        size_bytes: 4_508_877,
        calls: 1_234,
        holders: Vec::new(),
    }
}

pub fn snapshot(pid: u32) -> Snapshot {
    let mut retired = version(2, VersionState::Retired, "retired: 1 call, 1 value");
    retired.holders =
        vec!["call greet on http-3, ≥ 4 s".into(), "value \"greetings\" in the DataBag".into()];
    let parameter = |name: &str, type_name: &str, schema| ParamInfo {
        name: name.into(),
        type_name: type_name.into(),
        schema,
    };
    Snapshot {
        host: host(pid),
        generation: 3,
        plugins: vec![
            PluginInfo {
                name: "world".into(),
                versions: vec![
                    version(3, VersionState::Active, "active"),
                    retired,
                    version(1, VersionState::Freed, "freed: 4.3 MiB unmapped after 12 ms"),
                ],
                imports: vec![],
                functions: vec![
                    FunctionInfo {
                        name: "greet".into(),
                        signature: "(name: String, times: u32) -> String".into(),
                        doc: "Says hello.".into(),
                        params: vec![
                            parameter("name", "String", json!({ "type": "string" })),
                            parameter(
                                "times",
                                "u32",
                                json!({ "type": "integer", "format": "uint32", "minimum": 0 }),
                            ),
                        ],
                        returns: json!({ "type": "string" }),
                        calls: 1_234,
                    },
                    FunctionInfo {
                        name: "reset".into(),
                        signature: "() -> ()".into(),
                        doc: "Forgets all greetings.".into(),
                        params: vec![],
                        returns: json!({ "type": "null" }),
                        calls: 0,
                    },
                ],
            },
            PluginInfo {
                name: "cat".into(),
                versions: vec![version(1, VersionState::Active, "active")],
                imports: vec![],
                functions: vec![],
            },
            PluginInfo {
                name: "dog".into(),
                versions: vec![version(
                    1,
                    VersionState::Failed,
                    "failed in on_load: panicked at 'no bone', src/lib.rs:12",
                )],
                imports: vec![],
                functions: vec![],
            },
        ],
    }
}

pub fn vault() -> VaultSnapshot {
    VaultSnapshot {
        generation: 3,
        data_bag: vec![DataBagEntry {
            key: "greetings".into(),
            type_name: "u64".into(),
            owner: "world v3".into(),
            size_bytes: Some(2),
            value: Some(json!(42)),
        }],
        extension: json!({ "served": 7, "heartbeats": 3 }),
        extension_type: "sample_host::Counters".into(),
        slots: vec![ExtensionSlot {
            interface: "Greeter".into(),
            name: "cat".into(),
            owner: "cat v1".into(),
        }],
    }
}

pub fn report() -> ReloadReport {
    let outcome = |name: &str, outcome, version| PluginOutcome {
        name: name.into(),
        outcome,
        version: Some(version),
        elapsed_us: 900,
    };
    ReloadReport {
        generation: 4,
        plugins: vec![outcome("world", Outcome::Ok, 4), outcome("cat", Outcome::Unchanged, 1)],
        elapsed_us: 41_200,
        phases: Vec::new(),
    }
}

pub fn greeting() -> InvokeResult {
    InvokeResult {
        value: json!("Hello, Ada! Hello, Ada!"),
        plugin: "world".into(),
        version: 3,
        elapsed_us: 8,
    }
}

pub fn record(seq: u64, level: LogLevel, message: &str) -> LogRecord {
    LogRecord {
        seq,
        at_ms: NOON_MS + seq * 1_000,
        level,
        target: "sample_host::http".into(),
        message: message.into(),
        fields: Vec::new(),
        plugin: None,
        version: None,
    }
}
