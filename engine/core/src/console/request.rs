//! Answers requests.

use std::time::Instant;

use hotswap_plugin::Value;
use hotswap_protocol::{ErrorKind, InvokeParams, InvokeResult, Request, WireError};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{EngineError, engine::Inner, reload::Request as LoadRequest};

/// Does what is asked.
pub(super) fn answer(engine: &Inner, request: Request) -> Result<Json, WireError> {
    match request {
        Request::Snapshot => json(&engine.snapshot()),
        Request::Vault => json(&engine.vault_snapshot()),
        Request::Live => json(&engine.live_snapshot()),
        Request::Reload => json(&engine.load_as(LoadRequest::Changed, &(), None).map_err(refused)?),
        Request::ReloadLatest => {
            json(&engine.load_as(LoadRequest::Latest, &(), None).map_err(refused)?)
        }
        Request::Plan(plan) => json(&engine.plan(plan.latest).map_err(refused)?),
        Request::Rollback(to) => json(&engine.rollback(&to.target).map_err(refused)?),
        Request::Invoke(call) => json(&invoke(engine, &call)?),
        Request::Free(free) => json(&engine.free(&free.target).map_err(refused)?),
        Request::Hello(_) | Request::Subscribe(_) => {
            Err(WireError::new(ErrorKind::BadRequest, "not expected here"))
        }
        _ => Err(WireError::new(ErrorKind::BadRequest, "this host does not know the request")),
    }
}

fn invoke(engine: &Inner, call: &InvokeParams) -> Result<InvokeResult, WireError> {
    let plugin = engine.plugin(&call.plugin).map_err(refused)?;
    let function = plugin.inner().function(&call.function);
    let schemas: Vec<Option<Json>> = match function {
        Some(function) => {
            function.params.iter().map(|param| serde_json::from_str(&param.schema).ok()).collect()
        }
        None => Vec::new(),
    };
    let args = call.args.iter().enumerate().map(|(at, arg)| {
        let schema = schemas.get(at).and_then(Option::as_ref);
        let arg = if call.lenient { from_text(arg, schema) } else { arg.clone() };
        Value::from(arg)
    });
    let args: Vec<Value> = args.collect();
    let begun = Instant::now();
    let value = plugin.invoke_value(&call.function, &args).map_err(|error| error.to_wire())?;
    let elapsed = begun.elapsed();
    Ok(InvokeResult {
        value: value.into(),
        plugin: plugin.name().to_owned(),
        version: plugin.version(),
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
    })
}

/// What a text from a command line stands for: JSON, or else the text itself. For a parameter that
/// takes text, anything but a JSON string is the text itself, so `42` stays `42`.
fn from_text(arg: &Json, schema: Option<&Json>) -> Json {
    let Json::String(text) = arg else { return arg.clone() };
    let parsed = serde_json::from_str::<Json>(text);
    match parsed {
        Ok(Json::String(inner)) => Json::String(inner),
        Ok(Json::Null) if schema.is_some_and(|schema| takes(schema, "null")) => Json::Null,
        Ok(_) if schema.is_some_and(|schema| takes(schema, "string")) => arg.clone(),
        Ok(value) => value,
        Err(_) => arg.clone(),
    }
}

/// Whether a schema names a type.
fn takes(schema: &Json, type_name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == type_name,
        Some(Json::Array(several)) => several.iter().any(|one| one == type_name),
        _ => false,
    }
}

fn json<T: Serialize>(value: &T) -> Result<Json, WireError> {
    serde_json::to_value(value)
        .map_err(|error| WireError::new(ErrorKind::Internal, error.to_string()))
}

fn refused(error: EngineError) -> WireError {
    error.to_wire()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_argument_from_a_command_line_becomes_what_its_parameter_wants() {
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
            ("Ada", &number, json!("Ada")),
            ("[1, 2]", &number, json!([1, 2])),
        ];
        for (arg, schema, expected) in cases {
            assert_eq!(from_text(&json!(arg), Some(schema)), expected, "{arg} for {schema}");
        }
        assert_eq!(from_text(&json!("true"), None), json!(true));
    }
}
