//! Forwards the log events of plugins to the host's subscriber.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
};

use hotswap_plugin::{Value, abi::LogEvent};
use tracing_core::{
    Callsite, Event, Interest, Kind, Level, LevelFilter, Metadata, callsite, dispatcher,
    field::{self, FieldSet},
};

use crate::lock::Lock as _;
use crate::version::Version;

/// The name in the metadata of these events, which no other events have.
pub(super) const EVENT_NAME: &str = "hotswap plugin event";

/// The largest number of fields that a `tracing` event can have.
const MAX_FIELDS: usize = 32;

/// The fields that every event has, before its own.
const OWN_FIELDS: [&str; 4] = ["message", "plugin", "version", "patch"];

/// The largest number of kinds of events that are kept apart. Events of further kinds lose their file, line
/// and names of fields. So a plugin that makes up kinds of events cannot fill the memory.
const MAX_KINDS: usize = 8192;

/// The largest number of bytes of a target, a file or the name of a field. A kind of events lives as long as the
/// process, and with the crate `log` a plugin can make up targets and names of fields.
const MAX_NAME: usize = 256;

/// The most verbose level that the host's log takes: 0 none, 1 error … 5 trace.
pub(crate) fn max_level() -> u8 {
    match LevelFilter::current().into_level() {
        None => 0,
        Some(Level::ERROR) => 1,
        Some(Level::WARN) => 2,
        Some(Level::INFO) => 3,
        Some(Level::DEBUG) => 4,
        Some(Level::TRACE) => 5,
    }
}

/// Emits an event inside the caller's span, with the plugin and version to which it belongs.
pub(crate) fn emit(version: &Version, mut event: LogEvent) {
    fold_surplus(&mut event);
    let metadata = interned(&event);
    dispatcher::get_default(|subscriber| {
        if subscriber.enabled(metadata) {
            dispatch(subscriber, metadata, version, &event);
        }
    });
}

fn dispatch(
    subscriber: &dispatcher::Dispatch,
    metadata: &'static Metadata<'static>,
    version: &Version,
    event: &LogEvent,
) {
    let fields: Vec<field::Field> = metadata.fields().iter().collect();
    let message = format_args!("{}", event.message);
    let plugin = version.name().as_str();
    let patch = version.face_here().patch_number();
    let own: [&dyn field::Value; OWN_FIELDS.len()] = [&message, &plugin, &version.ordinal, &patch];
    let own_values = own.into_iter().zip(&fields);
    let texts: Vec<FieldText> =
        event.fields.iter().map(|(_, value)| FieldText::of(value)).collect();
    let others = texts.iter().map(FieldText::as_value).zip(fields.iter().skip(own.len()));

    let Some(first) = fields.first() else { return };
    let mut values: [(&field::Field, Option<&dyn field::Value>); MAX_FIELDS] =
        [(first, None); MAX_FIELDS];
    for (place, (value, field)) in values.iter_mut().zip(own_values.chain(others)) {
        *place = (field, Some(value));
    }
    subscriber.event(&Event::new(metadata, &metadata.fields().value_set(&values)));
}

/// Moves the fields that are too many for `tracing` into the message.
fn fold_surplus(event: &mut LogEvent) {
    let room = MAX_FIELDS - OWN_FIELDS.len();
    while event.fields.len() > room {
        let Some((name, value)) = event.fields.pop() else { break };
        event.message.push_str(&format!(" {name}={}", serde_json::Value::from(value)));
    }
}

/// The value of a field, in a form that `tracing` accepts.
enum FieldText<'a> {
    Plain(&'a dyn field::Value),
    Json(field::DisplayValue<serde_json::Value>),
}

impl<'a> FieldText<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Plain(value),
            Value::Int(value) => Self::Plain(value),
            Value::Uint(value) => Self::Plain(value),
            Value::Float(value) => Self::Plain(value),
            Value::Str(value) => Self::Plain(value),
            other => Self::Json(field::display(serde_json::Value::from(other.clone()))),
        }
    }

    fn as_value(&self) -> &dyn field::Value {
        match self {
            Self::Plain(value) => *value,
            Self::Json(value) => value,
        }
    }
}

