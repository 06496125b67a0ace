//! Other possible profiles and linkers for plugins.

use crate::{
    fixture::Fixture,
    in_ms, measure_in_turn, median, quartiles,
    way::{Cargo, Way},
};

/// The settings of cargo in which each row differs from builds of plugins. The linkers must be installed; remove the
/// row of one that is not.
const VARIANTS: [(&str, &[&str]); 12] = [
    ("`hotswap`", &[]),
    ("debug information made, and left out by the linker", &["profile.hotswap.debug=2"]),
    ("with debug information", &["profile.hotswap.debug=2", "profile.hotswap.strip=\"none\""]),
    (
        "with debug information beside it",
        &[
            "profile.hotswap.debug=2",
            "profile.hotswap.strip=\"none\"",
            "profile.hotswap.split-debuginfo=\"unpacked\"",
        ],
    ),
    (
        "with line tables",
        &["profile.hotswap.debug=\"line-tables-only\"", "profile.hotswap.strip=\"none\""],
    ),
    ("with `std`'s line tables only", &["profile.hotswap.strip=\"none\""]),
    ("16 codegen units", &["profile.hotswap.codegen-units=16"]),
    ("one codegen unit", &["profile.hotswap.codegen-units=1"]),
    ("not incremental", &["profile.hotswap.incremental=false"]),
    ("dependencies optimised", &["profile.hotswap.package.\"*\".opt-level=3"]),
    ("linked by GNU ld", &["build.rustflags=[\"-Clink-arg=-fuse-ld=bfd\"]"]),
    ("linked by GNU gold", &["build.rustflags=[\"-Clink-arg=-fuse-ld=gold\"]"]),
];

/// Builds a changed plugin with each row in turn.
pub fn measure(fixture: &Fixture, rounds: usize) {
    let copy = |number| fixture.copy(&format!("profile-{number}"));
    let variants = VARIANTS.iter().enumerate();
    let mut builds: Vec<_> =
        variants.map(|(number, (_, settings))| Cargo::new(copy(number), settings)).collect();
    let times = measure_in_turn(
        builds.iter_mut().map(|build| build as &mut (dyn Way + 'static)).collect(),
        rounds,
    );
    println!("\n{}: {rounds} rounds\n", fixture.title);
    println!("| profile | median | quartiles | to `hotswap` | artifact |\n|---|---|---|---|---|");
    for (((name, _), build), own) in VARIANTS.iter().zip(&builds).zip(&times) {
        let ratio = median(own).as_secs_f64() / median(&times[0]).as_secs_f64();
        let [first, third] = quartiles(own).map(in_ms);
        let megabytes = build.size_bytes() as f64 / 1e6;
        let median = in_ms(median(own));
        println!("| {name} | {median} | {first} – {third} | {ratio:.2} | {megabytes:.1} MB |");
    }
}
