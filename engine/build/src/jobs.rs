//! How many compilers run side by side: the number follows cargo's rules, and the compilers share a
//! jobserver.

use std::env;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use toml::{Table, Value};

/// How many jobs a build may run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jobs {
    count: usize,
    cores: usize,
}

impl Jobs {
    /// The number that cargo would use with these `flags`: from `--jobs`, or else from the environment, or
    /// else from the first of the `configurations` that has one, or else the number of cores.
    pub(crate) fn of(flags: &[String], configurations: &[PathBuf]) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let in_environment = || env::var("CARGO_BUILD_JOBS").ok();
        let in_file = |path| in_configuration(&fs::read_to_string(path).ok()?);
        let in_files = || configurations.iter().find_map(in_file);
        let chosen = in_flags(flags).or_else(in_environment).or_else(in_files);
        let count = chosen.and_then(|text| count(&text, cores)).unwrap_or(cores);
        Self { count, cores }
    }

    /// The jobserver for this many compilers; `None` if they need not share anything.
    pub(crate) fn server_for(&self, compilers: usize) -> io::Result<Option<jobserver::Client>> {
        let is_free = compilers < 2 && self.count >= self.cores;
        (!is_free).then(|| jobserver::Client::new(self.count)).transpose()
    }
}

/// The number of jobs in a cargo configuration; `None` if it has none, or is not TOML.
fn in_configuration(text: &str) -> Option<String> {
    match text.parse::<Table>().ok()?.get("build")?.get("jobs")? {
        Value::Integer(count) => Some(count.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn in_flags(flags: &[String]) -> Option<String> {
    let apart = flags.windows(2).filter(|pair| matches!(pair[0].as_str(), "-j" | "--jobs"));
    let apart = apart.map(|pair| pair[1].as_str());
    let joined = flags.iter().filter_map(|flag| {
        let text = flag.strip_prefix("--jobs=").or_else(|| flag.strip_prefix("-j"))?;
        Some(text.trim_start_matches('=')).filter(|text| !text.is_empty())
    });
    apart.chain(joined).next().map(str::to_owned)
}

/// The number of jobs that a text means. A negative number is subtracted from the number of cores. `None` for
/// a text without meaning.
fn count(text: &str, cores: usize) -> Option<usize> {
    let count: isize = text.trim().parse().ok()?;
    match usize::try_from(count) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(_) => Some(cores.saturating_sub(count.unsigned_abs()).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_as_cargo_counts_them() {
        let flags = |text: &str| in_flags(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for (given, jobs) in [
            ("--release -j 3 --locked", Some("3")),
            ("-j3", Some("3")),
            ("-j=3", Some("3")),
            ("--jobs=-1", Some("-1")),
            ("--jobs default", Some("default")),
            ("--release", None),
        ] {
            assert_eq!(flags(given).as_deref(), jobs, "{given}");
        }
        for (text, jobs) in [("3", Some(3)), ("-3", Some(5)), ("-9", Some(1)), ("default", None)] {
            assert_eq!(count(text, 8), jobs, "{text}");
        }
        assert_eq!(in_configuration("[build]\njobs = 2\n").as_deref(), Some("2"));
        assert_eq!(in_configuration("build.jobs = \"default\"\n").as_deref(), Some("default"));
        assert_eq!(in_configuration("[build]\n"), None);
    }
}