/// The properties in which events of one kind agree.
#[derive(PartialEq, Eq, Hash, Clone)]
struct EventKind {
    level: u8,
    target: String,
    file: Option<String>,
    line: Option<u32>,
    fields: Vec<String>,
}

/// The metadata of a kind of events. It lives as long as the process. Equal kinds share one, so a reload that
/// brings the same code again adds nothing.
fn interned(event: &LogEvent) -> &'static Metadata<'static> {
    static KINDS: OnceLock<Mutex<HashMap<EventKind, &'static Metadata<'static>>>> = OnceLock::new();
    let mut kind = EventKind {
        level: event.level,
        target: cut(&event.target),
        file: event.file.as_deref().map(cut),
        line: event.line,
        fields: event.fields.iter().map(|(name, _)| field_name(name)).collect(),
    };
    let mut kinds = KINDS.get_or_init(Mutex::default).locked();
    if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
        let fields = (0..kind.fields.len()).map(|at| format!("field{at}")).collect();
        kind = EventKind { target: "plugin".into(), file: None, line: None, fields, ..kind };
    }
    kinds.entry(kind.clone()).or_insert_with(|| leak(kind))
}

/// Renames a field whose name is one of [`OWN_FIELDS`].
fn field_name(name: &str) -> String {
    if OWN_FIELDS.contains(&name) { format!("field.{name}") } else { cut(name) }
}

/// The text, or its beginning if it is too long, with spaces in place of control characters: subscribers write
/// such names unchanged, and a terminal would obey them.
fn cut(text: &str) -> String {
    const MARK: &str = "…";
    let (beginning, mark) = match text.len() {
        0..=MAX_NAME => (text, ""),
        _ => (&text[..text.floor_char_boundary(MAX_NAME - MARK.len())], MARK),
    };
    beginning.replace(char::is_control, " ") + mark
}

/// Makes metadata that lives as long as the process, as `tracing` requires.
fn leak(kind: EventKind) -> &'static Metadata<'static> {
    /// `tracing` tells kinds of events apart by the address of their callsite.
    struct Site(OnceLock<Metadata<'static>>);

    impl Callsite for Site {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            self.0
                .get()
                .unwrap_or_else(|| unreachable!("the metadata is set before the call site is used"))
        }
    }

    let level = match kind.level {
        1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let leak_text = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let own = OWN_FIELDS.into_iter();
    let names: Vec<&'static str> = own.chain(kind.fields.into_iter().map(leak_text)).collect();
    let site: &'static Site = Box::leak(Box::new(Site(OnceLock::new())));
    let fields = FieldSet::new(Box::leak(names.into_boxed_slice()), callsite::Identifier(site));
    let target = leak_text(kind.target);
    site.0.get_or_init(|| {
        let file = kind.file.map(leak_text);
        Metadata::new(EVENT_NAME, target, level, file, kind.line, None, fields, Kind::EVENT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_in_the_log_events_of_a_plugin_are_cut() {
        let long = "ö".repeat(500_000);
        let event = LogEvent {
            level: 3,
            target: long.clone(),
            message: long.clone(),
            file: Some(long.clone()),
            line: None,
            fields: vec![(long, Value::Null), ("plugin".into(), Value::Null)],
        };
        assert_eq!(cut("a\u{1b}[2J\nb"), "a [2J b");
        let kind = interned(&event);
        assert!(kind.target().len() <= MAX_NAME && kind.target().ends_with("ö…"));
        assert!(kind.file().unwrap().len() <= MAX_NAME);
        let names: Vec<_> = kind.fields().iter().map(|field| field.name()).collect();
        assert!(names.iter().all(|name| name.len() <= MAX_NAME), "{names:?}");
        assert_eq!(names.last(), Some(&"field.plugin"));
        assert!(std::ptr::eq(kind, interned(&event)));
    }
}
