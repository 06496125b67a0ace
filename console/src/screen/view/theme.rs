//! Colours and weights. No meaning depends on a colour alone.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::screen::model::Look;

/// The styles of all kinds of text.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Whether colours are used, also those in the output of cargo.
    pub has_colours: bool,
    /// Whether only ASCII is drawn.
    pub is_ascii: bool,
    pub(super) plain: Style,
    pub(super) dim: Style,
    pub(super) strong: Style,
    pub(super) title: Style,
    pub(super) title_elsewhere: Style,
    pub(super) border: Style,
    pub(super) focused_border: Style,
    pub(super) selected: Style,
    pub(super) selected_elsewhere: Style,
    pub(super) key: Style,
    pub(super) good: Style,
    pub(super) warning: Style,
    pub(super) bad: Style,
    pub(super) marker: Style,
    pub(super) writer: Style,
    pub(super) matched: Style,
    pub(super) input: Style,
    pub(super) bar: Style,
}

impl Theme {
    /// Calm colours that are readable on dark and on light backgrounds.
    pub fn with_colours() -> Self {
        let plain = Style::new();
        let selected = Style::new().fg(Color::Indexed(231)).bg(Color::Indexed(24));
        Self {
            has_colours: true,
            is_ascii: false,
            plain,
            dim: plain.fg(Color::Indexed(245)),
            strong: plain.add_modifier(Modifier::BOLD),
            title: plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
            // A title is on the border, and would otherwise have its colour.
            title_elsewhere: plain.fg(Color::Reset).add_modifier(Modifier::BOLD),
            border: plain.fg(Color::Indexed(242)),
            focused_border: plain.fg(Color::Cyan),
            selected,
            selected_elsewhere: plain.add_modifier(Modifier::BOLD),
            key: plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
            good: plain.fg(Color::Green),
            warning: plain.fg(Color::Yellow),
            bad: plain.fg(Color::Red).add_modifier(Modifier::BOLD),
            marker: plain.fg(Color::Magenta),
            // The blue of many terminals is too dark to read.
            writer: plain.fg(Color::Indexed(33)),
            matched: plain.add_modifier(Modifier::UNDERLINED | Modifier::BOLD),
            input: plain.add_modifier(Modifier::UNDERLINED),
            bar: plain.fg(Color::Cyan),
        }
    }

    /// The same colours for light backgrounds, where yellow and grey are hard to see.
    pub fn with_dark_colours() -> Self {
        let plain = Style::new();
        let on = |colour: u8| plain.fg(Color::Indexed(colour));
        let bold = |colour: u8| on(colour).add_modifier(Modifier::BOLD);
        Self {
            dim: on(241),
            title: bold(25),
            border: on(247),
            focused_border: on(25),
            key: bold(25),
            good: on(28),
            warning: on(130),
            bad: bold(160),
            marker: on(90),
            writer: on(25),
            bar: on(31),
            ..Self::with_colours()
        }
    }

    /// The style of a panel's selected line.
    pub(super) fn selection(&self, has_focus: bool) -> Style {
        if has_focus { self.selected } else { self.selected_elsewhere }
    }

