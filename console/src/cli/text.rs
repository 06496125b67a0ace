//! The answers of commands as text.

use std::fmt::Write;

use hotswap_protocol::{
    ArtifactContents, Beside, Cut, FreeResult, HostInfo, InvokeResult, LiveSnapshot, LogRecord,
    Outcome, PinnedCall, Pins, ReloadEnd, ReloadReport, Reloads, Snapshot, VaultSnapshot,
    version_label,
};
use serde_json::Value;

use crate::format;

/// The width of a histogram in columns.
const HISTOGRAM_WIDTH: usize = 60;

pub(super) fn hosts(hosts: &[HostInfo]) -> String {
    let rows = hosts
        .iter()
        .map(|host| [host.pid.to_string(), host.name.clone(), host.socket.display().to_string()]);
    table(["PID", "NAME", "SOCKET"], rows)
}

pub(super) fn status(snapshot: &Snapshot, host_outdated: Option<bool>) -> String {
    let host = &snapshot.host;
    let mut text = format!("{} pid {} generation {}\n", host.name, host.pid, snapshot.generation);
    if host_outdated == Some(true) {
        text += "the host is older than its sources: build it again and restart it\n";
    }
    if let Some(agent) = &host.agent {
        text += &format!("{agent} decides what it runs; its name there is {}\n", agent.host);
    }
    let rows = snapshot.plugins.iter().flat_map(|plugin| {
        plugin.versions.iter().map(|version| {
            [
                plugin.name.clone(),
                version.label(),
                version.state.to_string(),
                format::short_build_id(&version.build_id).to_owned(),
                format::bytes(version.size_bytes),
                version.heap_bytes.map_or_else(|| "–".into(), format::bytes),
                version.calls.to_string(),
                version.detail.clone(),
            ]
        })
    });
    let header = ["PLUGIN", "VERSION", "STATE", "BUILD", "SIZE", "HEAP", "CALLS", "DETAIL"];
    text.push_str(&table(header, rows));
    text
}

pub(super) fn reload(report: &ReloadReport) -> String {
    let mut text = format!(
        "generation {} after {}\n",
        report.generation,
        format::microseconds(report.elapsed_us)
    );
    let rows = report.plugins.iter().map(|plugin| {
        let version = plugin.version.map(|version| version_label(version, plugin.patch));
        [plugin.name.clone(), plugin.outcome.to_string(), version.unwrap_or_default()]
    });
    text.push_str(&table(["PLUGIN", "OUTCOME", "VERSION"], rows));
    text
}

/// The last reloads, the oldest first: `12:03:07  12  2.1 ms  world ok v3`.
pub(super) fn reloads(reloads: &Reloads) -> String {
    if reloads.reloads.is_empty() {
        return "nothing was loaded yet\n".into();
    }
    let rows = reloads.reloads.iter().map(|reload| {
        let at = format::clock(reload.at_ms);
        match &reload.end {
            ReloadEnd::Report(report) => [
                at,
                report.generation.to_string(),
                format::microseconds(report.elapsed_us),
                what_changed(report),
            ],
            ReloadEnd::Error(error) => {
                [at, "–".into(), String::new(), format!("failed: {}", error.message)]
            }
        }
    });
    table(["TIME", "GENERATION", "TOOK", "WHAT"], rows)
}

/// `world: ok, dog: removed`
fn what_changed(report: &ReloadReport) -> String {
    let plugins = report.plugins.iter().filter(|it| it.outcome != Outcome::Unchanged);
    let plugins: Vec<String> = plugins.map(|it| format!("{}: {}", it.name, it.outcome)).collect();
    if plugins.is_empty() { "nothing changed".into() } else { plugins.join(", ") }
}

pub(super) fn invoked(result: &InvokeResult) -> String {
    let Some(beside) = &result.beside else { return returned(result) };
    let other = match &**beside {
        Beside::Result(other) => called(other),
        Beside::Error(error) => format!("failed beside it: {error}\n"),
    };
    format!("{}\n{other}", called(result))
}

