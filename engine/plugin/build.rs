//! Tells the crate which compiler builds it, for the toolchain part of the compatibility gate.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    process::Command,
};

fn main() {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC for build scripts");
    let output = Command::new(rustc).arg("-vV").output().expect("run `rustc -vV`");
    let text = String::from_utf8(output.stdout).expect("`rustc -vV` prints UTF-8");
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or("unknown")
            .to_owned()
    };
    println!("cargo::rustc-env=HOTSWAP_RUSTC_RELEASE={}", field("release"));
    println!("cargo::rustc-env=HOTSWAP_RUSTC_COMMIT={}", field("commit-hash"));
    println!("cargo::rustc-env=HOTSWAP_TARGET={}", env::var("TARGET").expect("cargo sets TARGET"));
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    println!("cargo::rustc-env=HOTSWAP_PLUGIN_VERSION={version}+{:08x}", source_hash());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
}

/// A hash of this crate's source. The functions through which host and image call each other may change from
/// one commit to the next without a new version number; the hash shows it.
fn source_hash() -> u32 {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::from("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read the source") {
            let path = entry.expect("read the source").path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(&file).expect("read the source").hash(&mut hasher);
        file.hash(&mut hasher);
    }
    hasher.finish() as u32
}
