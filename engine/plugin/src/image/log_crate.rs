//! Forwards the image's records of the crate `log` to the host's log.
//!
//! Many crates log with it, for example rustls, sqlx and mio. The image has its own copy of the crate, so a
//! logger that the host installs does not reach it.

use log::{LevelFilter, Log, Metadata, Record};

use super::host;
use crate::abi::LogEvent;

/// Makes the forwarder this image's logger, unless a constructor of the image has already set one.
pub(super) fn install() {
    if log::set_logger(&Forwarder).is_ok() {
        // The host's level may change at any time, so `enabled` checks it.
        log::set_max_level(LevelFilter::Trace);
    }
}

/// A logger that sends records to the host.
struct Forwarder;

impl Log for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: the function has no precondition.
        host().is_some_and(|host| metadata.level() as u8 <= unsafe { (host.max_log_level)() })
    }

    fn log(&self, record: &Record<'_>) {
        let Some(host) = host().filter(|_| self.enabled(record.metadata())) else { return };
        let event = LogEvent {
            // `log` and `LogEvent` use the same numbers for levels: 1 error … 5 trace.
            level: record.level() as u8,
            target: record.target().to_owned(),
            message: record.args().to_string(),
            file: record.file().map(Into::into),
            line: record.line(),
            fields: Vec::new(),
        };
        // SAFETY: the context is the host's own.
        unsafe { (host.log)(host.context, event) }
    }

    fn flush(&self) {}
}