/// The result of one of two versions, with the version's name and the duration.
fn called(result: &InvokeResult) -> String {
    let InvokeResult { plugin, version, patch, elapsed_ns, .. } = result;
    let patch = patch.map_or_else(String::new, |patch| format!("+{patch}"));
    let whose = match version {
        0 => format!("{plugin}, the artifact"),
        version => format!("{plugin}@{version}{patch}"),
    };
    format!("{whose}  {}\n{}", format::nanoseconds(*elapsed_ns), returned(result))
}

fn returned(result: &InvokeResult) -> String {
    let mut text = match &result.value {
        Value::String(text) => format!("{text}\n"),
        other => format!("{other:#}\n"),
    };
    if let Some(latencies) = &result.latencies {
        let _ = writeln!(text, "\n{}", format::latencies(latencies));
        text.extend(format::histogram(latencies, HISTOGRAM_WIDTH).map(|line| line + "\n"));
    }
    text
}

/// The pinned calls, each on a line, with its outcomes below.
pub(super) fn pins(pins: &Pins) -> String {
    match pins.pins.as_slice() {
        [] => "no call is pinned\n".into(),
        pins => pins.iter().map(pinned).collect(),
    }
}

/// `≠ 3  world greet("Ada", 2)`, with the outcomes of both versions below, or one outcome if they are equal.
pub(super) fn pinned(pin: &PinnedCall) -> String {
    let mark = format::pin_mark(pin);
    let call = format::call(&pin.function, &pin.args);
    let mut text = format!("{mark} {}  {} {call}\n", pin.id, pin.plugin);
    let before = pin.before.iter().filter(|_| pin.is_same == Some(false));
    for answer in before.chain([&pin.now]) {
        let elapsed = answer
            .elapsed_ns
            .map_or_else(String::new, |ns| format!("  {}", format::nanoseconds(ns)));
        let given = format::pin_outcome(&answer.outcome);
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {}  {given}{elapsed}", answer.label());
    }
    text
}

pub(super) fn unpinned(pin: &PinnedCall) -> String {
    let call = format::call(&pin.function, &pin.args);
    format!("{} {call} is no longer pinned\n", pin.plugin)
}

pub(super) fn vault(vault: &VaultSnapshot) -> String {
    let mut text = format!("generation {}\n\nDataBag\n", vault.generation);
    let entries = vault.data_bag.iter().map(|entry| {
        [
            entry.key.clone(),
            entry.type_name.clone(),
            entry.owner.clone(),
            entry.size_bytes.map(format::bytes).unwrap_or_default(),
            entry.value.as_ref().map_or_else(
                || "(opaque)".into(),
                |value| {
                    let cuts: String = entry.cuts.iter().map(cut).collect();
                    format!("{value}{cuts}")
                },
            ),
        ]
    });
    text.push_str(&table(["KEY", "TYPE", "OWNER", "SIZE", "VALUE"], entries));
    let more = vault.data_bag_len.saturating_sub(vault.data_bag.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "… {} more", format::thousands(more));
    }
    let _ = if vault.has_extension() {
        let (type_name, value) = (&vault.extension_type, &vault.extension);
        write!(text, "\nExtension {type_name}\n{value:#}\n\nSlots\n")
    } else {
        write!(text, "\nExtension: the host has set none\n\nSlots\n")
    };
    let slots = vault
        .slots
        .iter()
        .map(|slot| [slot.interface.clone(), slot.name.clone(), slot.owner.clone()]);
    text.push_str(&table(["INTERFACE", "NAME", "OWNER"], slots));
    text
}

/// ` (/scores: 100 of 100,000)`
fn cut(cut: &Cut) -> String {
    let of = cut.of.map_or("more".into(), format::thousands);
    let place = if cut.path.is_empty() { String::new() } else { format!("{}: ", cut.path) };
    format!(" ({place}{} of {of})", format::thousands(cut.shown))
}

