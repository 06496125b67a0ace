//! Figures and texts as people read them.

use hotswap_protocol::{Latencies, LogRecord, ValueChange};
use time::OffsetDateTime;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Where text breaks into rows of so many columns: between any two characters.
pub struct RowBreaks {
    width: usize,
    used: usize,
}

impl RowBreaks {
    /// Of a text that has not begun, in rows of at least one column.
    pub fn of_width(width: usize) -> Self {
        Self { width: width.max(1), used: 0 }
    }

    /// Whether the next character of the text begins another row.
    pub fn is_before(&mut self, next: char) -> bool {
        let columns = next.width().unwrap_or(0);
        let breaks = self.used + columns > self.width && self.used > 0;
        self.used = if breaks { columns } else { self.used + columns };
        breaks
    }
}

/// The text in lines of at most `width` columns, broken where the columns end.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut breaks = RowBreaks::of_width(width);
    let mut lines = vec![String::new()];
    for c in text.chars() {
        if breaks.is_before(c) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The text in lines of at most `width` columns, broken between words where it has any; what
/// follows is indented as the text is.
pub fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let indent = text.len() - text.trim_start_matches(' ').len();
    let indent = " ".repeat(indent.min(width / 2));
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        if !line.trim().is_empty() && line.width() + word.trim_end().width() > width {
            lines.push(std::mem::replace(&mut line, indent.clone()));
        }
        line.push_str(word);
    }
    lines.push(line);
    // A word that is longer than a line.
    lines.iter().flat_map(|line| wrap(line.trim_end(), width)).collect()
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

/// `1,234,567`
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
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

/// `18,042`
pub fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

/// `2 ms`, and from a second on as [`microseconds`]
pub fn milliseconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { microseconds(ms.saturating_mul(1_000)) }
}

/// `40 ns`, `1.2 µs`, `8 µs`, and on as [`microseconds`]
pub fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => microseconds(ns / 1_000),
    }
}

/// `40 ns`, `1.2 µs`, `8 µs` of microseconds with fractions
pub fn fractional_microseconds(us: f64) -> String {
    // What is no number of nanoseconds is none or too many of them.
    nanoseconds((us * 1e3).round() as u64)
}

/// `1,000 calls: p50 1.2 µs, p90 1.9 µs, p99 21 µs, 900 ns to 41 µs`
pub fn latencies(latencies: &Latencies) -> String {
    format!(
        "{} calls: p50 {}, p90 {}, p99 {}, {} to {}",
        grouped(usize::try_from(latencies.calls).unwrap_or(usize::MAX)),
        nanoseconds(latencies.p50_ns),
        nanoseconds(latencies.p90_ns),
        nanoseconds(latencies.p99_ns),
        nanoseconds(latencies.min_ns),
        nanoseconds(latencies.max_ns),
    )
}

/// A line a bucket, `≤  2.0 µs ████████▌ 812`, at most `width` columns wide.
pub fn histogram(latencies: &Latencies, width: usize) -> impl Iterator<Item = String> {
    const LABEL_WIDTH: usize = 10;
    let most = latencies.buckets.iter().map(|it| it.calls).max().unwrap_or(0);
    let digits = grouped(usize::try_from(most).unwrap_or(usize::MAX)).len();
    let bar_width = width.saturating_sub(LABEL_WIDTH + digits + 2);
    latencies.buckets.iter().map(move |bucket| {
        let label = nanoseconds(bucket.up_to_ns);
        let label = format!("≤ {}{label}", " ".repeat(8_usize.saturating_sub(self::width(&label))));
        let bar = bar(bucket.calls, most, bar_width);
        let padding = " ".repeat(bar_width.saturating_sub(self::width(&bar)));
        let calls = grouped(usize::try_from(bucket.calls).unwrap_or(usize::MAX));
        format!("{label} {bar}{padding} {calls:>digits$}")
    })
}

/// A bar as long as its part of the longest; what is more than nothing has at least the thinnest.
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

/// `3m`, `2h 5m`: coarse, so that what shows it changes at most once a minute after the first.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The time of day in UTC, `12:03:07`.
pub fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The day and the time in UTC, `2026-11-22 12:03 UTC`.
pub fn date(at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(moment) => format!("{} {} UTC", moment.date(), &clock(at_ms)[..5]),
        Err(_) => "at an impossible time".into(),
    }
}

/// The time of day in UTC, `12:03:07.123`.
pub fn clock_millis(at_ms: u64) -> String {
    format!("{}.{:03}", clock(at_ms), at_ms % 1000)
}

/// The first digits of a build id, enough to tell builds apart; a plugin that is linked into its host
/// has none.
pub fn short_build_id(build_id: &str) -> &str {
    if build_id.bytes().all(|digit| digit == b'0') {
        return "–";
    }
    build_id.get(..8).unwrap_or(build_id)
}

/// Who wrote a record: `world@v3`, or the target of the host's own code.
pub fn log_origin(record: &LogRecord) -> String {
    match (&record.plugin, record.version) {
        (Some(plugin), Some(version)) => format!("{plugin}@v{version}"),
        (Some(plugin), None) => plugin.clone(),
        (None, _) => record.target.clone(),
    }
}

/// What a reload did with a value, after its name.
pub fn value_change(change: ValueChange) -> &'static str {
    match change {
        ValueChange::Added => "is new",
        ValueChange::Kept => "stayed where it was",
        ValueChange::Shared => "was taken over as it is",
        ValueChange::Migrated => "was taken over into another type",
        ValueChange::Dropped => "went with its version",
        _ => "changed in a way that this console does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stay_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(4_508_877), "4.3 MiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.2k");
        assert_eq!(count(999_999), "1.0M");
        assert_eq!(grouped(18_042), "18,042");
        assert_eq!(grouped(100), "100");
        assert_eq!(microseconds(41_200), "41 ms");
        assert_eq!(duration(7_500_000), "2h 5m");
        assert_eq!(date(1_795_348_800_000), "2026-11-22 12:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(clock_millis(43_387_123), "12:03:07.123");
    }

    #[test]
    fn a_build_id_that_is_too_short_stays_whole() {
        assert_eq!(short_build_id("abc"), "abc");
        assert_eq!(short_build_id("0123456789"), "01234567");
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(wrap_words("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap_words("one", 9), ["one"]);
        assert_eq!(wrap_words("", 9), [""]);
        assert_eq!(wrap_words("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrap("日本語", 5), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
    }
}
