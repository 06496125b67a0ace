//! Formats numbers and texts for people.

mod columns;

use std::borrow::Cow;
use std::sync::OnceLock;

use hotswap_build::{ChangedItem, SourceChanges};
use hotswap_fleet::Phase;
use hotswap_protocol::{
    Activity, Failures, FunctionInfo, GuardTrip, Holder, InFlightCall, Latencies, LogRecord,
    PinnedCall, PinnedOutcome, ValueChange, VersionInfo, version_label,
};
use time::{OffsetDateTime, UtcOffset};

pub use columns::{
    RowBreaks, cut, cut_front, in_one_line, pad, pad_left, pad_name, row_starts, width, wrap,
    wrap_words,
};

/// Whether to show colours: on a terminal, or if `CLICOLOR_FORCE` asks for them; never if `NO_COLOR` is set.
pub fn wants_colours(is_terminal: bool) -> bool {
    let value = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_forced = || value("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    value("NO_COLOR").is_none() && (is_terminal || is_forced())
}

/// The text with its colours, or without them.
pub fn in_colours(text: &str, are_shown: bool) -> Cow<'_, str> {
    match are_shown || !text.contains('\u{1b}') {
        true => text.into(),
        false => strip_ansi_escapes::strip_str(text).into(),
    }
}

/// The holders of a version as text. `texts` are the texts of an older host, which does not send holders as
/// data.
pub fn holders(held_by: &[Holder], texts: &[String], now_ms: u64) -> Vec<String> {
    if held_by.is_empty() {
        return texts.to_vec();
    }
    held_by.iter().map(|holder| holder.text(now_ms)).collect()
}

/// `greet and Score::add; struct Score changed`: the functions with changed bodies, and the other changed items,
/// with at most `most` names each. Empty if no source of the plugin differs.
pub fn source_changes(changes: &SourceChanges, most: usize) -> String {
    let functions = changes.functions.iter().map(|function| function.name.clone()).collect();
    let items = changes.items.iter().map(|ChangedItem { item, file, change }| match item {
        Some(item) => format!("{item} {}", change.as_str()),
        None => {
            format!("{} {}", file.file_name().unwrap_or_default().display(), change.as_str())
        }
    });
    let lists = [listed(functions, most), listed(items.collect(), most)];
    lists.into_iter().filter(|list| !list.is_empty()).collect::<Vec<_>>().join("; ")
}

/// `2, other code for greet and say`: the patch of a version; `None` if the version is as it was loaded.
pub fn patched(version: &VersionInfo) -> Option<String> {
    let patch = version.patch?;
    Some(match listed(version.patched_functions.clone(), usize::MAX) {
        functions if functions.is_empty() => {
            format!("{patch}, which changes no function")
        }
        functions => format!("{patch}, other code for {functions}"),
    })
}

/// Whether a build is a patch for the running version, and why not; `None` if no patch was requested.
pub fn patchable(patchable: Option<bool>, why_not: Option<&str>) -> Option<String> {
    match (patchable?, why_not) {
        (true, _) => Some("patchable: the running version gets the new code".into()),
        (false, why) => Some(format!("not patchable: {}", why.unwrap_or("for a reason unknown"))),
    }
}

/// `a, b and 3 more`: a list with at most `most` names.
fn listed(mut names: Vec<String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    names.truncate(most);
    if more > 0 {
        names.push(format!("{} more", thousands(more as u64)));
    }
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What to do about the holders, each advice once.
pub fn advice(held_by: &[Holder]) -> Vec<&'static str> {
    let mut advice: Vec<_> = held_by.iter().filter_map(Holder::advice).collect();
    advice.sort_unstable();
    advice.dedup();
    advice
}

/// What to do about a host whose engine has not answered for this long.
pub fn silent_host(waited_ms: u64) -> String {
    format!(
        "the host runs, but has not opened a console socket for {} s; the console keeps trying. Is the host still \
         starting? Is its engine built with a console?",
        waited_ms / 1000
    )
}

