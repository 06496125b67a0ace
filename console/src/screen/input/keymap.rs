//! The keys of the commands.

use crate::screen::input::action::{Action, COMMANDS, Command, Scope};
use crate::screen::input::key::{Key, KeySequence};

/// The keys of all commands.
#[derive(Debug, Clone)]
pub struct Keymap {
    /// The bindings, in the order of [`COMMANDS`].
    bindings: Vec<Binding>,
}

#[derive(Debug, Clone)]
struct Binding {
    command: &'static Command,
    keys: Vec<KeySequence>,
}

/// The meaning of the keys that were pressed so far.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// They ask for this action.
    Action(Action),
    /// They are the beginning of a sequence.
    Beginning,
    /// They have no meaning.
    Nothing,
}

impl Default for Keymap {
    fn default() -> Self {
        let parse = |text: &&str| text.parse().ok();
        let bindings = COMMANDS
            .iter()
            .map(|command| Binding {
                command,
                keys: command.keys.iter().filter_map(parse).collect(),
            })
            .collect();
        Self { bindings }
    }
}

impl Keymap {
    /// The default keys with these changes. A key that is given to a command is taken from all others. The error names
    /// two changed commands that want the same key in the same scope.
    pub fn with(
        changes: &[(&'static Command, Vec<KeySequence>)],
    ) -> Result<Self, (&'static Command, String)> {
        let mut keymap = Self::default();
        for (position, (command, keys)) in changes.iter().enumerate() {
            for (other, others) in &changes[..position] {
                let both = keys.iter().find(|key| others.contains(key));
                if let (Some(key), true) = (both, command.scope == other.scope) {
                    let message = format!("`{key}` is already the key of `{}`", other.name);
                    return Err((command, message));
                }
            }
        }
        let is_given =
            |key: &KeySequence| changes.iter().any(|(_, keys)| keys.iter().any(|it| it == key));
        for binding in &mut keymap.bindings {
            match changes.iter().find(|(command, _)| command.name == binding.command.name) {
                Some((_, keys)) => binding.keys.clone_from(keys),
                None => binding.keys.retain(|key| !is_given(key)),
            }
        }
        Ok(keymap)
    }

    /// The meaning of these keys in these scopes, of which the first that has one wins.
    pub fn find(&self, pressed: &[Key], scopes: &[Scope]) -> Found {
        let applying = || self.bindings.iter().filter(|it| scopes.contains(&it.command.scope));
        for scope in scopes {
            let of_scope = applying().filter(|it| it.command.scope == *scope);
            let mut asked = of_scope.filter(|it| it.keys.iter().any(|keys| keys.is(pressed)));
            if let Some(binding) = asked.next() {
                return Found::Action(binding.command.action.clone());
            }
        }
        let begins = applying().any(|it| it.keys.iter().any(|keys| keys.begins_with(pressed)));
        if begins { Found::Beginning } else { Found::Nothing }
    }

    /// The first key of this action, as people write it.
    pub fn label_of(&self, action: &Action) -> Option<String> {
        let binding = self.bindings.iter().find(|it| it.command.action == *action)?;
        binding.keys.first().map(ToString::to_string)
    }

    /// All commands with their keys as people write them, in the order of [`COMMANDS`].
    pub fn labels(&self) -> impl Iterator<Item = (&'static Command, Vec<String>)> {
        self.bindings.iter().map(|binding| {
            (binding.command, binding.keys.iter().map(ToString::to_string).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_key_is_a_key_and_has_one_meaning_in_its_scope() {
        for (position, command) in COMMANDS.iter().enumerate() {
            for key in command.keys {
                assert!(key.parse::<KeySequence>().is_ok(), "{key}");
                let rival = COMMANDS[..position]
                    .iter()
                    .find(|other| other.scope == command.scope && other.keys.contains(key));
                assert!(rival.is_none(), "{key} is also bound to {}", command.name);
            }
            let same_name = |other: &&Command| other.name == command.name;
            assert_eq!(COMMANDS.iter().filter(same_name).count(), 1, "{}", command.name);
        }
    }
}
