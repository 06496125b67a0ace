//! Calls of plugin functions for consoles. They can be timed, repeated and cancelled.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use hotswap_plugin::Value;
use hotswap_protocol::{
    Beside, ErrorKind, InvokeParams, InvokeResult, Latencies, MAX_REPEAT, PinParams, WireError,
};
use serde_json::Value as Json;

use super::served::Served;
use crate::{CallError, LoadedPlugin, lock::Lock as _};

/// The calls of one console that have not been answered, by the id of their request.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashMap<u64, Arc<Call>>>);

/// A call that has not been answered.
#[derive(Default)]
pub(crate) struct Call {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    is_cancelled: bool,
    /// Set while the function runs and cannot be cancelled.
    must_end: bool,
}

impl Calls {
    /// Notes that a call begins. A call with the id of another one cannot be cancelled.
    pub fn begin(&self, id: u64) -> Arc<Call> {
        let call = Arc::new(Call::default());
        self.lock().entry(id).or_insert_with(|| call.clone());
        call
    }

    /// Notes that a call was answered.
    pub fn end(&self, id: u64, call: &Arc<Call>) {
        let mut calls = self.lock();
        if calls.get(&id).is_some_and(|it| Arc::ptr_eq(it, call)) {
            calls.remove(&id);
        }
    }

    /// Notes that a call never began.
    pub fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Cancels a call.
    pub fn cancel(&self, id: u64) -> Result<(), WireError> {
        match self.lock().get(&id).cloned() {
            Some(call) => call.cancel(),
            None => not_cancellable("there is no such call, or it has been answered"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Call>>> {
        self.0.locked()
    }
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.locked()
    }

    /// Cancels it.
    pub fn cancel(&self) -> Result<(), WireError> {
        let mut state = self.lock();
        if state.must_end {
            let why = "the function is not `async`: a call that has begun runs to its end";
            return not_cancellable(why);
        }
        state.is_cancelled = true;
        self.changed.notify_all();
        Ok(())
    }

    /// Begins one call of the function, unless the request was cancelled.
    fn begin_one(&self, is_async: bool, is_last: bool) -> Result<(), WireError> {
        let mut state = self.lock();
        if state.is_cancelled {
            return Err(cancelled());
        }
        // Between two calls it is always possible to stop.
        state.must_end = !is_async && is_last;
        Ok(())
    }

    /// Polls a future to its end, or drops it when the call is cancelled.
    fn wait<T>(self: &Arc<Self>, future: impl Future<Output = T>) -> Result<T, WireError> {
        let waker = Waker::from(self.clone());
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(answer);
            }
            let mut state = self.lock();
            while !state.is_woken && !state.is_cancelled {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_cancelled {
                return Err(cancelled());
            }
            state.is_woken = false;
        }
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.lock().is_woken = true;
        self.changed.notify_all();
    }
}

fn not_cancellable(why: &str) -> Result<(), WireError> {
    Err(WireError::new(ErrorKind::NotCancellable, why))
}

fn cancelled() -> WireError {
    WireError::new(ErrorKind::Cancelled, "the call was cancelled")
}

/// Calls a function as often as requested. If another version is requested as well, it is called in turn with
/// the first.
pub(crate) fn invoke(
    engine: &dyn Served,
    params: &InvokeParams,
    call: &Arc<Call>,
) -> Result<InvokeResult, WireError> {
    if !(1..=MAX_REPEAT).contains(&params.repeat) {
        let message = format!("`repeat` is {}, but must be 1 to {MAX_REPEAT}", params.repeat);
        return Err(WireError::new(ErrorKind::BadArgument, message));
    }
    let mut first = Callee::find(engine, &params.plugin, params)?;
    let mut beside =
        params.beside.as_ref().map(|target| Callee::find(engine, target, params)).transpose()?;
    let mut failed_beside = None;
    for number in 1..=params.repeat {
        first.call(call, number, beside.is_none())?;
        let Some(other) = &mut beside else { continue };
        match other.call(call, number, true) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                failed_beside = Some(Beside::Error(error));
                beside = None;
            }
        }
    }
    let beside = beside.map(|other| Beside::Result(other.result())).or(failed_beside);
    Ok(InvokeResult { beside: beside.map(Box::new), ..first.result() })
}

/// A function that is called several times, and the outcome of its calls.
struct Callee<'a> {
    plugin: LoadedPlugin,
    function: &'a str,
    is_async: bool,
    args: Vec<Value>,
    repeat: u32,
    calls_ns: Vec<u64>,
    value: Json,
}

impl<'a> Callee<'a> {
    fn find(
        engine: &dyn Served,
        target: &str,
        params: &'a InvokeParams,
    ) -> Result<Self, WireError> {
        let plugin = engine.plugin(target).map_err(|error| error.to_wire())?;
        let function = plugin.inner().function(&params.function);
        Ok(Self {
            is_async: function.is_some_and(|(_, function)| function.is_async),
            args: arguments(&plugin, &params.function, &params.args, params.lenient),
            plugin,
            function: &params.function,
            repeat: params.repeat,
            calls_ns: Vec::with_capacity(params.repeat as usize),
            value: Json::Null,
        })
    }