pub(super) fn live(live: &LiveSnapshot) -> String {
    let mut text = format!("generation {}\n\nFunctions\n", live.generation);
    let functions = live.functions.iter().map(|it| {
        [
            it.function.name.clone(),
            it.function.signature.clone(),
            format!("{}@v{}", it.plugin, it.version),
            it.function.calls.to_string(),
        ]
    });
    text.push_str(&table(["NAME", "SIGNATURE", "PLUGIN", "CALLS"], functions));
    text.push_str("\nTypes\n");
    let types = live.types.iter().map(|it| {
        let plugin = format!("{}@v{}", it.plugin, it.version);
        [it.name.clone(), plugin, crate::host::schema::summary(&it.schema)]
    });
    text.push_str(&table(["NAME", "PLUGIN", "SHAPE"], types));
    text
}

pub(super) fn freed(result: &FreeResult) -> String {
    let mut text = format!("{} v{}: {}\n", result.plugin, result.version, result.detail);
    for holder in &result.holders {
        let _ = writeln!(text, "  held by {holder}");
    }
    for advice in format::advice(&result.held_by) {
        let _ = writeln!(text, "  {advice}");
    }
    text
}

/// The declarations of an artifact.
pub(super) fn contents(contents: &ArtifactContents) -> String {
    let mut text = String::from("\nFunctions\n");
    // Writing to a string does not fail.
    for function in &contents.functions {
        let live = if function.is_live { "live " } else { "" };
        let asynchronous = if function.is_async { "async " } else { "" };
        let _ = writeln!(text, "  {live}{asynchronous}fn {}{}", function.name, function.signature);
        for line in function.doc.lines() {
            let _ = writeln!(text, "      {}", line.trim());
        }
        for param in &function.params {
            let _ = writeln!(text, "      {}: {}", param.name, param.schema);
        }
        let _ = writeln!(text, "      -> {}", function.returns);
    }
    push_none_if_empty(&mut text, contents.functions.is_empty());
    text.push_str("\nLive types\n");
    for live in &contents.live_types {
        let _ = writeln!(text, "  {}  {}", live.name, live.doc.lines().next().unwrap_or_default());
        let _ = writeln!(text, "      {}", live.schema);
    }
    push_none_if_empty(&mut text, contents.live_types.is_empty());
    text.push_str("\nTypes that cross\n");
    for shared in &contents.types {
        let _ = writeln!(text, "  {}  {} bytes", shared.name, shared.size_bytes);
        for member in &shared.members {
            let _ = writeln!(text, "      {member}");
        }
    }
    push_none_if_empty(&mut text, contents.types.is_empty());
    text.push_str("\nExports\n");
    if let Some(export) = &contents.export {
        let _ = writeln!(text, "  {}", export.interface);
        for method in &export.methods {
            let _ = writeln!(text, "      {method}");
        }
    }
    push_none_if_empty(&mut text, contents.export.is_none());
    text.push_str("\nImports\n");
    for import in &contents.imports {
        let optional = if import.optional { ", can do without" } else { "" };
        let _ = match import.interface.as_str() {
            "" => writeln!(text, "  {} earlier{optional}", import.plugin),
            interface => writeln!(text, "  {interface} from {}{optional}", import.plugin),
        };
    }
    push_none_if_empty(&mut text, contents.imports.is_empty());
    text
}

fn push_none_if_empty(text: &mut String, is_empty: bool) {
    if is_empty {
        text.push_str("  (none)\n");
    }
}

/// `12:03:07.123 WARN world@v3 velocity clamped limit=3`
pub(crate) fn log_record(record: &LogRecord) -> String {
    let mut text = format!(
        "{} {:5} {} {}",
        format::clock_millis(record.at_ms),
        record.level.as_str(),
        format::log_origin(record),
        record.message
    );
    for (name, value) in &record.fields {
        let _ = write!(text, " {name}={value}");
    }
    text
}

/// Left-aligned columns, two spaces apart; the last one is not padded.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    // A name with more than one line is one row nevertheless.
    let in_a_line = |row: [String; N]| row.map(|cell| cell.replace('\n', "\u{fffd}"));
    let rows: Vec<[String; N]> = rows.map(in_a_line).collect();
    if rows.is_empty() {
        return "(none)\n".into();
    }
    let mut widths = header.map(format::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(format::width(cell));
        }
    }
    let mut text = String::new();
    for row in std::iter::once(header.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format::pad(cell, width));
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
