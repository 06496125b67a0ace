//! Reads the imports and the words of sources. Comments are left out, and so are string literals that are not
//! paths.

/// A word or sign of a source, and its line from 1.
#[derive(Debug, PartialEq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, PartialEq)]
pub enum Kind {
    Word(String),
    /// `::`
    PathSign,
    Sign(char),
}

/// A path in a source, from the root of its crate.
#[derive(Debug, PartialEq)]
pub struct Import {
    pub line: usize,
    pub path: Vec<String>,
    /// Its name in the importing module.
    pub name: String,
    /// If the path began with a plain name: the index of that name, which may be a module or another crate.
    pub plain: Option<usize>,
}

/// The words and signs of a source.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new() };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Takes one token, or a part without a token; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(comment_length(self.rest));
        } else if let Some(hashes) = raw_text_hashes(self.rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = self.rest.find('"').map_or(self.rest.len(), |at| at + 1);
            self.text(start, &end);
        } else if first == '"' {
            self.quoted();
        } else if first == '\'' {
            self.skip(letter_length(self.rest));
        } else if first.is_alphanumeric() || first == '_' {
            self.word();
        } else if self.rest.starts_with("::") {
            self.push(Kind::PathSign);
            self.skip(2);
        } else {
            if !first.is_whitespace() {
                self.push(Kind::Sign(first));
            }
            self.skip(first.len_utf8());
        }
        true
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    /// A name or a number. `r#type` is the name `type`.
    fn word(&mut self) {
        if let Some(raw) = self.rest.strip_prefix("r#") {
            self.rest = raw;
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.push(Kind::Word(self.rest[..length].to_owned()));
        self.skip(length);
    }

    /// A string literal, in which `\"` is not the end.
    fn quoted(&mut self) {
        let mut is_escaped = false;
        let end = self.rest[1..].find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let end = end.map_or(self.rest.len(), |at| at + 1);
        let is_whole = end < self.rest.len();
        self.path_in_text(1, end);
        self.skip(if is_whole { end + 1 } else { end });
    }

    /// A literal that starts here and lasts until `end`.
    fn text(&mut self, start: usize, end: &str) {
        let length = self.rest[start..].find(end);
        let stop = length.map_or(self.rest.len(), |length| start + length);
        self.path_in_text(start, stop);
        self.skip((stop + end.len()).min(self.rest.len()));
    }

    /// Attributes name functions in string literals: `#[serde(default = "crate::place::port")]`.
    fn path_in_text(&mut self, start: usize, end: usize) {
        let text = &self.rest[start..end];
        let is_path = ["crate::", "super::"].iter().any(|root| text.starts_with(root));
        if is_path && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            let line = self.line;
            self.tokens.extend(tokens(text).into_iter().map(|token| Token { line, ..token }));
        }
    }
}

/// The length of a comment in `/*` and `*/`, which may contain other comments.
fn comment_length(text: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        match (text[at..].find("/*"), text[at..].find("*/")) {
            (Some(start), Some(end)) if start < end => (at, depth) = (at + start + 2, depth + 1),
            (_, Some(end)) => (at, depth) = (at + end + 2, depth - 1),
            (_, None) => return text.len(),
        }
    }
    at
}

/// The number of `#` of a raw text such as `r#"…"#`, if one starts here.
fn raw_text_hashes(text: &str) -> Option<usize> {
    let rest = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix).filter(|rest| rest.starts_with(['"', '#'])))?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a character literal such as `'{'` or `'\''`; for a lifetime, only the `'`.
