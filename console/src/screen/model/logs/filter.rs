//! The filter of the log.

use hotswap_protocol::LogLevel;
use regex::{Regex, RegexBuilder};

use super::row::{LogRow, Origin, Writer};

/// The filter of the log.
#[derive(Default)]
pub(super) struct Filter {
    pub level: Option<LogLevel>,
    pub text: String,
    pub pattern: Option<Regex>,
    /// Whether lines that do not match the pattern are shown too.
    pub shows_others: bool,
    /// Whether lines that match the pattern are hidden instead of the others.
    pub is_inverted: bool,
    pub writers: WriterFilter,
}

/// A filter by writer: words, one of which must fit.
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

    /// Whether the pattern occurs in the line or in its writer's name.
    pub fn matches(&self, row: &LogRow) -> bool {
        let found =
            |pattern: &Regex| pattern.is_match(&row.text) || pattern.is_match(row.origin.writer());
        self.pattern.as_ref().is_some_and(found)
    }

    /// Sets the pattern: a regular expression, or plain text if it is not a valid one. Case does not matter.
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
    /// The filter of these words: plugins, versions and parts of targets, such as `world`, `world@3`, `http`. A word
    /// with a minus, such as `-heartbeat`, excludes writers.
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

/// A word in the form in which records name their writers: `world@v3` for `world@3`.
fn with_v(word: &str) -> String {
    match word.split_once('@') {
        Some((plugin, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{plugin}@v{version}")
        }
        _ => word.to_owned(),
    }
}
