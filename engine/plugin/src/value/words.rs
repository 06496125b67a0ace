//! Numbers that JSON cannot represent, as text.

/// The text for a number that is not finite: `NaN`, `Infinity` or `-Infinity`; `None` if it is finite.
pub(super) fn word(number: f64) -> Option<&'static str> {
    match number {
        number if number.is_finite() => None,
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => Some("NaN"),
    }
}

/// The number that is not finite and that a text denotes, in any spelling that Rust reads, such as `nan` and
/// `-inf`; `None` if the text has digits or is not a number.
pub(super) fn not_finite(text: &str) -> Option<f64> {
    let is_word = !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_digit());
    is_word.then(|| text.parse().ok())?
}
