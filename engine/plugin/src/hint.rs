//! Advice about errors of other crates that mislead in a plugin: the message has another cause here than in
//! an ordinary program.

use std::borrow::Cow;

/// Messages of other crates, and what they mean in a plugin. These crates panic with a text, so there is
/// nothing else to recognise them by.
const HINTS: [(&[&str], &str); 2] = [
    (
        &["there is no reactor running", "no current reactor", "timers are disabled"],
        "a plugin has its own copy of tokio, which does not see the host's runtime: \
         use `hotswap_plugin::rt` for tasks and time on the host's runtime; for sockets and clients, make a \
         runtime of the plugin's own in `on_init`, and shut it down in `on_free`",
    ),
    (
        &[
            "a global default trace dispatcher has already been set",
            "SetGlobalDefaultError",
            "after the logging system was already initialized",
            "SetLoggerError",
        ],
        "the records that a plugin logs with `tracing` or `log` already go to the host's log: leave the \
         subscriber and the logger to the host",
    ),
];

/// The message, with advice if there is any.
pub(crate) fn explained(message: &str) -> Cow<'_, str> {
    match hint(message) {
        Some(hint) => format!("{message} (hint: {hint})").into(),
        None => message.into(),
    }
}

fn hint(message: &str) -> Option<&'static str> {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    HINTS.iter().find(|(texts, hint)| says(texts) && !message.contains(hint)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_added_once() {
        let once = explained("there is no reactor running, must be called from …").into_owned();
        assert!(once.contains("(hint: a plugin has its own copy of tokio"), "{once}");
        assert_eq!(explained(&once), once);
        assert_eq!(explained("no greeting"), "no greeting");
    }
}
