//! Which changes can be loaded as a patch into the running version, and why others cannot.

use std::sync::Arc;

use hotswap_build::{
    BuildId, BuildMessage, BuildOptions, Built, Cancel, EarlyPatch, NotPatched, OnPatch, Patch,
    PluginPackage, Unpatchable, build_plugin,
};

use crate::replay::Fixture;
use crate::support::Workspace;

const SOURCE: &str = r#"
use std::cell::RefCell;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hotswap_plugin::prelude::*;

static CALLS: AtomicU64 = AtomicU64::new(0);
const WIDTH: usize = 4;

thread_local! {
    static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Patched {
    row: [u8; WIDTH],
}

#[plugin]
impl Plugin for Patched {
    fn on_init(&self, _vault: &Vault) -> Result<()> {
        CALLS.fetch_add(begin(), Ordering::Relaxed);
        Ok(())
    }
}

fn begin() -> u64 {
    u64::from(u8::MIN)
}

struct Name(String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

enum Mood {
    Calm,
}

fn decorate(name: &str) -> String {
    let mood = match Mood::Calm {
        Mood::Calm => "calm",
        #[allow(unreachable_patterns)]
        _ => "wild",
    };
    format!("Hello, {} ({mood})!", Name(name.to_owned()))
}

macro_rules! numbers {
    () => {
        fn number() -> u64 {
            7
        }
    };
}
numbers!();

async fn later() -> u64 {
    number()
}

fn each<T: Into<u64>>(value: T) -> u64 {
    value.into() + 1
}

/// Greets.
#[invoke]
fn greet(plugin: &Patched, name: String) -> String {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let heard = NAMES.with(|names| {
        names.borrow_mut().push(name.clone());
        names.borrow().len()
    });
    format!("{} {calls} {heard} {}", decorate(&name), plugin.row.len())
}

#[invoke]
fn add(a: u32, b: u32) -> u64 {
    each(a) + each(b)
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not this one")
    }
}

impl std::error::Error for Refused {}

fn checked(number: u64) -> std::result::Result<u64, Refused> {
    if number == 13 { Err(Refused) } else { Ok(number) }
}

/// Takes all numbers but one.
#[invoke]
fn check(number: u64) -> Result<u64> {
    Ok(checked(number)?)
}

/// Counts in the DataBag.
#[invoke]
fn count(vault: &Vault) -> Result<u64> {
    vault.data_bag().update("count", || 0, |count| {
        *count += 10;
        *count
    })
}

#[invoke]
fn in_words(number: u8) -> String {
    let word = match number {
        0 => "none".to_owned(),
        1 => "one".to_owned(),
        2 => format!("two of {WIDTH}"),
        3 => "three".repeat(2),
        4 => number.to_string(),
        5 => "five".to_uppercase(),
        6 => format!("six {}", begin()),
        _ => String::new(),
    };
    format!("{word}!")
}

static QUEUE: Mutex<Vec<fn() -> u64>> = Mutex::new(Vec::new());

/// Queues itself.
#[invoke]
fn tick() -> u64 {
    QUEUE.lock().unwrap().push(again);
    again() + 1
}

#[inline(never)]
fn again() -> u64 {
    QUEUE.lock().unwrap().push(again);
    3
}

macro_rules! as_it_is {
    ($($all:tt)*) => { $($all)* };
}

#[invoke]
fn kept(number: u64) -> u64 {
    as_it_is! {
        struct Entry { number: u64 }
        const FIRST: u64 = 1;
        static LAST: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
    }
    let mut last = LAST.lock().unwrap();
    last.push(Entry { number });
    last.iter().map(|entry| entry.number).sum::<u64>() + FIRST
}

/// A constant that looks like a source location.
#[invoke]
fn rule() -> u64 {
    let rule: &'static (&str, u64) = &("src/lib.rs", 5);
    rule.1
}

#[unsafe(no_mangle)]
pub extern "C" fn called_by_name() -> u64 {
    8
}

#[invoke]
async fn wait() -> u64 {
    later().await
}

#[invoke]
fn sorted(texts: Vec<String>) -> Vec<String> {
    let mut texts = texts;
    texts.sort_by_key(|text| text.len());
    if texts.len() > 1_000 {
        panic!("{} texts are too many", texts.len());
    }
    texts
}
"#;

fn build(plugin: &PluginPackage, base: Option<BuildId>) -> Built {
    build_with(plugin, &BuildOptions { patch_base: base, ..BuildOptions::default() })
}

fn build_with(plugin: &PluginPackage, options: &BuildOptions) -> Built {
    let mut show = |message| {
        if let BuildMessage::Diagnostic(diagnostic) = message {
            println!("{diagnostic:?}");
        }
    };
    build_plugin(plugin, options, &Cancel::default(), &mut show).expect("a build")
}

/// A plugin whose first build is running.
pub struct Running {
    pub workspace: Workspace,
    plugin: PluginPackage,
    base: BuildId,
    source: String,
    options: BuildOptions,
}

impl Running {
    fn new(name: &str) -> Self {
        Self::of(name, SOURCE, BuildOptions::default(), |_| ())
    }

    /// A plugin with this source, built with these options, after `prepare` has changed its workspace.
    pub fn of(
        name: &str,
        source: &str,
        options: BuildOptions,
        prepare: impl FnOnce(&Workspace),
    ) -> Self {
        let workspace = Workspace::new();
        workspace.real_plugin(name);
        workspace.write(&format!("{name}/src/lib.rs"), source);
        prepare(&workspace);
        let plugin = workspace.reopen(name);
        workspace.wait_until_files_are_old();
        let base = build_with(&plugin, &options).build_id;
        let options = BuildOptions { patch_base: Some(base), ..options };
        Self { workspace, plugin, base, source: source.to_owned(), options }
    }

    /// Builds the source again after `text` was replaced by `by`.
    pub fn with(&self, text: &str, by: &str) -> Result<Patch, NotPatched> {
        let source = self.source.replacen(text, by, 1);
        assert_ne!(source, self.source, "{text}");
        self.build(&source).patch.expect("another build")
    }

    pub fn build(&self, source: &str) -> Built {
        self.workspace.write(&format!("{}/src/lib.rs", self.plugin.name), source);
        self.workspace.wait_until_files_are_old();
        build_with(&self.plugin, &self.options)
    }
}

#[test]
fn a_change_of_bodies_makes_a_patch_of_the_changed_functions_and_their_callers() {
    let running = Running::new("patched");
    let patch = running.with("Hello", "Good evening").expect("a patch");
    assert_eq!(patch.header.base, running.base);
    assert_eq!(patch.header.changed, ["decorate"]);
    assert_eq!(patch.header.functions.len(), 1, "only `greet` calls the changed function");
    assert_eq!(Patch::read(&patch.to_bytes().unwrap()).as_ref(), Ok(&patch));

    // A function that uses a jump table.
    let patch = running.with("\"{word}!\"", "\"{word}?\"").expect("a patch");
    assert_eq!(patch.header.changed, ["in_words"]);

    // A constant that looks like a source location is not treated as one.
    let patch = running.with("(\"src/lib.rs\", 5)", "(\"src/lib.rs\", 6)").expect("a patch");
    assert_eq!((patch.header.changed, patch.header.functions.len()), (vec!["rule".to_owned()], 1));

    // The text of an error is made where the error is converted to the engine's type.
    let patch = running.with("not this one", "any but this").expect("a patch");
    assert_eq!(patch.header.changed, ["<fmt::Display for Refused>::fmt"]);

    // The engine calls a closure on a value before it returns, and does not keep the closure's address.
    let patch = running.with("*count += 10", "*count += 20").expect("a patch");
    assert_eq!(patch.header.changed, ["count"]);

    // A patch is always made for the running version, and not for the previous build.
    let patch = running.with("value.into() + 1", "value.into() + 2").expect("a patch");
    assert_eq!(patch.header.changed, ["each"]);
    let patch = running.with("text.len());", "text.to_uppercase());").expect("a patch");
    assert_eq!(patch.header.changed, ["sorted"]);
    // The patch includes functions that are new to the plugin, also from the standard library.
    let map =
        "let map: std::collections::BTreeMap<usize, char> = name.chars().enumerate().collect();";
    let body = format!("{map}\n    format!(\"{{map:?}} Hello");
    let patch = running.with("format!(\"Hello", &body).expect("a patch");
    assert_eq!(patch.header.changed, ["decorate"]);
    assert_eq!(patch.header.functions.len(), 1, "functions that the edit moved stay as they are");

    // Code whose lines only moved is not changed.
    let patch = running.with("fn decorate", "\n\n\nfn decorate").expect("a patch");
    assert_eq!((patch.header.functions.len(), patch.content.len()), (0, 0));
    // The running build needs no patch. Another manifest with the same code is also the running build.
    assert_eq!(running.build(SOURCE).patch, None);
    let manifest = running.workspace.path("patched/Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    running.workspace.write("patched/Cargo.toml", &format!("{text}\n# A remark.\n"));
    assert_eq!(running.build(SOURCE).build_id, running.base);
    running.with("Hello", "Good night").expect("a patch");
}

#[test]
fn a_change_of_more_than_bodies_makes_no_patch_and_says_why() {
    let running = Running::new("unpatched");
    let source = |text, by: &str, item: &str| match running.with(text, by) {
        Err(NotPatched::Sources(changes)) => {
            assert_eq!(changes.items[0].item.as_deref(), Some(item), "{changes:?}");
        }
        other => panic!("{item}: {other:?}"),
    };
    source("row: [u8; WIDTH],", "row: [u8; WIDTH],\n    more: u64,", "struct Patched");
    source(
        "enum Mood {\n    Calm,",
        "enum Mood {\n    Calm,\n    #[allow(dead_code)] Wild,",
        "enum Mood",
    );
    source("AtomicU64::new(0)", "AtomicU64::new(1)", "static CALLS");
    source("WIDTH: usize = 4", "WIDTH: usize = 5", "const WIDTH");
    source("fn begin() -> u64", "#[inline(never)]\nfn begin() -> u64", "fn begin");

    let more =
        "static MORE: AtomicU64 = AtomicU64::new(0);\n    MORE.fetch_add(1, Ordering::Relaxed);";
    source("let calls = CALLS", &format!("{more}\n    let calls = CALLS"), "items in fn greet");

    let object = |text, by| match running.with(text, by) {
        Err(NotPatched::Objects(reason)) => reason,
        other => panic!("{text}: {other:?}"),
    };
    // Lifecycle functions and their callees are called through the plugin's table.
    let reason = object("fetch_add(begin(), ", "fetch_add(begin() + 0, ");
    assert!(matches!(reason, Unpatchable::AddressStored { .. }), "{reason}");
    let reason = object("u64::from(u8::MIN)", "u64::from(u8::MAX)");
    assert!(matches!(reason, Unpatchable::AddressStored { .. }), "{reason}");
    // A formatter gets the address of a function that formats a value.
    let reason = object("f.write_str(&self.0)", "f.write_str(&self.0.to_uppercase())");
    assert!(
        matches!(&reason, Unpatchable::AddressTaken { .. } | Unpatchable::AddressStored { .. }),
        "{reason}"
    );
    // A function that keeps its own address would call its old code.
    let reason = object("push(again);\n    3", "push(again);\n    4");
    assert!(matches!(&reason, Unpatchable::AddressTaken { .. }), "{reason}");
    // Callers by name use its address.
    let reason = object("    8\n", "    9\n");
    assert!(matches!(&reason, Unpatchable::CalledFromOutside { .. }), "{reason}");
    // A macro may make items from its arguments.
    source("FIRST: u64 = 1", "FIRST: u64 = 2", "items in fn kept");
    // The body of a future.
    match running.with("    number()\n", "    number() + 1\n") {
        Err(NotPatched::Sources(changes)) => assert!(changes.items.is_empty(), "{changes:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_of_a_body_in_a_dependency_makes_a_patch_too() {
    let fixture = Fixture::new("patches_leaf");
    fixture.workspace.wait_until_files_are_old();
    let plugin = fixture.plugin.clone();
    let base = build(&plugin, None).build_id;
    fixture.write_leaf("leaf-2");
    fixture.workspace.wait_until_files_are_old();
    let patch = build(&plugin, Some(base)).patch.expect("another build").expect("a patch");
    assert_eq!(patch.header.changed, ["text"]);
    assert_eq!(patch.header.functions.len(), 1);
}

#[test]
fn an_unknown_base_build_gets_no_patch() {
    let running = Running::new("patches_nothing");
    running.workspace.write("patches_nothing/src/lib.rs", &SOURCE.replace("Hello", "Bye"));
    running.workspace.wait_until_files_are_old();
    let patch = build(&running.plugin, Some(BuildId::from_bytes([7; 16]))).patch;
    assert_eq!(patch, Some(Err(NotPatched::NothingKept)));
}

#[test]
fn the_patch_is_there_before_the_library() {
    let running = Running::new("early");
    let (send, early) = std::sync::mpsc::channel();
    let on_early_patch = OnPatch(Arc::new(move |early: EarlyPatch| send.send(early).unwrap()));
    let options = BuildOptions {
        patch_base: Some(running.base),
        on_early_patch: Some(on_early_patch),
        ..BuildOptions::default()
    };
    let build = |source: &str| {
        running.workspace.write("early/src/lib.rs", source);
        running.workspace.wait_until_files_are_old();
        build_with(&running.plugin, &options)
    };
    let built = build(&SOURCE.replacen("Hello", "Good evening", 1));
    let EarlyPatch { patch, phases } = early.try_recv().expect("an early patch");
    assert!(patch.is_early());
    let late = built.patch.expect("another build").expect("a patch");
    assert!(!late.is_early());
    assert_eq!((patch.code_id(), late.header.build), (late.code_id(), built.build_id));
    let phases: Vec<_> = phases.iter().map(|phase| phase.phase.as_str().to_owned()).collect();
    assert_eq!(phases, ["check", "compile", "patch"]);

    // An undone edit is the running build. A build that is no patch in the end gets no early patch.
    build(SOURCE);
    let built = build(&SOURCE.replacen("row: [u8; WIDTH],", "row: [u8; WIDTH],\n    more: u8,", 1));
    assert!(built.patch.expect("another build").is_err());
    assert!(early.try_recv().is_err());
}
