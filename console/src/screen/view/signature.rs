//! Signatures of functions in few columns.

use hotswap_protocol::FunctionInfo;

use super::text::cut;
use crate::format;

/// The signature in so many columns: what does not fit does without types of parameters, then without
/// that of the result.
pub(super) fn shortened(function: &FunctionInfo, width: usize) -> String {
    let names: Vec<&str> = function.params.iter().map(|param| param.name.as_str()).collect();
    let names = format!("({})", names.join(", "));
    let full = function.signature.clone();
    let with_result = result(function).map(|result| format!("{names} -> {result}"));
    let texts = [Some(full), with_result, Some(names.clone())];
    let fitting = texts.into_iter().flatten().find(|text| format::width(text) <= width);
    fitting.unwrap_or_else(|| cut(&names, width))
}

/// The type of the result, as the signature has it behind the parameters.
fn result(function: &FunctionInfo) -> Option<&str> {
    let params = function.params.iter().map(|param| format!("{}: {}", param.name, param.type_name));
    let params = format!("({})", params.collect::<Vec<_>>().join(", "));
    function.signature.strip_prefix(params.as_str())?.strip_prefix(" -> ")
}
