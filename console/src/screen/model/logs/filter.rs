//! Which lines of the log are shown.

use hotswap_protocol::LogLevel;
use regex::{Regex, RegexBuilder};

use super::row::{LogRow, Origin, Writer};

/// Which lines are shown.
#[derive(Default)]
pub(super) struct Filter {
    pub level: Option<LogLevel>,
    pub text: String,
    pub pattern: Option<Regex>,
    /// Whether lines that do not match the pattern stay.
    pub shows_others: bool,
    /// Whether the pattern is for the lines that are not shown.
    pub is_inverted: bool,
    pub writers: WriterFilter,
}

/// Whose lines are shown: words of which one must fit the writer.
#[derive(Default)]
pub(super) struct WriterFilter {
    pub text: String,
    wanted: Vec<String>,
    unwanted: Vec<String>,
}

impl Filter {
    pub fn passes(&self, row: &LogRow) -> bool {
        let is_wanted = match &row.origin {
            Origin::Record { level, writer } => {
                self.level.is_none_or(|least| *level >= least) && self.writers.takes(writer)
            }
            Origin::Output(stream) => self.writers.takes_word(stream.as_str()),
            Origin::Marker | Origin::Dropped(_) => true,
        };
        if !is_wanted {
            return false;
        }
        self.shows_others || self.pattern.is_none() || self.matches(row) != self.is_inverted
    }

    /// Whether the pattern is found in the line.
    pub fn matches(&self, row: &LogRow) -> bool {
        let found =
            |pattern: &Regex| pattern.is_match(&row.text) || pattern.is_match(row.origin.writer());
        self.pattern.as_ref().is_some_and(found)
    }

    /// Takes a regular expression, or plain text where it is none; without regard to case.
    pub fn set_pattern(&mut self, text: &str) {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build().ok()
        };
        text.clone_into(&mut self.text);
        self.pattern = match text {
            "" => None,
            text => compile(text).or_else(|| compile(&regex::escape(text))),
        };
        if text.is_empty() {
            self.is_inverted = false;
        }
    }
}

impl WriterFilter {
    /// `world`, `world@3`, `http`, `-heartbeat`: plugins, versions, parts of targets; a word with a
    /// minus is for those that are not wanted.
    pub fn new(text: &str) -> Self {
        let words = text.split([' ', ',']).map(str::to_lowercase).filter(|it| !it.is_empty());
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for word in words {
            match word.strip_prefix('-') {
                None => wanted.push(with_v(&word)),
                Some("") => {}
                Some(rest) => unwanted.push(with_v(rest)),
            }
        }
        Self { text: text.to_owned(), wanted, unwanted }
    }

    fn takes(&self, writer: &Writer) -> bool {
        let (label, target) = &writer.lowercase;
        self.decide(|word| match word.contains('@') {
            true => label == word,
            false => label.contains(word) || target.contains(word),
        })
    }

    fn takes_word(&self, name: &str) -> bool {
        self.decide(|word| name.contains(word))
    }

    fn decide(&self, fits: impl Fn(&str) -> bool) -> bool {
        let any = |words: &[String]| words.iter().any(|word| fits(word));
        (self.wanted.is_empty() || any(&self.wanted)) && !any(&self.unwanted)
    }
}

/// `world@3` as a record's writer is called: `world@v3`.
fn with_v(word: &str) -> String {
    match word.split_once('@') {
        Some((plugin, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{plugin}@v{version}")
        }
        _ => word.to_owned(),
    }
}
