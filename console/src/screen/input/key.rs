//! Keys as people write them: `R`, `Ctrl-C`, `Shift-Tab`, `PgUp`, `g g`.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key with its modifiers. Shift is part of a letter: `R` is not `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

/// A sequence of keys. Most have only one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeySequence(Vec<Key>);

/// A key's name in a file, and its label on the screen.
const NAMED: &[(&str, &str, KeyCode)] = &[
    ("Up", "↑", KeyCode::Up),
    ("Down", "↓", KeyCode::Down),
    ("Left", "←", KeyCode::Left),
    ("Right", "→", KeyCode::Right),
    ("PgUp", "PgUp", KeyCode::PageUp),
    ("PgDn", "PgDn", KeyCode::PageDown),
    ("Home", "Home", KeyCode::Home),
    ("End", "End", KeyCode::End),
    ("Enter", "Enter", KeyCode::Enter),
    ("Esc", "Esc", KeyCode::Esc),
    ("Space", "Space", KeyCode::Char(' ')),
    ("Tab", "Tab", KeyCode::Tab),
    ("Shift-Tab", "Shift-Tab", KeyCode::BackTab),
    ("Backspace", "Backspace", KeyCode::Backspace),
    ("Delete", "Delete", KeyCode::Delete),
    ("Insert", "Insert", KeyCode::Insert),
];

const MODIFIERS: [(&str, KeyModifiers); 2] =
    [("Ctrl-", KeyModifiers::CONTROL), ("Alt-", KeyModifiers::ALT)];

impl Key {
    /// Ctrl-C.
    pub const INTERRUPT: Self = Self { code: KeyCode::Char('c'), modifiers: KeyModifiers::CONTROL };
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        // Terminals differ in whether they report Shift with a capital letter.
        Self { code: event.code, modifiers: event.modifiers - KeyModifiers::SHIFT }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text;
        let mut modifiers = KeyModifiers::NONE;
        for (name, modifier) in MODIFIERS {
            if let Some(stripped) = strip_prefix_ignoring_case(rest, name) {
                rest = stripped;
                modifiers |= modifier;
            }
        }
        let named = NAMED.iter().find(|(name, ..)| name.eq_ignore_ascii_case(rest));
        let function = strip_prefix_ignoring_case(rest, "F").and_then(|it| it.parse().ok());
        let code = match (named, function, rest.chars().next()) {
            (Some((.., code)), ..) => *code,
            (None, Some(number @ 1..=24), _) => KeyCode::F(number),
            // Terminals report Ctrl-C as Ctrl-c.
            (None, _, Some(letter)) if rest.len() == letter.len_utf8() => {
                let held = !modifiers.is_empty();
                KeyCode::Char(if held { letter.to_ascii_lowercase() } else { letter })
            }
            _ => {
                let names: Vec<&str> = NAMED.iter().map(|(name, ..)| *name).collect();
                return Err(format!(
                    "`{text}` is not a key: a key is a letter or sign, F1 to F24, or one of {}; \
                     Ctrl- and Alt- may come before",
                    names.join(", ")
                ));
            }
        };
        Ok(Self { code, modifiers })
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    (start.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, modifier) in MODIFIERS {
            if self.modifiers.contains(modifier) {
                f.write_str(name)?;
            }
        }
        match (NAMED.iter().find(|(.., code)| *code == self.code), self.code) {
            (Some((_, label, _)), _) => f.write_str(label),
            (None, KeyCode::F(number)) => write!(f, "F{number}"),
            (None, KeyCode::Char(letter)) if !self.modifiers.is_empty() => {
                write!(f, "{}", letter.to_uppercase())
            }
            (None, KeyCode::Char(letter)) => write!(f, "{letter}"),
            (None, other) => write!(f, "{other}"),
        }
    }
}

impl KeySequence {
    /// Whether these keys are the complete sequence.
    pub fn is(&self, pressed: &[Key]) -> bool {
        self.0 == pressed
    }

    /// Whether these keys are the beginning of the sequence, but not all of it.
    pub fn begins_with(&self, pressed: &[Key]) -> bool {
        self.0.len() > pressed.len() && self.0.starts_with(pressed)
    }
}

impl FromStr for KeySequence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys = text.split_whitespace().map(str::parse).collect::<Result<Vec<Key>, _>>()?;
        if keys.is_empty() {
            return Err("a key is missing; [] means no key, \"Space\" the space bar".into());
        }
        Ok(Self(keys))
    }
}

impl fmt::Display for KeySequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            write!(f, "{}{key}", if position == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_they_are_written() {
        for text in ["R", "r", "Ctrl-C", "Alt-X", "Shift-Tab", "PgUp", "g g", "F12", "-", "ö", "?"]
        {
            assert_eq!(text.parse::<KeySequence>().unwrap().to_string(), text);
        }
        assert_eq!("up".parse::<Key>().unwrap().to_string(), "↑");
        assert_ne!("R".parse::<Key>(), "r".parse::<Key>());
        assert_eq!("ctrl-c".parse::<Key>(), "Ctrl-C".parse::<Key>());
    }

    #[test]
    fn a_text_that_names_no_key_is_refused() {
        for text in ["", " ", "F25", "Ctrl-", "Hyper-X", "ab"] {
            assert!(text.parse::<KeySequence>().is_err(), "{text}");
        }
    }
}
