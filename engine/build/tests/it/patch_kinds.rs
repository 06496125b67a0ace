//! The kinds of edits, one by one: which can be loaded as a patch, and which cannot.

use std::fs;

use hotswap_build::{Bound, BuildOptions, NotPatched, Unpatchable};

use crate::patches::Running;

const KINDS: &str = r#"
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use hotswap_plugin::prelude::*;

#[derive(Default)]
struct Kinds;

#[plugin]
impl Plugin for Kinds {}

static DROPS: AtomicU64 = AtomicU64::new(0);
static LISTED: [fn() -> u64; 1] = [listed];
static MADE: LazyLock<u64> = LazyLock::new(made);
static FIXED: u64 = fixed();
static LATER: Mutex<Vec<Box<dyn Fn() -> u64 + Send>>> = Mutex::new(Vec::new());
static POINTERS: Mutex<Vec<fn() -> u64>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: u64 = const { 3 };
}

unsafe extern "C" {
    safe fn not_there() -> u64;
    safe fn getppid() -> i32;
}

#[derive(Clone, Debug, Default)]
struct Score {
    points: u64,
}

trait Shape {
    fn corners(&self) -> u64 {
        5
    }
}

impl Shape for Score {}

struct Counted(Box<u64>);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPS.fetch_add(*self.0, Ordering::Relaxed);
    }
}

macro_rules! item {
    () => {
        fn of_macro() -> u64 {
            7
        }
    };
}
item!();

macro_rules! local {
    ($name:ident, $len:expr) => {
        struct $name([u8; $len]);
    };
}

#[invoke]
fn word() -> String {
    "four".to_owned()
}

#[invoke]
fn store_pointer() {
    POINTERS.lock().unwrap().push(pointed);
}

#[invoke]
fn store_closure() {
    LATER.lock().unwrap().push(Box::new(|| in_closure()));
}

fn pointed() -> u64 {
    16
}

fn in_closure() -> u64 {
    17
}

#[invoke]
fn directly() -> usize {
    local!(Local, 18);
    size_of::<Local>() + pointed() as usize + in_closure() as usize
}

fn listed() -> u64 {
    8
}

fn made() -> u64 {
    9
}

const fn fixed() -> u64 {
    10
}

fn deep(n: u64) -> u64 {
    if n == 0 { 0 } else { deep(n - 1) + 11 }
}

#[inline(always)]
fn quick(n: u64) -> u64 {
    n + 12
}

#[inline(always)]
fn place() -> &'static (&'static str, u32, u32) {
    &("src/lib.rs", 19, 20)
}

mod elsewhere {
    pub fn place() -> u32 {
        21
    }
}

#[invoke]
fn line() -> u32 {
    place().1
}

#[invoke]
fn line_elsewhere() -> u32 {
    elsewhere::place()
}

fn pick<T: fmt::Debug>(value: T) -> usize {
    format!("{value:?}").len()
}

#[invoke]
fn sum(n: u64) -> u64 {
    let counted = Counted(Box::new(n));
    deep(n) + quick(n) + *counted.0 + HERE.with(|here| *here)
}

#[invoke]
fn picked(n: u64) -> usize {
    pick(n) + pick(Score { points: n }.clone())
}

#[invoke]
fn by_tables() -> u64 {
    let shape: Box<dyn Shape> = Box::new(Score::default());
    LATER.lock().unwrap().push(Box::new(|| 13));
    let later: u64 = LATER.lock().unwrap().iter().map(|it| it()).sum();
    shape.corners() + LISTED[0]() + *MADE + FIXED + of_macro() + later
}

#[invoke]
fn outside() -> u64 {
    14
}

#[invoke]
async fn waits(n: u64) -> u64 {
    std::future::ready(n).await + 15
}
"#;

/// The functions that a patch replaces after `text` was replaced by `by`.
fn patched_functions(running: &Running, text: &str, by: &str) -> Vec<String> {
    running.with(text, by).unwrap_or_else(|why| panic!("{text}: {why}")).header.changed
}

