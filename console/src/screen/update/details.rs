//! The details of the selection.

use hotswap_protocol::{
    PluginInfo, Source, Step, VersionInfo, VersionState, same_plugin, version_label,
};

use super::{Effect, calls};
use crate::format;
use crate::screen::input::action::FleetAction;
use crate::screen::layout::{Panel, Tab};
use crate::screen::model::disk::DiskState;
use crate::screen::model::overlay::Overlay;
use crate::screen::model::timeline::Reload;
use crate::screen::model::tree::TreeTab as _;
use crate::screen::model::{Notice, NoticeSort, Phase, State};

pub(super) fn show(state: &mut State) -> Vec<Effect> {
    if state.focus == Panel::Plugins && state.plugins.fold(false) {
        return Vec::new();
    }
    let details = match (state.focus, state.tab) {
        (Panel::Plugins, _) => state.plugins.selected().map(|row| {
            let title = format!("{} {}", row.plugin.name, row.version.label());
            let lines = of_version(row.plugin, row.version, state);
            (title, lines)
        }),
        (Panel::Tabs, Tab::Functions) => return calls::open_form(state),
        (Panel::Tabs, Tab::Timeline) => {
            let reload = state.timeline.reloads().get(state.timeline.selected());
            reload.map(|reload| (reload.title(), of_reload(reload)))
        }
        (Panel::Tabs, Tab::Vault) => {
            if state.vault.toggle() {
                return Vec::new();
            }
            state.vault.details()
        }
        (Panel::Tabs, Tab::Live) => {
            if state.live.toggle() {
                return Vec::new();
            }
            state.live.details()
        }
        (Panel::Tabs, Tab::Build) => state.builds.diagnostic().map(|diagnostic| {
            let lines = diagnostic.text.lines().map(str::to_owned).collect();
            (diagnostic.message.clone(), lines)
        }),
        (Panel::Tabs, Tab::Diff) => {
            state.diff.outdate();
            None
        }
        (Panel::Tabs, Tab::Fleet) => return super::fleet::act(state, FleetAction::Open),
        (Panel::Logs, _) => {
            let last = state.logs.passing().saturating_sub(1);
            state.logs.row(state.logs.cursor().unwrap_or(last)).map(|row| {
                let title = format!("{} {}", format::clock_millis(row.at_ms), row.origin.writer());
                (title, row.text.split(" ⏎ ").map(str::to_owned).collect())
            })
        }
    };
    if let Some((title, lines)) = details {
        state.overlay = Some(Overlay::Details { title, lines, top: 0 });
    }
    Vec::new()
}

/// Shows the last notices, newest first.
pub(super) fn show_messages(state: &mut State) {
    let line = |notice: &Notice| {
        let sort = match notice.sort {
            NoticeSort::Done | NoticeSort::Note => "     ",
            NoticeSort::Warning => "look ",
            NoticeSort::Failure => "fail ",
        };
        format!("{}  {sort} {}", format::clock(notice.at_ms), notice.text)
    };
    let mut lines: Vec<String> = state.notices.iter().rev().map(line).collect();
    if lines.is_empty() {
        lines.push("There are no messages yet.".into());
    }
    state.overlay = Some(Overlay::Details { title: "Messages".into(), lines, top: 0 });
}

fn of_version(plugin: &PluginInfo, version: &VersionInfo, state: &State) -> Vec<String> {
    let age = format::duration(state.now_ms.saturating_sub(version.loaded_at_ms));
    let mut lines = vec![
        match state.host.phase {
            Phase::Ended => format!("state     the host has ended; {} before", version.state),
            _ => match in_words(version.state) {
                None => format!("state     {}", version.state),
                Some(words) => format!("state     {}: {words}", version.state),
            },
        },
        format!("build     {}", version.build_id),
        format!("crate     {} {}", plugin.name, version.crate_version),
        format!("size      {}", format::bytes(version.size_bytes)),
        format!("calls     {}", version.calls),
        format!("loaded    {} {}, {age} ago", format::clock(version.loaded_at_ms), format::zone()),
    ];
    if let Some(failures) = format::failures(&version.failures) {
        lines.push(format!("failed    {failures}"));
    }
    if let Some(heap) = version.heap_bytes {
        lines.insert(4, format!("heap      {} allocated by it", format::bytes(heap)));
    }
    let more = version.remark.as_ref().unwrap_or(&version.detail);
    if !more.is_empty() {
        lines.insert(1, format!("          {more}"));
    }
    lines.extend(format::patched(version).map(|patched| format!("patch     {patched}")));
    lines.extend(of_source(version.source.as_ref()));
    if version.state == VersionState::Active {
        if let DiskState::Unusable(reason) = state.disk.of(plugin) {
            lines.push(format!("on disk   a file that cannot be loaded: {reason}"));
        }
        let importers: Vec<&str> = importers(plugin, state).collect();
        lines.push(format!("imports   {}", list(&plugin.imports)));
        lines.push(format!("used by   {}", list(&importers)));
    }
    lines.push(String::new());
    let holders = format::holders(&version.held_by, &version.holders, state.now_ms);
    if holders.is_empty() {
        lines.push("Nothing holds it.".into());
    } else {
        lines.push("Held by".into());
        lines.extend(holders.iter().map(|holder| format!("  {holder}")));
        lines.extend(format::advice(&version.held_by).iter().map(ToString::to_string));
    }
    lines
}

