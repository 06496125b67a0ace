//! Forwards the image's `tracing` events to the host's log.
//!
//! The image has its own copy of `tracing`, with its own subscriber and callsites. Events cross as owned
//! text, so the host keeps no pointer into the image.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    panic::Location,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing_core::{
    Event, Interest, Level, Metadata, Subscriber,
    dispatcher::{self, Dispatch},
    field::{Field, Visit},
    span,
};

use super::host;
use crate::{
    Value,
    abi::{HostTable, LogEvent},
};

/// Makes the forwarder this image's subscriber, unless the image already has one.
pub(super) fn install() {
    let _ = dispatcher::set_global_default(Dispatch::new(Forwarder::default()));
}

/// Writes an error about a place in the source to the host's log, with this crate as its target.
pub(super) fn error(host: &HostTable, message: String, place: Option<&Location<'_>>) {
    write(host, 1, message, place);
}

/// Writes information about a place in the source to the host's log, as [`error`] does.
pub(super) fn info(host: &HostTable, message: String, place: Option<&Location<'_>>) {
    write(host, 3, message, place);
}

fn write(host: &HostTable, level: u8, message: String, place: Option<&Location<'_>>) {
    let event = LogEvent {
        level,
        target: env!("CARGO_CRATE_NAME").to_owned(),
        message,
        file: place.map(|place| place.file().to_owned()),
        line: place.map(Location::line),
        fields: Vec::new(),
    };
    // SAFETY: the context is the host's own.
    unsafe { (host.log)(host.context, event) }
}

thread_local! {
    /// The spans that this thread is in, outermost first.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A subscriber that keeps the names of open spans, and sends events to the host.
#[derive(Default)]
struct Forwarder {
    next_span: AtomicU64,
    spans: Mutex<HashMap<u64, OpenSpan>>,
}

/// An open span.
struct OpenSpan {
    metadata: &'static Metadata<'static>,
    /// Its fields that have a value. A span may live as long as its plugin and get values again and again, so each
    /// field has only its last one.
    fields: Vec<(&'static str, String)>,
    /// How many handles to it there are.
    handles: usize,
}

impl OpenSpan {
    fn set(&mut self, (name, value): (&'static str, String)) {
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
    }
}

impl fmt::Display for OpenSpan {
    /// `name{field=value other=value}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metadata.name())?;
        for (at, (name, value)) in self.fields.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { '{' } else { ' ' })?;
        }
        f.write_str(if self.fields.is_empty() { "" } else { "}" })
    }
}

impl Forwarder {
    fn spans(&self) -> std::sync::MutexGuard<'_, HashMap<u64, OpenSpan>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans that this thread is in, as `outer:inner{id=1}`; `None` if there are none.
    fn context(&self) -> Option<String> {
        // At the end of a thread, something may log after this thread-local was dropped.
        let context = ENTERED.try_with(|entered| {
            let entered = entered.borrow();
            let spans = (!entered.is_empty()).then(|| self.spans())?;
            let texts = entered.iter().filter_map(|id| Some(spans.get(id)?.to_string()));
            Some(texts.collect::<Vec<_>>().join(":"))
        });
        context.ok().flatten()
    }
}

impl Subscriber for Forwarder {
    /// The host's level may change at any time, so `enabled` must be called for each event.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: the function has no precondition.
        host()
            .is_some_and(|host| level_number(metadata.level()) <= unsafe { (host.max_log_level)() })
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let id = self.next_span.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = TextFields::default();
        attributes.record(&mut fields);
        let span = OpenSpan { metadata: attributes.metadata(), fields: fields.0, handles: 1 };
        self.spans().insert(id, span);
        span::Id::from_u64(id)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        let mut fields = TextFields::default();
        values.record(&mut fields);
        if let Some(span) = self.spans().get_mut(&id.into_u64()) {
            fields.0.into_iter().for_each(|field| span.set(field));
        }
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(host) = host() else { return };
        let metadata = event.metadata();
        let mut values = ValueFields::default();
        event.record(&mut values);
        if let Some(context) = self.context() {
            values.fields.push(("spans".into(), Value::Str(context)));
        }
        let event = LogEvent {
            level: level_number(metadata.level()),
            target: metadata.target().to_owned(),
            message: values.message,
            file: metadata.file().map(Into::into),
            line: metadata.line(),
            fields: values.fields,
        };
        // SAFETY: the context is the host's own.
        unsafe { (host.log)(host.context, event) }
    }

    fn enter(&self, id: &span::Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.into_u64()));
    }

    fn exit(&self, id: &span::Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(at) = entered.iter().rposition(|entered| *entered == id.into_u64()) {
                entered.remove(at);
            }
        });
    }

    /// The span that this thread has entered last, for `Span::current`.
    fn current_span(&self) -> span::Current {
        let id = ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten();
        let current = id.and_then(|id| {
            let metadata = self.spans().get(&id)?.metadata;
            Some(span::Current::new(span::Id::from_u64(id), metadata))
        });
        current.unwrap_or_else(span::Current::none)
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        if let Some(span) = self.spans().get_mut(&id.into_u64()) {
            span.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        let mut spans = self.spans();
        let Some(span) = spans.get_mut(&id.into_u64()) else { return false };
        span.handles -= 1;
        let last = span.handles == 0;
        if last {
            spans.remove(&id.into_u64());
        }
        last
    }
}

/// The number of a level in a [`LogEvent`].
fn level_number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Collects an event's fields as values.
#[derive(Default)]
struct ValueFields {
    message: String,
    fields: Vec<(String, Value)>,
}

impl ValueFields {
    fn push(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name().to_owned(), value));
    }
}

impl Visit for ValueFields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Uint(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.push(field, Value::Str(value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Collects a span's fields as texts.
#[derive(Default)]
struct TextFields(Vec<(&'static str, String)>);

impl Visit for TextFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}