#[test]
fn bodies_of_many_kinds_are_patched() {
    let running = Running::of("kinds", KINDS, BuildOptions::default(), |_| ());
    let patched = |text, by| patched_functions(&running, text, by);
    // Functions that call themselves, that are inlined, and that drop a value of a call.
    assert_eq!(patched("deep(n - 1) + 11", "deep(n - 1) + 21"), ["deep"]);
    assert_eq!(patched("n + 12", "n + 22"), ["quick"]);
    assert_eq!(patched("fetch_add(*self.0", "fetch_add(*self.0 + 1"), ["<Drop for Counted>::drop"]);
    // A generic function, and new uses of it with other types of the plugin or of another crate.
    assert_eq!(patched("{value:?}", "{value:#?}"), ["pick"]);
    assert_eq!(patched("pick(n) +", "pick(NonZero::new(n)) + pick((n, \"text\")) +"), ["picked"]);
    let value = "pick(hotswap_plugin::Value::from(n)) +";
    assert_eq!(patched("pick(n) +", value), ["picked"]);
    // A constant with the size of another one, the function's name.
    assert_eq!(patched("four", "five"), ["word"]);
    // A constant that looks like a source location, in a function that has no code of its own. Another function of
    // the same name has.
    let patch = running.with("19, 20", "29, 20").unwrap();
    assert_eq!((&*patch.header.changed, patch.header.functions.len()), (&["place".into()][..], 1));
    // The patch has symbol names for backtraces.
    let patch = running.with("deep(n - 1) + 11", "deep(n - 1) + 31").unwrap();
    let names = String::from_utf8_lossy(&patch.symbols);
    assert!(names.contains("4deep") && names.contains("3sum") && !names.contains("6picked"));
    assert!(!names.contains(".debug_"), "there is no debug information");
}