/// A reload's effect on each plugin and value, its error, and the duration of each step.
fn of_reload(reload: &Reload) -> Vec<String> {
    let mut lines = vec![format!("at {} {}", format::clock_millis(reload.at_ms), format::zone())];
    match &reload.result {
        Ok(done) => {
            for plugin in &done.report.plugins {
                let label = |version| format!(", {}", version_label(version, plugin.patch));
                let version = plugin.version.map_or_else(String::new, label);
                lines.push(format!("  {:<12} {}{version}", plugin.name, plugin.outcome));
                let functions = plugin.patched_functions.iter();
                lines.extend(functions.map(|it| format!("               other code: {it}")));
                let why = plugin.not_patched.as_ref();
                lines.extend(why.map(|why| format!("               no patch: {why}")));
            }
            if !done.report.data_bag.is_empty() {
                lines.extend([String::new(), "DataBag".into()]);
            }
            for value in &done.report.data_bag {
                lines.push(format!("  {:<12} {}", value.key, format::value_change(value.change)));
            }
            if done.report.data_bag_omitted > 0 {
                lines.push(format!("  … and {} more", done.report.data_bag_omitted));
            }
        }
        Err(error) => {
            let step = error.step.map_or("an unknown step", Step::as_str);
            let plugin = error.plugin.as_ref().map_or_else(String::new, |it| format!(" of {it}"));
            lines.push(format!("failed in {step}{plugin}"));
            lines.extend(error.to_string().lines().map(str::to_owned));
        }
    }
    for (title, phases) in [
        ("Before it", &reload.before),
        ("Steps", &reload.phases),
        ("After it, seen once a second", &reload.after),
    ] {
        if !phases.is_empty() {
            lines.extend([String::new(), title.into()]);
        }
        for phase in phases {
            let plugin = phase.plugin.as_deref().unwrap_or("");
            let elapsed = format::microseconds(phase.elapsed_us);
            lines.push(format!("  {:<12} {plugin:<12} {elapsed:>8}", phase.kind.as_str()));
        }
    }
    lines
}

/// The plugins that import this one.
fn importers<'a>(plugin: &'a PluginInfo, state: &'a State) -> impl Iterator<Item = &'a str> {
    let imports_it =
        |other: &&PluginInfo| other.imports.iter().any(|it| same_plugin(it, &plugin.name));
    state.plugins.list().iter().filter(imports_it).map(|other| other.name.as_str())
}

fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "no other plugin".into() } else { names.join(", ") }
}

fn of_source(source: Option<&Source>) -> Vec<String> {
    let Some(source) = source else {
        return vec!["commit    none: not built in a git repository".into()];
    };
    let branch = if source.branch.is_empty() { "none: detached" } else { &source.branch };
    let changes = if source.dirty { " + changes" } else { "" };
    vec![format!("commit    {}{changes}", source.commit), format!("branch    {branch}")]
}

/// The meaning of a state; `None` if its name says it.
fn in_words(state: VersionState) -> Option<&'static str> {
    Some(match state {
        VersionState::Loading => "its steps are running, and nobody can call it yet",
        VersionState::Active => return None,
        VersionState::Retired => "replaced, but something still uses it",
        VersionState::Pinned => "replaced and unused; a thread must still run its destructors",
        VersionState::Freed => "nothing of it is left in memory, which was checked",
        VersionState::Kept => "replaced and unused, but it cannot be freed",
        VersionState::Failed => "it never served",
        _ => "a state that this console does not know",
    })
}
