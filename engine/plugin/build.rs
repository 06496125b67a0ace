//! Tells the crate which compiler builds it, for the toolchain part of the compatibility gate.

use std::{env, process::Command};

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
    println!("cargo::rerun-if-changed=build.rs");
}
