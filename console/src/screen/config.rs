//! The configuration: the editor, keys and colours, in a TOML file.
//!
//! ```toml
//! editor = "edit --line {line} {file}"
//!
//! [keys]
//! zoom = "m"
//! reload = ["r", "F5"]
//! watch = []
//!
//! [theme]
//! colours = "auto"
//! borders = "ascii"
//!
//! [theme.styles]
//! title = { fg = "#88c0d0", bold = true }
//! ```
//!
//! `assets/console.schema.json` describes it for editors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;

use crate::screen::input::action::{COMMANDS, Command};
use crate::screen::input::key::KeySequence;
use crate::screen::input::keymap::Keymap;
use crate::screen::model::Look;
use crate::screen::view::{StyleChanges, Themes};

/// The settings of the configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The command line of the editor; `None` leaves the choice to `$VISUAL` and `$EDITOR`.
    pub editor: Option<String>,
    /// The keys.
    pub keymap: Keymap,
    /// The colours.
    pub themes: Themes,
}

/// An error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// A description.
    pub message: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The path of the configuration: `$XDG_CONFIG_HOME/hotswap/console.toml`.
pub fn path() -> Option<PathBuf> {
    let directories = etcetera::base_strategy::Xdg::new().ok()?;
    Some(directories.config_dir().join("hotswap/console.toml"))
}

/// Reads the configuration. If it has an error, returns the defaults and a description of the error.
pub fn load(path: &Path) -> (Config, Option<String>) {
    let defaults = |problem| (Config::default(), problem);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return defaults(None),
        Err(error) => return defaults(Some(format!("{}: {error}", path.display()))),
    };
    match text.parse() {
        Ok(config) => (config, None),
        Err(error) => defaults(Some(format!("{}, {error}", path.display()))),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { editor: None, keymap: Keymap::default(), themes: ThemeFile::default().themes() }
    }
}

impl std::str::FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError {
            line: line_at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        // In the order of the file, so that the later one of two conflicting entries is reported.
        let mut keys: Vec<_> = file.keys.into_iter().collect();
        keys.sort_by_key(|(_, keys)| keys.span().start);
        let changes: Vec<(&Command, Vec<KeySequence>)> =
            keys.iter().map(|(name, keys)| (name.0, keys.get_ref().0.clone())).collect();
        let keymap = Keymap::with(&changes).map_err(|(command, message)| {
            let blamed = keys.iter().find(|(name, _)| name.0.name == command.name);
            ConfigError { line: blamed.map_or(1, |(_, keys)| line_at(keys.span().start)), message }
        })?;
        Ok(Self { editor: file.editor, keymap, themes: file.theme.themes() })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// The schema, for editors. The console does not read it.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    editor: Option<String>,
    #[serde(default)]
    keys: BTreeMap<CommandName, Spanned<Keys>>,
    #[serde(default)]
    theme: ThemeFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ThemeFile {
    colours: Colours,
    borders: Borders,
    styles: StyleChanges,
}

impl ThemeFile {
    fn themes(&self) -> Themes {
        let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let start = match self.colours {
            Colours::Auto if unwanted() => Some(Look::Plain),
            Colours::Auto | Colours::Always => None,
            Colours::Dark => Some(Look::Dark),
            Colours::Light => Some(Look::Light),
            Colours::Never => Some(Look::Plain),
        };
        Themes::new(start, self.borders == Borders::Ascii, &self.styles)
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Colours {
    /// Without colours if the environment variable `NO_COLOR` is set and not empty; otherwise colours that suit the
    /// terminal's background.
    #[default]
    Auto,
    /// Colours that suit the terminal's background, whatever the environment says.
    Always,
    /// Colours for a dark background.
    Dark,
    /// Colours for a light background.
    Light,
    Never,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Borders {
    #[default]
    Plain,
    /// The whole screen is drawn with ASCII characters only.
    Ascii,
}

/// The name of a command that exists.
struct CommandName(&'static Command);

impl PartialEq for CommandName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for CommandName {}

impl PartialOrd for CommandName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CommandName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(other.0.name)
    }
}

impl<'de> Deserialize<'de> for CommandName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        COMMANDS.iter().find(|command| command.name == text).map(Self).ok_or_else(|| {
            let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
            D::Error::custom(format!(
                "`{text}` is not a command; the commands are: {}",
                names.join(", ")
            ))
        })
    }
}

/// One key, or a list of them.
struct Keys(Vec<KeySequence>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key such as \"R\" or \"Ctrl-R\", or a list of keys")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Keys, E> {
        text.parse().map(|keys| Keys(vec![keys])).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            keys.push(text.parse().map_err(A::Error::custom)?);
        }
        Ok(Keys(keys))
    }
}