    /// Calls it once. `is_last_of_round` says that no other version is called after it in this round.
    fn call(
        &mut self,
        call: &Arc<Call>,
        number: u32,
        is_last_of_round: bool,
    ) -> Result<(), WireError> {
        call.begin_one(self.is_async, is_last_of_round && number == self.repeat)?;
        let cancellable = self.is_async.then_some(call);
        let (answer, elapsed_ns) = once(&self.plugin, self.function, &self.args, cancellable)?;
        self.calls_ns.push(elapsed_ns);
        self.value = answer.map_err(|error| {
            let mut error = error.to_wire();
            if self.repeat > 1 {
                error.message = format!("call {number} of {}: {}", self.repeat, error.message);
            }
            error
        })?;
        Ok(())
    }

    fn result(self) -> InvokeResult {
        let elapsed_ns = self.calls_ns.last().copied().unwrap_or(0);
        InvokeResult {
            value: self.value,
            plugin: self.plugin.name().to_owned(),
            version: self.plugin.version(),
            patch: self.plugin.patch(),
            elapsed_us: elapsed_ns / 1000,
            elapsed_ns,
            latencies: match self.repeat {
                1 => None,
                _ => Latencies::of(self.calls_ns).map(Box::new),
            },
            beside: None,
        }
    }
}

/// Calls a function of this version once. The error says that the call was cancelled.
pub(super) fn call_once(
    plugin: &LoadedPlugin,
    params: &PinParams,
    call: &Arc<Call>,
) -> Result<Answer, WireError> {
    let function = plugin.inner().function(&params.function);
    let is_async = function.is_some_and(|(_, function)| function.is_async);
    call.begin_one(is_async, true)?;
    let args = arguments(plugin, &params.function, &params.args, params.lenient);
    once(plugin, &params.function, &args, is_async.then_some(call))
}

/// The outcome of a call, and how many nanoseconds it took.
pub(super) type Answer = (Result<Json, CallError>, u64);

/// Makes one call. If the function is `async`, the call can be cancelled.
fn once(
    plugin: &LoadedPlugin,
    function: &str,
    args: &[Value],
    cancellable: Option<&Arc<Call>>,
) -> Result<Answer, WireError> {
    let begun = Instant::now();
    let answer = match cancellable {
        Some(call) => call.wait(plugin.invoke_async(function, args))?,
        None => plugin.invoke_value(function, args).map(Json::from),
    };
    Ok((answer, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)))
}

/// Converts the arguments to the types of the function's parameters.
fn arguments(plugin: &LoadedPlugin, function: &str, args: &[Json], lenient: bool) -> Vec<Value> {
    let schemas: Vec<Option<Json>> = match plugin.inner().function(function) {
        Some((_, function)) => {
            function.params.iter().map(|param| serde_json::from_str(&param.schema).ok()).collect()
        }
        None => Vec::new(),
    };
    let args = args.iter().enumerate().map(|(at, arg)| {
        let schema = schemas.get(at).and_then(Option::as_ref);
        let arg = if lenient { from_text(arg, schema) } else { arg.clone() };
        Value::from(arg)
    });
    args.collect()
}

/// The value of a text from a command line: JSON, or otherwise the text itself. For a parameter that takes
/// text, anything but a JSON string is the text itself, so `42` stays the text `42`.
fn from_text(arg: &Json, schema: Option<&Json>) -> Json {
    let Json::String(text) = arg else { return arg.clone() };
    let parsed = serde_json::from_str::<Json>(text);
    match parsed {
        Ok(Json::String(inner)) => Json::String(inner),
        Ok(Json::Null) if schema.is_some_and(|schema| takes(schema, "null")) => Json::Null,
        Ok(_) if schema.is_some_and(|schema| takes(schema, "string")) => arg.clone(),
        // JSON would round an integer of more than 64 bits.
        Ok(Json::Number(number))
            if number.is_f64() && schema.is_some_and(|schema| takes(schema, "integer")) =>
        {
            arg.clone()
        }
        Ok(value) => value,
        Err(_) => arg.clone(),
    }
}

/// Whether a schema accepts a type.
fn takes(schema: &Json, type_name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == type_name,
        Some(Json::Array(several)) => several.iter().any(|one| one == type_name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_argument_from_a_command_line_is_converted_to_the_type_of_its_parameter() {
        let text = json!({"type": "string"});
        let maybe = json!({"type": ["string", "null"]});
        let number = json!({"type": "integer"});
        let cases = [
            ("Ada", &text, json!("Ada")),
            ("42", &text, json!("42")),
            ("\"42\"", &text, json!("42")),
            ("null", &text, json!("null")),
            ("null", &maybe, json!(null)),
            ("42", &number, json!(42)),
            ("36893488147419103232", &number, json!("36893488147419103232")),
            ("Ada", &number, json!("Ada")),
            ("[1, 2]", &number, json!([1, 2])),
        ];
        for (arg, schema, expected) in cases {
            assert_eq!(from_text(&json!(arg), Some(schema)), expected, "{arg} for {schema}");
        }
        assert_eq!(from_text(&json!("true"), None), json!(true));
    }
}
