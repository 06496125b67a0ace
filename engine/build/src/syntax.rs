//! Reads sources of any nesting depth.
//!
//! `syn` calls itself for each level of nesting, also when it drops what it has read. So the depth of a
//! source is measured first, which takes no stack. The source is then read on a thread whose stack is large
//! enough for the allowed depth.

use std::thread;

use proc_macro2::{Delimiter, TokenStream, TokenTree, token_stream};

/// The largest allowed nesting depth, as measured by [`depth`]. Of 19,908 files of the crates that this
/// workspace needs, 2 are deeper; a program has generated them. All but 13 stay below 500.
const DEEPEST: usize = 2_000;

/// The stack of the thread that reads: 64 KiB for each level, which is enough for a program that is not
/// optimised. The system provides only the part of it that is used.
const STACK_BYTES: usize = 128 << 20;

/// Reads a source, and passes its content to `take`, on a thread of its own.
///
/// # Errors
/// The text says why the source is not read.
pub(crate) fn read<R: Send>(
    text: &str,
    take: impl FnOnce(syn::File) -> R + Send,
) -> Result<R, String> {
    let read = || {
        let file = syn::parse2(tokens(text)?).map_err(|error| place_of(&error))?;
        Ok(take(file))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("hotswap sources".to_owned());
        let reading = thread.stack_size(STACK_BYTES).spawn_scoped(scope, read);
        let reading = reading.map_err(|error| format!("no thread can read it: {error}"))?;
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether a piece of source is so flat that any stack is large enough to read it.
pub(crate) fn is_flat(text: &str) -> bool {
    text.parse().is_ok_and(|tokens| depth(tokens) < 50)
}

/// The tokens of a source, unless they are nested too deeply.
fn tokens(text: &str) -> Result<TokenStream, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let script = text.strip_prefix("#!").filter(|rest| !rest.trim_start().starts_with('['));
    // The first line of a script is kept as a comment, so that lines keep their numbers.
    let script = script.map(|rest| format!("//{rest}"));
    let tokens = script.as_deref().unwrap_or(text).parse::<TokenStream>();
    let tokens = tokens.map_err(|error| place_of(&error.into()))?;
    match depth(tokens.clone()) <= DEEPEST {
        true => Ok(tokens),
        false => Err("it is nested too deeply to be read".to_owned()),
    }
}

/// A row of tokens that is being measured: a file, or the tokens between two brackets.
struct Row {
    tokens: token_stream::IntoIter,
    is_block: bool,
    /// How many tokens it may nest by itself so far.
    nested: usize,
    /// Whether commas may be inside something that nests without brackets: `A<B, A<B, …`, `|a, b| |a, b| …`.
    keeps_commas: bool,
}

impl Row {
    fn new(tokens: TokenStream, is_block: bool) -> Self {
        Self { tokens: tokens.into_iter(), is_block, nested: 0, keeps_commas: false }
    }

    fn begin_anew(&mut self) {
        (self.nested, self.keeps_commas) = (0, false);
    }
}

/// An upper bound of how often a reader of these tokens calls itself. A pair of brackets may be a level, and
/// so may each token of a row that does not end, as in `a + b + …`, `!!…a`, `if … else if …`.
fn depth(tokens: TokenStream) -> usize {
    let mut rows = vec![Row::new(tokens, false)];
    // The nesting of the rows around the current one.
    let (mut around, mut deepest) = (0, 0);
    // The kind of the token before.
    let (mut is_after_block, mut is_attribute) = (false, false);
    while let Some(row) = rows.last_mut() {
        let Some(token) = row.tokens.next() else {
            is_after_block = row.is_block;
            rows.pop();
            around -= rows.last().map_or(0, |row| row.nested);
            continue;
        };
        // Items and statements follow one another. Any other token after a block continues the row.
        let goes_on = match &token {
            TokenTree::Punct(sign) => sign.as_char() != '#',
            TokenTree::Ident(word) => word == "else" || word == "as",
            _ => false,
        };
        if is_after_block && !goes_on {
            row.begin_anew();
        }
        is_after_block = false;
        match token {
            TokenTree::Punct(sign) => match sign.as_char() {
                ';' => row.begin_anew(),
                ',' if !row.keeps_commas => row.begin_anew(),
                '#' => {
                    is_attribute = true;
                    continue;
                }
                '!' if is_attribute => continue,
                sign => {
                    row.keeps_commas |= matches!(sign, '<' | '|');
                    row.nested += 1;
                }
            },
            TokenTree::Group(group) => {
                // Attributes follow one another.
                row.nested += usize::from(!is_attribute);
                around += row.nested;
                let is_block = group.delimiter() == Delimiter::Brace;
                rows.push(Row::new(group.stream(), is_block));
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => row.nested += 1,
        }
        is_attribute = false;
        deepest = deepest.max(around + rows.last().map_or(0, |row| row.nested));
    }
    deepest
}

/// Where and why a source cannot be read: `line 3: expected …`.
fn place_of(error: &syn::Error) -> String {
    let start = error.span().start();
    format!("line {}: {error}", start.line)
}

#[cfg(test)]
mod tests {
    use quote::ToTokens as _;
    use syn::visit_mut::VisitMut;

    use super::*;

    /// Reads a source and uses it in every way in which callers do, since each of them calls itself for each
    /// level.
    fn reads(text: &str) -> Result<(), String> {
        struct All;
        impl VisitMut for All {}
        read(text, |mut file| {
            All.visit_file_mut(&mut file);
            drop(file.to_token_stream().to_string());
        })
    }

    #[test]
    fn whatever_nests_is_read_up_to_a_bound_and_refused_above() {
        let statement = |text: String| format!("fn f() {{ {text}; }}");
        let kinds: [(&str, &dyn Fn(usize) -> String); 14] = [
            ("parentheses", &|n| statement(format!("{}1{}", "(".repeat(n), ")".repeat(n)))),
            ("blocks", &|n| statement(format!("{}1{}", "{".repeat(n), "}".repeat(n)))),
            ("arrays", &|n| statement(format!("{}1{}", "[".repeat(n), "]".repeat(n)))),
            ("calls", &|n| statement(format!("{}1{}", "f(".repeat(n), ")".repeat(n)))),
            ("negations", &|n| statement(format!("{}a", "!".repeat(n)))),
            ("references", &|n| statement(format!("{}a", "& ".repeat(n)))),
            ("sums", &|n| statement(format!("1{}", " + 1".repeat(n)))),
            ("assignments", &|n| statement(format!("a{}", " = a".repeat(n)))),
            ("methods", &|n| statement(format!("a{}", ".a()".repeat(n)))),
            ("branches", &|n| statement(format!("if a {{}}{}", " else if a {}".repeat(n)))),
            ("closures", &|n| statement(format!("{}1", "|a, b| ".repeat(n)))),
            ("types", &|n| format!("type A = {}u8{};", "B<u8, ".repeat(n), ">".repeat(n))),
            ("pointers", &|n| format!("type A = {}u8;", "*const ".repeat(n))),
            ("modules", &|n| format!("{}{}", "mod a { ".repeat(n), "}".repeat(n))),
        ];
        for (kind, nested) in kinds {
            let depth = |n| depth(nested(n).parse().unwrap());
            let most = (DEEPEST - depth(1)) / (depth(2) - depth(1)) + 1;
            assert!(depth(most) <= DEEPEST && depth(most + 1) > DEEPEST, "{kind}");
            assert_eq!(reads(&nested(most)), Ok(()), "{kind}");
            let refused = reads(&nested(20_000));
            assert_eq!(refused, Err("it is nested too deeply to be read".into()), "{kind}");
        }
    }

    #[test]
    fn a_long_source_is_not_taken_for_a_deep_one() {
        for text in [
            "fn f() {} ".repeat(5_000),
            "//! A line.\n".repeat(5_000),
            format!("enum A {{ {} }}", "#[doc = \"\"] B, ".repeat(5_000)),
            format!("fn f() {{ {} }}", "let a = b(c); d!{} if a {} ".repeat(5_000)),
            format!("const A: &[u8] = &[{}];", "1, ".repeat(5_000)),
            format!("struct A {{ {} }}", "b: C<D>, ".repeat(200)),
        ] {
            assert_eq!(reads(&text), Ok(()), "{text:.60}");
        }
    }

    #[test]
    fn a_script_keeps_its_lines() {
        assert_eq!(reads("\u{feff}#!/usr/bin/env cargo\nfn f() {}"), Ok(()));
        assert_eq!(reads("#![allow(unused)]\nfn f() {}"), Ok(()));
        let wrong = reads("#!/usr/bin/env cargo\nfn f() { + }").unwrap_err();
        assert!(wrong.starts_with("line 2: "), "{wrong}");
    }
}
