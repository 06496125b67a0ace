//! Signatures of functions in little room.

use hotswap_protocol::{FunctionInfo, ParamInfo};

use super::text::cut;
use crate::format;

/// The signature in at most `width` columns. If it does not fit, the types of the parameters are left out, then that of
/// the result.
pub(super) fn shortened(function: &FunctionInfo, width: usize) -> String {
    let names: Vec<&str> = function.params.iter().map(|param| param.name.as_str()).collect();
    let names = format!("({})", names.join(", "));
    let full = function.signature.clone();
    let with_result = result(function).map(|result| format!("{names} -> {result}"));
    let texts = [Some(full), with_result, Some(names.clone())];
    let fitting = texts.into_iter().flatten().find(|text| format::width(text) <= width);
    fitting.unwrap_or_else(|| cut(&names, width))
}

/// The signature with its changes since `before`: `(name, times: u32→u64, +loud: bool, −slow)`. Unchanged parts are
/// shortened first.
pub(super) fn changed(before: &FunctionInfo, now: &FunctionInfo, width: usize) -> String {
    let has = |params: &[ParamInfo], name: &str| params.iter().any(|it| it.name == name);
    let part = |param: &ParamInfo, with_types: bool| {
        let was = before.params.iter().find(|it| it.name == param.name);
        match was {
            None if with_types => Some(format!("+{}: {}", param.name, param.type_name)),
            None => Some(format!("+{}", param.name)),
            Some(was) if was.type_name == param.type_name => None,
            Some(was) if with_types => {
                Some(format!("{}: {}→{}", param.name, was.type_name, param.type_name))
            }
            Some(_) => Some(format!("~{}", param.name)),
        }
    };
    let result = match (result(before), result(now)) {
        (Some(was), Some(now)) if was != now => format!(" -> {was}→{now}"),
        _ => String::new(),
    };
    let text = |with_types: bool, with_same: bool| {
        let params = now.params.iter().filter_map(|param| {
            part(param, with_types).or_else(|| with_same.then(|| param.name.clone()))
        });
        let gone = before.params.iter().filter(|it| !has(&now.params, &it.name));
        let gone = gone.map(|param| format!("−{}", param.name));
        let params: Vec<String> = params.chain(gone).collect();
        format!("({}){result}", params.join(", "))
    };
    let texts = [text(true, true), text(false, true), text(false, false)];
    let fitting = texts.iter().find(|text| format::width(text) <= width);
    fitting.cloned().unwrap_or_else(|| cut(&texts[2], width))
}

/// The type of the result, from the end of the signature.
fn result(function: &FunctionInfo) -> Option<&str> {
    let params = function.params.iter().map(|param| format!("{}: {}", param.name, param.type_name));
    let params = format!("({})", params.collect::<Vec<_>>().join(", "));
    function.signature.strip_prefix(params.as_str())?.strip_prefix(" -> ")
}
