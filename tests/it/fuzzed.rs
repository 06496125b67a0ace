//! The committed inputs of the fuzz targets go through the same checks here, without a nightly compiler.

#[path = "../fuzz/checks.rs"]
mod checks;
mod corpus;

use std::{fs, path::PathBuf};

use hotswap_engine::artifact;

use crate::support::artifact as built;

/// The committed inputs of a target.
fn corpus_dir(target: &str) -> PathBuf {
    let above = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut corpora = above.map(|dir| dir.join("fuzz/corpus"));
    corpora.find(|dir| dir.is_dir()).expect("the corpora").join(target)
}

fn check_corpus(target: &str, check: fn(&[u8])) {
    let entries = fs::read_dir(corpus_dir(target)).expect("a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        println!("{}", file.display());
        check(&fs::read(&file).expect("an input"));
    }
}

#[test]
fn committed_artifacts_are_read_to_the_end() {
    check_corpus("artifact", checks::artifact);
}

#[test]
fn committed_requests_are_answered() {
    check_corpus("request", checks::request);
}

#[test]
fn committed_files_of_calls_are_read_to_the_end() {
    check_corpus("calls", checks::calls);
}

#[test]
fn committed_notes_of_compilers_are_read_to_the_end() {
    check_corpus("dep_info", checks::dep_info);
}

#[test]
fn committed_files_of_stores_are_distinguished_from_builds() {
    check_corpus("store", checks::store);
}

/// The inputs of the fuzz target are made from this artifact, so it has to pass the first checks.
#[test]
fn an_artifact_without_its_code_still_reads_as_one() {
    let whole = artifact::inspect(&built("by-hand")).unwrap();
    let without_code = corpus::without_code(&built("by-hand"));
    assert!(without_code.len() < 64 * 1024, "{}", without_code.len());
    let read = artifact::inspect(&without_code).unwrap();
    assert_eq!((read.name, read.keep_reason), (whole.name, whole.keep_reason));
}

/// `cargo test -p hotswap-tests --test it -- --ignored writes_the_corpora`
#[test]
#[ignore = "writes what is kept in tests/fuzz/corpus anew"]
fn writes_the_corpora() {
    for (target, inputs) in corpus::all() {
        let dir = corpus_dir(target);
        fs::create_dir_all(&dir).unwrap();
        for (name, input) in inputs {
            fs::write(dir.join(name), input).unwrap();
        }
    }
}
