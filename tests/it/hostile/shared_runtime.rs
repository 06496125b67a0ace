//! A plugin with Rust's standard library as a shared library is refused when it is built.

use std::{fs, path::Path};

use hotswap_build::{BuildOptions, Cancel, PluginPackage, build_plugin};
use hotswap_engine::artifact;

use crate::support::{cargo, repository, succeed, target_dir};

#[test]
fn a_plugin_that_is_built_with_prefer_dynamic_is_refused() {
    let mut build = cargo();
    build.args(["rustc", "--package", "shares-std", "--lib", "--crate-type", "cdylib"]);
    build.args([
        "--config",
        "profile.hotswap.inherits='dev'",
        "--config",
        "profile.hotswap.debug=false",
    ]);
    build.args(["--profile", "hotswap", "--target-dir"]).arg(target_dir().join("hotswap"));
    build.args(["--", "--cfg", "hotswap_cdylib", "-C", "prefer-dynamic"]);
    build.current_dir(repository());
    succeed(build);
    let built = target_dir().join("hotswap/hotswap/libshares_std.so");
    let mut file = fs::read(built).expect("read what was built");
    // This is the last step of `hotswap build`.
    expect_advice(&artifact::stamp(&mut file, None).unwrap_err().to_string());
    expect_advice(&artifact::inspect(&file).unwrap_err().to_string());
}

#[test]
fn a_plugin_with_a_shared_library_of_rusts_is_refused() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shares-library");
    let package = PluginPackage::open(&package).expect("a fixture's package");
    let options = BuildOptions::default();
    let built = build_plugin(&package, &options, &Cancel::default(), &mut |_| {});
    expect_advice(&built.expect_err("a refusal").to_string());
}

fn expect_advice(refused: &str) {
    for part in ["from a shared Rust library", "`-C prefer-dynamic`", "`crate-type = [\"dylib\"]`"]
    {
        assert!(refused.contains(part), "{refused}");
    }
}
