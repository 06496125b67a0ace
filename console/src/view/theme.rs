//! Colours and weights. No meaning hangs on a colour alone.

use ratatui::style::{Color, Modifier, Style};

/// How each sort of text looks.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Whether colours are used, also in what cargo printed.
    pub has_colours: bool,
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
    /// Colours, unless the environment variable `NO_COLOR` is set to anything.
    pub fn from_env() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::without_colours(),
            _ => Self::with_colours(),
        }
    }

    /// Calm colours that are readable on dark and on light backgrounds.
    pub fn with_colours() -> Self {
        let plain = Style::new();
        let selected = Style::new().fg(Color::Indexed(231)).bg(Color::Indexed(24));
        Self {
            has_colours: true,
            plain,
            dim: plain.fg(Color::Indexed(245)),
            strong: plain.add_modifier(Modifier::BOLD),
            title: plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
            // On a border, whose colour it would have otherwise.
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
            writer: plain.fg(Color::Blue),
            matched: plain.add_modifier(Modifier::UNDERLINED | Modifier::BOLD),
            input: plain.add_modifier(Modifier::UNDERLINED),
            bar: plain.fg(Color::Cyan),
        }
    }

    /// Weights only.
    pub fn without_colours() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let dim = plain.add_modifier(Modifier::DIM);
        Self {
            has_colours: false,
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
}