/// `4.3 MiB`
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12.1K`: as [`bytes`], in at most six columns.
pub fn short_bytes(count: u64) -> String {
    let text = bytes(count);
    let short = text.split_once(' ').map(|(value, unit)| format!("{value}{}", &unit[..1]));
    short.unwrap_or(text)
}

/// `1,234,567`
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// `1 line`, `2,345 lines`
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { several })
}

/// `1.2k`: a count in at most five columns.
pub fn count(count: u64) -> String {
    const UNITS: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    if count < 1000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// `8 µs`, `41 ms`, `4.1 s`
pub fn microseconds(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => duration(us / 1_000),
    }
}

/// `2 ms`; from a second on like [`microseconds`].
pub fn milliseconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { microseconds(ms.saturating_mul(1_000)) }
}

/// `40 ns`, `1.2 µs`, `8 µs`, and further like [`microseconds`].
pub fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => microseconds(ns / 1_000),
    }
}

/// `40 ns`, `1.2 µs`, `8 µs`, from microseconds with a fraction.
pub fn fractional_microseconds(us: f64) -> String {
    // The conversion turns NaN and negative values into 0, and too large values into the largest one.
    nanoseconds((us * 1e3).round() as u64)
}

/// `1,000 calls: p50 1.2 µs, p90 1.9 µs, p99 21 µs, 900 ns to 41 µs`; percentiles are left out if there are too
/// few calls.
pub fn latencies(latencies: &Latencies) -> String {
    let percentiles = [
        (LEAST_FOR_MEDIAN, "p50", latencies.p50_ns),
        (LEAST_FOR_MEDIAN, "p90", latencies.p90_ns),
        (LEAST_FOR_P99, "p99", latencies.p99_ns),
    ];
    let shown = percentiles.iter().filter(|(least, ..)| latencies.calls >= *least);
    let shown: String =
        shown.map(|(_, name, ns)| format!("{name} {}, ", nanoseconds(*ns))).collect();
    format!(
        "{} calls: {shown}{} to {}",
        thousands(latencies.calls),
        nanoseconds(latencies.min_ns),
        nanoseconds(latencies.max_ns),
    )
}

/// Lines such as `≤  2.0 µs ████████▌ 812`, one for each bucket, at most `width` columns wide.
pub fn histogram(latencies: &Latencies, width: usize) -> impl Iterator<Item = String> {
    const LABEL_WIDTH: usize = 10;
    let most = latencies.buckets.iter().map(|it| it.calls).max().unwrap_or(0);
    let digits = thousands(most).len();
    let bar_width = width.saturating_sub(LABEL_WIDTH + digits + 2);
    latencies.buckets.iter().map(move |bucket| {
        let label = nanoseconds(bucket.up_to_ns);
        let label = format!("≤ {}{label}", " ".repeat(8_usize.saturating_sub(self::width(&label))));
        let bar = bar(bucket.calls, most, bar_width);
        let padding = " ".repeat(bar_width.saturating_sub(self::width(&bar)));
        let calls = thousands(bucket.calls);
        format!("{label} {bar}{padding} {calls:>digits$}")
    })
}

/// A bar for `part`, relative to the longest bar. Every value above 0 gets at least the thinnest bar.
pub fn bar(part: u64, longest: u64, width: usize) -> String {
    /// The fractions of a column that a bar can end in.
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if longest == 0 || part == 0 || width == 0 {
        return String::new();
    }
    let eighths = u128::from(part) * (width as u128 * 8) / u128::from(longest);
    let eighths = usize::try_from(eighths).unwrap_or(usize::MAX).min(width * 8).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// `live 0.9 s after save`
pub fn live_after_save(live_ms: u64) -> String {
    format!("live {} after save", seconds(live_ms))
}

/// `40 ms`, `0.9 s`
pub fn seconds(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        100..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => duration(ms),
    }
}

/// The columns of a sparkline: ` ▁▃█`. The greatest sample has the full height, and every sample above 0 has some
/// height.
pub fn sparkline(samples: impl Iterator<Item = f64> + Clone) -> String {
    /// The heights of a column; the first is for 0.
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = samples.clone().fold(0.0, f64::max);
    let highest = HEIGHTS.len() - 1;
    let column = |sample: f64| match sample / most {
        part if part > 0.0 => HEIGHTS[((part * highest as f64).ceil() as usize).clamp(1, highest)],
        _ => HEIGHTS[0],
    };
    samples.map(column).collect()
}

/// The times from saves until reloads were published, as a sparkline: `▂▃✖▅`, with a cross for a failed reload.
pub fn live_times(times: &[Option<u64>]) -> String {
    let figures = sparkline(times.iter().map(|time| time.unwrap_or(0) as f64));
    let columns = figures.chars().zip(times);
    columns.map(|(column, time)| if time.is_some() { column.max('▁') } else { '✖' }).collect()
}

/// `3m`, `2h 5m`: coarse, so that the text changes at most once a minute after the first minute.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `greet("Ada", 2)`
pub fn call(function: &str, args: &[serde_json::Value]) -> String {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    format!("{function}({})", args.join(", "))
}

/// The mark of a pinned call: `≠` if its result differs from that in the version before, `=` if it is the same,
/// `·` if there is no version before.
pub fn pin_mark(pin: &PinnedCall) -> char {
    match pin.is_same {
        Some(true) => '=',
        Some(false) => '≠',
        None => '·',
    }
}

/// The result of a pinned call: its value as JSON, or why there is none.
pub fn pin_outcome(outcome: &PinnedOutcome) -> String {
    match outcome {
        PinnedOutcome::Value(value) => value.to_string(),
        PinnedOutcome::LargeValue(size) => format!("a value of {}", bytes(*size)),
        PinnedOutcome::Error(error) => format!("failed: {}", error.message),
    }
}

/// The offset of local time from UTC, once it is known.
static OFFSET: OnceLock<UtcOffset> = OnceLock::new();

/// Makes times appear in the time zone of this machine. The system reports the zone only to a process with one
/// thread; otherwise times are in UTC.
pub fn use_local_time() {
    if let Ok(offset) = UtcOffset::current_local_offset() {
        // It may be set already.
        let _ = OFFSET.set(offset);
    }
}

fn offset() -> UtcOffset {
    OFFSET.get().copied().unwrap_or(UtcOffset::UTC)
}

/// The zone of all times: `UTC`, `UTC+2`, `UTC−3:30`.
pub fn zone() -> String {
    zone_of(offset())
}

fn zone_of(offset: UtcOffset) -> String {
    let (hours, minutes, _) = offset.as_hms();
    let sign = if offset.is_negative() { '−' } else { '+' };
    match (hours.unsigned_abs(), minutes.unsigned_abs()) {
        (0, 0) => "UTC".into(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
    }
}

/// The time of day in the zone, `12:03:07`.
pub fn clock(at_ms: u64) -> String {
    clock_in(offset(), at_ms)
}

fn clock_in(offset: UtcOffset, at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    let seconds = seconds.saturating_add(offset.whole_seconds().into()).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The day and the time in the zone, `2026-11-22 12:03 UTC`.
pub fn date(at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(moment) => {
            let date = moment.to_offset(offset()).date();
            format!("{date} {} {}", &clock(at_ms)[..5], zone())
        }
        Err(_) => "at an invalid time".into(),
    }
}

/// The time of day in the zone, `12:03:07.123`.
pub fn clock_millis(at_ms: u64) -> String {
    format!("{}.{:03}", clock(at_ms), at_ms % 1000)
}

/// The first digits of a build id, enough to distinguish builds; empty for a plugin that is linked into its host.
pub fn short_build_id(build_id: &str) -> &str {
    if build_id.bytes().all(|digit| digit == b'0') {
        return "–";
    }
    build_id.get(..8).unwrap_or(build_id)
}

/// The origin of a record: `world@v3`, `world@v3+2`, or the target of the host's own code.
pub fn log_origin(record: &LogRecord) -> String {
    match (&record.plugin, record.version) {
        (Some(plugin), Some(version)) => {
            format!("{plugin}@{}", version_label(version, record.patch))
        }
        (Some(plugin), None) => plugin.clone(),
        (None, _) => record.target.clone(),
    }
}

/// What a reload did with a value, as text after its name.
pub fn value_change(change: ValueChange) -> &'static str {
    match change {
        ValueChange::Added => "is new",
        ValueChange::Set => "was replaced",
        ValueChange::Kept => "is unchanged",
        ValueChange::Shared => "was taken over unchanged",
        ValueChange::Migrated => "converted to another type",
        ValueChange::Dropped => "was dropped with its version",
        _ => "changed in a way that this console does not know",
    }
}

/// What to do if a file system of this type may not report all changes.
pub(crate) fn silent_file_system(kind: &str) -> String {
    format!("they are on {kind}, which may not report all changes: --poll 1 scans them each second")
}

/// The message that the host is not older than its sources any more.
pub const HOST_CURRENT: &str = "the host's sources are again those from which it was built";

/// The message that a host goes back from early code, because the build of the plugin failed.
pub fn early_dropped(plugin: &str) -> String {
    format!(
        "{plugin} served its new code already, but the build failed: the host goes back to the artifact in the \
         plugin directory"
    )
}

/// The message that changed manifests are not taken up.
pub fn manifests_refused(error: &str) -> String {
    format!(
        "the changed manifests cannot be used, so the list of plugins stays as it was: {error}; the next save \
         reads the manifests again"
    )
}

/// The message that cargo made other code of a plugin than a build without cargo.
pub fn disagreement(plugin: &str, missed: &[String]) -> String {
    let missed = match missed {
        [] => String::new(),
        crates => format!(" (it compiled {} again)", crates.join(", ")),
    };
    format!(
        "cargo compiles {plugin} to other code than the build without cargo{missed}; cargo's is used"
    )
}

/// The smallest number of calls for which percentiles are shown.
pub const LEAST_FOR_MEDIAN: u64 = 20;
const LEAST_FOR_P99: u64 = 100;

/// How many calls of a function were timed.
pub fn timed_calls(function: &FunctionInfo) -> u64 {
    function.latency_buckets.last().map_or(0, |bucket| bucket.calls)
}

/// The 99th percentile of the latency of a function, in microseconds; `None` if too few calls were timed.
pub fn p99_us(function: &FunctionInfo) -> Option<f64> {
    function.latency_us_p99.filter(|_| timed_calls(function) >= LEAST_FOR_P99)
}

/// The timed calls of a function: `65 timed calls: p50 7.1 µs, none above 8.1 µs`, without percentiles if there
/// are too few calls. `None` if no call was timed.
pub fn timed(function: &FunctionInfo) -> Option<String> {
    let slowest = function.latency_buckets.last()?;
    let calls = counted(slowest.calls, "timed call", "timed calls");
    let percentile = |least, name: &str, us: Option<f64>| {
        let us = us.filter(|_| slowest.calls >= least)?;
        Some(format!("{name} {}, ", fractional_microseconds(us)))
    };
    let p50 = percentile(LEAST_FOR_MEDIAN, "p50", function.latency_us_p50).unwrap_or_default();
    let p99 = percentile(LEAST_FOR_P99, "p99", function.latency_us_p99).unwrap_or_default();
    Some(format!("{calls}: {p50}{p99}none above {}", nanoseconds(slowest.up_to_ns)))
}

/// The failed calls: `2 errors, 1 panic; first in buy at 12:03:01 UTC: out of stock`. `None` if no call failed.
pub fn failures(failures: &Failures) -> Option<String> {
    let first = failures.first_failure.as_ref()?;
    let counts = [(failures.errors, "error", "errors"), (failures.panics, "panic", "panics")];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, one, several)| counted(count, one, several)).collect();
    let (counts, at) = (counts.join(", "), clock(first.at_ms));
    Some(format!("{counts}; first in {} at {at} {}: {}", first.function, zone(), first.message))
}

/// The phase of a rollout as text after the release's name: `r3 is being judged`.
pub fn rollout_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Checking => "is being checked",
        Phase::Staging => "is being staged",
        Phase::Activating => "is being loaded",
        Phase::Baking => "is being judged",
        Phase::Promoting => "is being promoted",
        Phase::Done => "is done",
        Phase::Paused => "is paused",
        Phase::RollingBack => "is being rolled back",
        Phase::RolledBack => "was rolled back",
        Phase::Superseded => "was superseded",
    }
}

/// `world v4 failed 10 times within 5 s: going back to the build of v3`
pub fn guard_trip(trip: &GuardTrip) -> String {
    let GuardTrip { plugin, version, patch, failures, within_ms, back_to, .. } = trip;
    let version = version_label(*version, *patch);
    let then = match back_to {
        Some(version) => format!("going back to the build of v{version}"),
        None => "it stays: the guard goes back at most once between two builds".to_owned(),
    };
    let seconds = *within_ms as f64 / 1000.0;
    format!("{plugin} {version} failed {failures} times within {seconds} s: {then}")
}

/// The call that ended the host, as far as the calls in flight show: a request to end the process, or a step of a
/// load.
pub(crate) fn culprit(calls: &[InFlightCall]) -> Option<&InFlightCall> {
    let asked = calls.iter().find(|call| call.activity == Some(Activity::ProcessExit));
    asked.or_else(|| calls.iter().find(|call| call.is_of_load()))
}

/// `; world v3 asked for it, in greet on "http-3"`, or `; it was in open of world v3`; empty if neither is known.
pub(crate) fn cause_of_end(calls: &[InFlightCall]) -> String {
    let Some(culprit) = culprit(calls) else { return String::new() };
    let InFlightCall { plugin, version, patch, thread, thread_id, .. } = culprit;
    let label = version_label(*version, *patch);
    if culprit.activity != Some(Activity::ProcessExit) {
        let activity = culprit.activity.map_or("the load", Activity::as_str);
        return format!("; it was in {activity} of {plugin} {label}");
    }
    let is_around = |call: &&InFlightCall| {
        (&call.plugin, call.version, call.thread_id) == (plugin, *version, *thread_id)
            && call.activity != Some(Activity::ProcessExit)
    };
    let around = calls.iter().rfind(is_around).and_then(|call| call.function.as_deref());
    let around = around.map_or_else(String::new, |function| format!("{function} on "));
    format!(
        "; {plugin} {label} asked for it (`process::exit`), in {around}\"{thread}\"; an error or a panic \
         would end the call alone"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stay_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(4_508_877), "4.3 MiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!((short_bytes(12), short_bytes(12_345)), ("12B".into(), "12.1K".into()));
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.2k");
        assert_eq!(count(999_999), "1.0M");
        assert_eq!(thousands(18_042), "18,042");
        assert_eq!(thousands(100), "100");
        assert_eq!(counted(1, "line", "lines"), "1 line");
        assert_eq!(counted(2_345, "line", "lines"), "2,345 lines");
        assert_eq!(microseconds(41_200), "41 ms");
        assert_eq!(duration(7_500_000), "2h 5m");
        assert_eq!(date(1_795_348_800_000), "2026-11-22 12:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(clock_millis(43_387_123), "12:03:07.123");
    }

    #[test]
    fn the_name_of_a_time_zone_matches_its_times() {
        let at = |hours, minutes| UtcOffset::from_hms(hours, minutes, 0).unwrap();
        let local = |offset, ms| (zone_of(offset), clock_in(offset, ms));
        assert_eq!(local(at(0, 0), 3_661_000), ("UTC".into(), "01:01:01".into()));
        assert_eq!(local(at(5, 30), 3_661_000), ("UTC+5:30".into(), "06:31:01".into()));
        assert_eq!(local(at(-3, -30), 3_661_000), ("UTC−3:30".into(), "21:31:01".into()));
    }

    #[test]
    fn a_build_id_that_is_too_short_stays_whole() {
        assert_eq!(short_build_id("abc"), "abc");
        assert_eq!(short_build_id("0123456789"), "01234567");
    }
}
