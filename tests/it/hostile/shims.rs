//! Each function that another image calls by pointer catches the panics of its own side, with one of a few
//! helpers. This test finds a function without one.

use std::fs;

use crate::support::repository;

/// The helpers that run a closure and turn its panic into an answer.
const CATCHING: [&str; 7] = [
    "catch(",
    "catch_in_call(",
    "catch_in_object(",
    "enter(",
    "dispatch::<",
    "end_panic(",
    "catch_unwind(",
];

/// Functions in which no code of an author runs: they report that something is missing, do nothing, count a
/// reference, or pass a call on to a function that catches.
fn is_harmless(name: &str) -> bool {
    name.starts_with("no_")
        || name.starts_with("not_")
        || name.starts_with("retain")
        || ["invoke_inside", "nothing"].contains(&name)
}

/// Functions of C that an image defines and that pass each call on to the host, with the files that emit them.
const HOOKS: [&str; 2] = ["hooks.rs", "export.rs"];

fn sources(dir: std::path::PathBuf) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(dirs.into_iter().flat_map(sources)).collect()
}

/// The name and the body of each function with the C ABI.
fn functions(source: &str) -> Vec<(&str, &str)> {
    let starts = source.match_indices("extern \"C\" fn ").map(|(at, text)| at + text.len());
    let function = |at: usize| {
        let rest = &source[at..];
        let name = rest.split(['(', '<']).next()?;
        let is_type = name.is_empty() || name.starts_with('#');
        let open = rest.find('{')?;
        // A type or a declaration ends before any body begins.
        let ends = rest.find([';', '=']).is_some_and(|end| end < open);
        let mut depth = 0;
        let end = rest[open..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        })?;
        (!is_type && !ends).then(|| (name, &rest[open..open + end]))
    };
    starts.filter_map(function).collect()
}

#[test]
fn every_function_that_another_image_calls_catches_its_panics() {
    let files = sources(repository().join("engine/plugin/src"));
    let mut seen = 0;
    for file in files.iter().filter(|file| !HOOKS.iter().any(|hooks| file.ends_with(hooks))) {
        for (name, body) in functions(&fs::read_to_string(file).unwrap()) {
            seen += 1;
            let is_caught = CATCHING.iter().any(|catching| body.contains(catching));
            assert!(
                is_caught || is_harmless(name),
                "{}: `{name}` is called from elsewhere, and its panic would end the process: let \
                 `image::catch` run it",
                file.display()
            );
        }
    }
    assert!(seen > 25, "only {seen} functions were found");
}
