//! Gives this package the cfg that the modelled sources know, without giving it to any other.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