fn letter_length(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    let (first, second) = (letters.next(), letters.next());
    match (first, second) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            text[after..].find('\'').map_or(text.len(), |end| after + end + 1)
        }
        (_, Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The imports of a source from its own crate, by `use` or by a path in its code. Paths that begin with a plain
/// name are included, because that may be a module of the crate.
pub fn imports(text: &str, module: &[String]) -> Vec<Import> {
    let tokens = tokens(text);
    let mut reader = Reader { tokens: &tokens, at: 0, file: module, braces: Vec::new() };
    let mut found = Vec::new();
    while reader.at < tokens.len() {
        reader.step(&mut found);
    }
    found
}

/// The lines where a source names another file for a module.
pub fn other_files(text: &str) -> Vec<usize> {
    let begins = ["#[path =", "include!("].map(tokens);
    let tokens = tokens(text);
    let is_there = |at: &usize| {
        begins.iter().any(|begin| {
            let there = tokens[*at..].iter().take(begin.len()).map(|token| &token.kind);
            there.eq(begin.iter().map(|token| &token.kind))
        })
    };
    (0..tokens.len()).filter(is_there).map(|at| tokens[at].line).collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The module of the file.
    file: &'a [String],
    /// The open braces, with the names of those that belong to modules.
    braces: Vec<Option<String>>,
}

impl Reader<'_> {
    fn word(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is_sign(&self, at: usize, sign: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Sign(sign))
    }

    fn is_path_sign(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::PathSign)
    }

    fn step(&mut self, found: &mut Vec<Import>) {
        match self.word(self.at) {
            Some("mod") if self.word(self.at + 1).is_some() && self.is_sign(self.at + 2, '{') => {
                self.braces.push(self.word(self.at + 1).map(str::to_owned));
                self.at += 3;
            }
            // `use<'a>` says what a type captures.
            Some("use") if !self.is_sign(self.at + 1, '<') => {
                self.at += 1;
                self.tree(&[], found);
            }
            Some("crate" | "super" | "self") if self.is_path_sign(self.at + 1) => self.path(found),
            _ => {
                if self.is_sign(self.at, '{') {
                    self.braces.push(None);
                } else if self.is_sign(self.at, '}') {
                    self.braces.pop();
                }
                self.at += 1;
            }
        }
    }

    /// A path in the code. The path of `pub(in crate::place)` is not an import.
    fn path(&mut self, found: &mut Vec<Import>) {
        let is_visibility =
            self.at >= 2 && self.word(self.at - 1) == Some("in") && self.is_sign(self.at - 2, '(');
        let line = self.tokens[self.at].line;
        let mut names = Vec::new();
        while let Some(word) = self.word(self.at) {
            names.push(word.to_owned());
            self.at += 1;
            if !self.is_path_sign(self.at) || self.word(self.at + 1).is_none() {
                break;
            }
            self.at += 1;
        }
        if !is_visibility {
            found.extend(self.import(line, &names, None));
        }
    }

    /// The tree after `use`, or one of its groups after these names.
    fn tree(&mut self, before: &[String], found: &mut Vec<Import>) {
        let mut names = before.to_vec();
        let mut name = None;
        let mut is_other_crate = false;
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                Kind::Word(word) if word == "as" => {
                    self.at += 1;
                    name = self.word(self.at).map(str::to_owned);
                }
                Kind::Word(word) if word == "self" && !names.is_empty() => {}
                Kind::Word(word) => names.push(word.clone()),
                Kind::PathSign => is_other_crate |= names.is_empty(),
                Kind::Sign('{') => {
                    self.at += 1;
                    return self.group(&names, found);
                }
                Kind::Sign(',' | ';' | '}') => break,
                Kind::Sign(_) => {}
            }
            self.at += 1;
        }
        if !is_other_crate && !names.is_empty() {
            found.extend(self.import(line, &names, name));
        }
    }

    /// The group `a, b::{c, d}}`, after its opening brace.
    fn group(&mut self, before: &[String], found: &mut Vec<Import>) {
        while self.at < self.tokens.len() && !self.is_sign(self.at, '}') {
            self.tree(before, found);
            if !self.is_sign(self.at, '}') {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// The path from the root of the crate; `None` if it leads out of the crate.
    fn import(&self, line: usize, names: &[String], name: Option<String>) -> Option<Import> {
        let mut path: Vec<String> = self.file.to_vec();
        path.extend(self.braces.iter().flatten().cloned());
        let is_root = |name: &&String| ["crate", "super", "self"].contains(&name.as_str());
        let roots = names.iter().take_while(is_root).count();
        for root in &names[..roots] {
            match root.as_str() {
                "crate" => path.clear(),
                "super" => drop(path.pop()?),
                _ => {}
            }
        }
        let plain = (roots == 0).then_some(path.len());
        path.extend_from_slice(&names[roots..]);
        let name = name.or_else(|| names.last().cloned())?;
        Some(Import { line, path, name, plain })
    }
}