    /// Weights without colours.
    pub fn without_colours() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let dim = plain.add_modifier(Modifier::DIM);
        Self {
            has_colours: false,
            is_ascii: false,
            plain,
            dim,
            strong: bold,
            title: bold,
            title_elsewhere: plain,
            border: dim,
            focused_border: bold,
            selected: plain.add_modifier(Modifier::REVERSED),
            selected_elsewhere: bold,
            key: bold,
            good: plain,
            warning: bold,
            bad: bold,
            marker: dim,
            writer: plain,
            matched: plain.add_modifier(Modifier::UNDERLINED | Modifier::BOLD),
            input: plain.add_modifier(Modifier::UNDERLINED),
            bar: plain,
        }
    }
    /// The styles with their names in the configuration.
    fn named(&mut self) -> [(&'static str, &mut Style); 18] {
        [
            ("plain", &mut self.plain),
            ("dim", &mut self.dim),
            ("strong", &mut self.strong),
            ("title", &mut self.title),
            ("title-elsewhere", &mut self.title_elsewhere),
            ("border", &mut self.border),
            ("focused-border", &mut self.focused_border),
            ("selected", &mut self.selected),
            ("selected-elsewhere", &mut self.selected_elsewhere),
            ("key", &mut self.key),
            ("good", &mut self.good),
            ("warning", &mut self.warning),
            ("bad", &mut self.bad),
            ("marker", &mut self.marker),
            ("writer", &mut self.writer),
            ("matched", &mut self.matched),
            ("input", &mut self.input),
            ("bar", &mut self.bar),
        ]
    }

    /// The names of styles in the configuration.
    pub fn style_names() -> Vec<&'static str> {
        Self::without_colours().named().map(|(name, _)| name).into()
    }

    /// Applies the configuration's changes of styles.
    fn change(&mut self, changes: &StyleChanges) {
        let has_colours = self.has_colours;
        for (name, style) in self.named() {
            if let Some(change) =
                changes.0.iter().find_map(|(it, change)| (it.0 == name).then_some(change))
            {
                *style = change.apply(*style, has_colours);
            }
        }
    }
}

/// A theme for each [`Look`].
#[derive(Debug, Clone)]
pub struct Themes {
    dark: Theme,
    light: Theme,
    plain: Theme,
    /// The look at the start; `None` leaves it to the terminal.
    start: Option<Look>,
}

impl Themes {
    pub(crate) fn new(start: Option<Look>, is_ascii: bool, changes: &StyleChanges) -> Self {
        let theme = |mut theme: Theme| {
            theme.is_ascii = is_ascii;
            theme.change(changes);
            theme
        };
        Self {
            dark: theme(Theme::with_colours()),
            light: theme(Theme::with_dark_colours()),
            plain: theme(Theme::without_colours()),
            start,
        }
    }

    /// The theme of a look.
    pub fn of(&self, look: Look) -> &Theme {
        match look {
            Look::Dark => &self.dark,
            Look::Light => &self.light,
            Look::Plain => &self.plain,
        }
    }

    /// The look at the start; `None` if the configuration leaves it to the terminal.
    pub fn start(&self) -> Option<Look> {
        self.start
    }
}

/// The configuration's changes of styles.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct StyleChanges(BTreeMap<StyleName, StyleChange>);

/// The name of a style that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StyleName(String);

impl<'de> Deserialize<'de> for StyleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let names = Theme::style_names();
        if names.contains(&text.as_str()) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "`{text}` is not a style; the styles are: {}",
            names.join(", ")
        )))
    }
}

/// The change of a style. What it does not name stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StyleChange {
    fg: Option<NamedColour>,
    bg: Option<NamedColour>,
    bold: Option<bool>,
    dim: Option<bool>,
    italic: Option<bool>,
    underlined: Option<bool>,
    reversed: Option<bool>,
}

impl StyleChange {
    fn apply(&self, mut style: Style, has_colours: bool) -> Style {
        if let (Some(NamedColour(colour)), true) = (self.fg, has_colours) {
            style = style.fg(colour);
        }
        if let (Some(NamedColour(colour)), true) = (self.bg, has_colours) {
            style = style.bg(colour);
        }
        for (wanted, modifier) in [
            (self.bold, Modifier::BOLD),
            (self.dim, Modifier::DIM),
            (self.italic, Modifier::ITALIC),
            (self.underlined, Modifier::UNDERLINED),
            (self.reversed, Modifier::REVERSED),
        ] {
            style = match wanted {
                Some(true) => style.add_modifier(modifier),
                Some(false) => style.remove_modifier(modifier),
                None => style,
            };
        }
        style
    }
}

#[derive(Debug, Clone, Copy)]
struct NamedColour(Color);

impl<'de> Deserialize<'de> for NamedColour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            D::Error::custom(format!(
                "`{text}` is not a colour: a colour is a name such as \"cyan\" or \"light-red\", a \
                 number from \"0\" to \"255\", or \"#88c0d0\""
            ))
        })
    }
}