#[test]
fn edits_that_hold_an_address_or_define_an_item_are_loaded_as_a_whole() {
    let running = Running::of("refused", KINDS, BuildOptions::default(), |_| ());
    let stored = |text, by, name: &str| match running.with(text, by) {
        Err(NotPatched::Objects(Unpatchable::AddressStored { function })) => {
            assert!(function.contains(name), "{text}: {function}");
        }
        other => panic!("{text}: {other:?}"),
    };
    stored("        5\n", "        6\n", "corners");
    stored("    8\n", "    18\n", "listed");
    stored("    9\n", "    19\n", "made");
    stored("|| 13", "|| 23", "by_tables");

    // The running version may have stored an address that the new build does not store.
    for (store, body, new_body, name) in [
        ("push(pointed)", "    16\n", "    26\n", "pointed"),
        ("push(Box::new(|| in_closure()))", "    17\n", "    27\n", "store_closure::{{closure}}"),
    ] {
        let source = KINDS.replacen(store, "clear()", 1).replacen(body, new_body, 1);
        match running.build(&source).patch.expect("another build") {
            Err(NotPatched::Objects(Unpatchable::AddressKept { function })) => {
                assert!(function.ends_with(name), "{function}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    let item = |text, by: &str, item: &str| match running.with(text, by) {
        Err(NotPatched::Sources(changes)) => {
            let items: Vec<_> = changes.items.iter().filter_map(|it| it.item.as_deref()).collect();
            assert_eq!(items, [item], "{text}");
        }
        other => panic!("{text}: {other:?}"),
    };
    item(
        "Clone, Debug, Default)]\nstruct Score",
        "Clone, Copy, Debug, Default)]\nstruct Score",
        "struct Score",
    );
    item(
        "impl Shape for Score {}",
        "impl Shape for Score { fn corners(&self) -> u64 { 6 } }",
        "impl Shape for Score",
    );
    item("            7\n", "            17\n", "macro item");
    item("local!(Local, 18)", "local!(Local, 28)", "items in fn directly");
    item("    10\n", "    20\n", "fn fixed");
    item("const { 3 }", "const { 4 }", "macro thread_local");
    item("    14\n", "    struct Inner;\n    size_of::<Inner>() as u64\n", "items in fn outside");
    let local = "    thread_local! { static THERE: u64 = 1; }\n    THERE.with(|it| *it)\n";
    item("    14\n", local, "items in fn outside");

    match running.with("+ 15", "+ 25") {
        Err(NotPatched::Sources(changes)) => {
            assert_eq!(changes.functions[0].bound, Some(Bound::Future), "{changes:?}");
        }
        other => panic!("{other:?}"),
    }
    // Symbols that only another library could have, and symbols that no library has.
    for name in ["getppid", "not_there"] {
        match running.with("    14\n", &format!("    {name}() as u64\n")) {
            Err(NotPatched::Objects(Unpatchable::Missing(missing))) => assert_eq!(missing, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn edits_of_other_inputs_are_loaded_as_a_whole() {
    const WITH_C: &str = r#"
        use hotswap_plugin::prelude::*;

        #[derive(Default)]
        struct WithC;

        #[plugin]
        impl Plugin for WithC {}

        unsafe extern "C" {
            safe fn of_c() -> u64;
        }

        #[invoke]
        fn call() -> u64 {
            let text = include_str!("text");
            of_c() + text.len() as u64
        }
    "#;
    const SCRIPT: &str = r#"
        use std::process::Command;

        fn main() {
            println!("cargo::rerun-if-changed=of_c.c");
            let out = std::env::var("OUT_DIR").unwrap();
            let run = |command: &mut Command| assert!(command.status().unwrap().success());
            let object = format!("{out}/of_c.o");
            run(Command::new("cc").args(["-c", "-fPIC", "of_c.c", "-o", &object]));
            run(Command::new("ar").args(["rcs", &format!("{out}/libof_c.a"), &object]));
            println!("cargo::rustc-link-search=native={out}");
            println!("cargo::rustc-link-lib=static=of_c");
        }
    "#;
    let running = Running::of("with_c", WITH_C, BuildOptions::default(), |workspace| {
        workspace.write("with_c/build.rs", SCRIPT);
        workspace.write("with_c/of_c.c", "long of_c(void) { return 1; }\n");
        workspace.write("with_c/src/text", "text");
    });
    // The C code is that of the base.
    running.with("of_c() +", "of_c() + 1 +").expect("a patch");
    // Cargo runs, and makes nothing again but the plugin.
    let manifest = fs::read_to_string(running.workspace.path("with_c/Cargo.toml")).unwrap();
    running.workspace.write("with_c/Cargo.toml", &format!("# The plugin.\n{manifest}"));
    running.with("of_c() +", "of_c() + 4 +").expect("a patch");
    running.workspace.write("with_c/src/text", "another text");
    match running.with("of_c() +", "of_c() + 2 +") {
        Err(NotPatched::Sources(changes)) => {
            assert!(changes.items[0].file.ends_with("src/text"), "{changes:?}");
        }
        other => panic!("{other:?}"),
    }
    running.workspace.write("with_c/src/text", "text");
    running.workspace.write("with_c/of_c.c", "long of_c(void) { return 2; }\n");
    let refused = running.with("of_c() +", "of_c() + 3 +");
    assert_eq!(refused, Err(NotPatched::CompiledOtherwise));
}

/// A running build with this setting of its profile.
fn build_with_profile(name: &str, setting: &str) -> Running {
    build_source_with_profile(name, KINDS, setting)
}

fn build_source_with_profile(name: &str, source: &str, setting: &str) -> Running {
    let cargo_flags = vec!["--config".to_owned(), format!("profile.hotswap.{setting}")];
    Running::of(name, source, BuildOptions { cargo_flags, ..BuildOptions::default() }, |_| ())
}

#[test]
fn a_build_without_objects_is_loaded_as_a_whole() {
    let running =
        build_with_profile("without_objects", "package.without_objects.incremental=false");
    assert_eq!(running.with("n + 12", "n + 22"), Err(NotPatched::NoObjects));
}

/// Functions that the optimiser treats in other ways than the rest.
const OPTIMISED: &str = r#"
use std::cell::Cell;

thread_local! {
    static KEPT: Cell<u64> = const { Cell::new(31) };
    static EACH: [Cell<u64>; 2] = const { [const { Cell::new(37) }; 2] };
}

static PARTS: [AtomicU64; 3] = [const { AtomicU64::new(38) }; 3];

#[invoke]
fn keep(n: u64) -> u64 {
    KEPT.set(KEPT.get() + n);
    KEPT.get() * 33
}

#[invoke]
fn tally(vault: &Vault, n: u64) -> Result<u64> {
    let add = |tally: &mut u64| {
        *tally += n;
        *tally
    };
    vault.data_bag().update("tally", || 0, add)
}

#[invoke]
fn set_each(n: usize) {
    EACH.with(|each| each[n].set(39));
}

#[invoke]
fn each(n: usize) -> u64 {
    EACH.with(|each| each[n].get())
}

#[invoke]
fn first_of_each() -> u64 {
    EACH.with(|each| each[0].get())
}

#[invoke]
fn parts(n: u64) -> u64 {
    let part = &PARTS[1];
    let before = part.load(Ordering::Relaxed);
    part.store(before + n, Ordering::Relaxed);
    before
}

#[invoke]
fn store_short_closure() {
    POINTERS.lock().unwrap().push(|| in_short_closure());
}

fn in_short_closure() -> u64 {
    41
}

#[invoke]
fn one() -> u64 {
    35
}

#[invoke]
fn another() -> u64 {
    36
}
"#;

#[test]
fn optimised_builds_are_patched_unless_the_optimiser_merges_or_removes_something() {
    let source = format!("{KINDS}{OPTIMISED}");
    for (name, setting) in [
        ("a_bit_optimised", "package.a_bit_optimised.opt-level=1"),
        ("optimised", "package.optimised.opt-level=2"),
    ] {
        let running = build_source_with_profile(name, &source, setting);
        for (text, by, changed) in [
            ("deep(n - 1) + 11", "deep(n - 1) + 21", "deep"),
            ("n + 12", "n + 22", "quick"),
            ("four", "number five", "word"),
            ("pick(n) +", "pick((n, \"text\")) +", "picked"),
            ("KEPT.get() * 33", "KEPT.get() * 34", "keep"),
            ("*tally += n;", "*tally += n + 34;", "tally"),
        ] {
            let made = running.with(text, by).unwrap_or_else(|why| panic!("{name}, {text}: {why}"));
            assert_eq!(made.header.changed, [changed]);
        }
        // Nothing writes to a thread-local any more, so its first value is part of the code. The second one remains in
        // the library, for a function that reads it at an index.
        for (text, by, of) in [
            ("KEPT.set(KEPT.get() + n);", "", "KEPT"),
            ("EACH.with(|each| each[n].set(39));", "_ = n;", "EACH"),
        ] {
            let refused = running.with(text, by);
            let is_gone = |why: &Unpatchable| match why {
                Unpatchable::GoneStatic(name) => name.contains(of),
                _ => false,
            };
            assert!(
                matches!(&refused, Err(NotPatched::Objects(why)) if is_gone(why)),
                "{name}: {refused:?}"
            );
        }
        // The running version may have stored a closure in which the edited function is inlined.
        let edited = source.replacen("push(Box::new(|| in_closure()))", "clear()", 1);
        let refused = running.build(&edited.replacen("    17\n", "    27\n", 1)).patch.unwrap();
        assert!(
            matches!(&refused, Err(NotPatched::Objects(Unpatchable::AddressKept { .. }))),
            "{name}: {refused:?}"
        );
        // The same of a closure whose address is a function pointer.
        let edited = source.replacen("push(|| in_short_closure())", "clear()", 1);
        let refused = running.build(&edited.replacen("    41\n", "    51\n", 1)).patch.unwrap();
        assert!(
            matches!(&refused, Err(NotPatched::Objects(Unpatchable::AddressKept { .. }))),
            "{name}: {refused:?}"
        );
        // Only one part of the static is used, and it has the same name in both builds.
        let refused = running.with("let part = &PARTS[1];", "let (part, n) = (&PARTS[2], n + 40);");
        assert!(
            matches!(&refused, Err(NotPatched::Objects(Unpatchable::SplitStatic(_)))),
            "{name}: {refused:?}"
        );
    }
    // With this level, functions with the same code are merged, so a caller of one may call the other.
    let running = build_source_with_profile("merged", &source, "package.merged.opt-level=2");
    let refused = running.with("    36\n", "    35\n");
    assert!(
        matches!(
            refused,
            Err(NotPatched::Objects(Unpatchable::Alias(_) | Unpatchable::ChangedStatic(_)))
        ),
        "{refused:?}"
    );
}

#[test]
fn the_symbols_of_a_patch_have_the_places_of_its_functions() {
    let running = build_with_profile("lines", "package.lines.debug=\"line-tables-only\"");
    let patch = running.with("deep(n - 1) + 11", "deep(n - 1) + 21").expect("a patch");
    let content = String::from_utf8_lossy(&patch.symbols);
    assert!(content.contains("4deep") && content.contains(".debug_line"));
}
