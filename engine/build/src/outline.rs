//! Tells changes of function bodies apart from other changes of a source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use serde::{Deserialize, Serialize};
use syn::visit_mut::{self, VisitMut};
use syn::{Block, ImplItem, Item, ItemImpl, Macro, ReturnType, Signature, Stmt, TraitItem, Type};

use crate::syntax;

/// The differences between the sources of a build and those of the build before.
///
/// White space and comments do not count, but documentation does: it is part of its item. The output of
/// macros is not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceChanges {
    /// The functions whose bodies changed, such as `greet` or `Score::add`.
    pub functions: Vec<ChangedFunction>,
    /// Everything that changed outside the bodies of functions.
    pub items: Vec<ChangedItem>,
}

/// A function whose body changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedFunction {
    /// Its name, with the modules and the type in the file to which it belongs.
    pub name: String,
    /// The file that it is in.
    pub file: PathBuf,
    /// Why the body cannot be exchanged by itself; `None` if the source shows no reason.
    pub bound: Option<Bound>,
}

/// Why something else depends on the body of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// It is `async`, or has an `async` block: the layout of the future follows from the body.
    Future,
    /// It returns `impl Trait`: the type of what it returns follows from the body.
    OpaqueResult,
    /// It belongs to a trait, so it may be called through a table of functions.
    Trait,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Future => "the layout of its future follows from its body",
            Self::OpaqueResult => "the type that it returns follows from its body",
            Self::Trait => "it belongs to a trait, whose objects hold its address",
        })
    }
}

/// Something outside of the bodies of functions that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangedItem {
    /// The item, such as `struct Score` or `fn greet` (for its signature, or its attributes). `None` for the
    /// file as a whole: one that was added or removed, or that is not Rust.
    pub item: Option<String>,
    /// The file that it is in.
    pub file: PathBuf,
    /// How it changed.
    pub change: ItemChange,
}

/// How an item changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It differs.
    Changed,
}

impl ItemChange {
    /// The change as a word, which is also its name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl SourceChanges {
    /// Whether only bodies of functions changed and, as far as the sources show, nothing else depends on
    /// them.
    #[must_use]
    pub fn is_bodies_only(&self) -> bool {
        self.items.is_empty() && self.functions.iter().all(|function| function.bound.is_none())
    }

    /// Adds the changes of other sources.
    pub(crate) fn add(&mut self, other: Self) {
        let functions: BTreeSet<_> = self.functions.drain(..).chain(other.functions).collect();
        let items: BTreeSet<_> = self.items.drain(..).chain(other.items).collect();
        self.functions.extend(functions);
        self.items.extend(items);
    }
}

/// A source in the form of hashes: of the bodies of its functions, and of everything around them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// The bodies, by the name of the function.
    bodies: BTreeMap<String, Body>,
    /// The hashes of the items, by kind and name. Bodies of functions are left out, except those of `const` functions.
    items: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    hash: String,
    bound: Option<Bound>,
}

impl Outline {
    /// Reads a source; `None` if the text is not Rust, or nested too deeply.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let outline = syntax::read(text, |file| {
            let macros = Macros::of(file.to_token_stream());
            let mut reader = Reader { outline: Self::default(), text: text_hash(text), macros };
            for attribute in &file.attrs {
                reader.add_item("attributes of the file".to_owned(), attribute);
            }
            reader.add_items("", file.items);
            reader.outline
        });
        outline.ok()
    }

    /// The changes from this source to `newer`, the outline of the same file.
    pub(crate) fn changes_to(&self, newer: &Self, file: &Path) -> SourceChanges {
        let mut changes = SourceChanges::default();
        for (name, body) in &newer.bodies {
            if self.bodies.get(name).is_some_and(|before| before.hash != body.hash) {
                let (name, file) = (name.clone(), file.to_owned());
                changes.functions.push(ChangedFunction { name, file, bound: body.bound });
            }
        }
        let mut add = |item: &str, change| {
            changes.items.push(ChangedItem {
                item: Some(item.to_owned()),
                file: file.to_owned(),
                change,
            });
        };
        for (item, hash) in &self.items {
            match newer.items.get(item) {
                None => add(item, ItemChange::Removed),
                Some(now) if now != hash => add(item, ItemChange::Changed),
                Some(_) => {}
            }
        }
        for item in newer.items.keys().filter(|item| !self.items.contains_key(*item)) {
            add(item, ItemChange::Added);
        }
        changes
    }
}

/// Reads a source.
struct Reader {
    outline: Outline,
    /// The hash of the whole text.
    text: String,
    macros: Macros,
}

impl Reader {
    /// Adds an item. Items of the same name, such as several `impl` blocks, count as one.
    fn add_item(&mut self, name: String, item: &impl ToTokens) {
        let mut hash = hash_of(item);
        if self.macros.depends_on_its_place(item.to_token_stream()) {
            hash.push_str(&self.text);
        }
        let items = &mut self.outline.items;
        items.entry(name).and_modify(|all| all.push_str(&hash)).or_insert(hash);
    }

    fn add_items(&mut self, path: &str, items: Vec<Item>) {
        items.into_iter().for_each(|item| self.add(path, item));
    }

    fn add(&mut self, path: &str, mut item: Item) {
        let name = |kind: &str, ident: &dyn fmt::Display| format!("{kind} {path}{ident}");
        match &mut item {
            Item::Fn(function) => {
                let of = format!("{path}{}", function.sig.ident);
                self.add_function(&of, &function.sig, &mut function.block, false);
                let kind = format!("fn {of}");
                self.add_item(kind, &item);
            }
            Item::Mod(module) => {
                let inner = module.content.as_mut().map(|(_, items)| std::mem::take(items));
                let (kind, path) =
                    (name("mod", &module.ident), format!("{path}{}::", module.ident));
                self.add_item(kind, &item);
                self.add_items(&path, inner.unwrap_or_default());
            }
            Item::Impl(block) => {
                let kind = format!("impl {path}{}", impl_of(block));
                self.add_methods(path, block);
                self.add_item(kind, &item);
            }
            Item::Trait(it) => {
                let kind = name("trait", &it.ident);
                for method in &mut it.items {
                    if let TraitItem::Fn(method) = method
                        && let Some(block) = &mut method.default
                    {
                        let of = format!("{path}{}::{}", it.ident, method.sig.ident);
                        self.add_function(&of, &method.sig, block, true);
                    }
                }
                self.add_item(kind, &item);
            }
            Item::Struct(it) => self.add_item(name("struct", &it.ident), &item),
            Item::Enum(it) => self.add_item(name("enum", &it.ident), &item),
            Item::Union(it) => self.add_item(name("union", &it.ident), &item),
            Item::Const(it) => self.add_item(name("const", &it.ident), &item),
            Item::Static(it) => self.add_item(name("static", &it.ident), &item),
            Item::Type(it) => self.add_item(name("type", &it.ident), &item),
            Item::Use(_) => self.add_item(format!("use in {}", module_of(path)), &item),
            Item::Macro(it) => {
                let called = it.mac.path.to_token_stream().to_string();
                let of = it.ident.as_ref().map_or(called, ToString::to_string);
                self.add_item(format!("macro {path}{of}"), &item);
            }
            _ => self.add_item(format!("item in {}", module_of(path)), &item),
        }
    }

    fn add_methods(&mut self, path: &str, block: &mut ItemImpl) {
        let of = impl_of(block);
        let is_trait = block.trait_.is_some();
        for method in &mut block.items {
            if let ImplItem::Fn(method) = method {
                let name = match is_trait {
                    true => format!("<{path}{of}>::{}", method.sig.ident),
                    false => format!("{path}{of}::{}", method.sig.ident),
                };
                self.add_function(&name, &method.sig, &mut method.block, is_trait);
            }
        }
    }

    /// Takes the body out of a function, unless the function is `const`, since types may depend on that body.
    /// Items inside the body count as items.
    fn add_function(&mut self, name: &str, sig: &Signature, block: &mut Block, of_trait: bool) {
        if sig.constness.is_some() {
            return;
        }
        let mut nested = Nested { macros: &self.macros, items: Vec::new() };
        nested.visit_block_mut(block);
        for item in nested.items {
            self.add_item(format!("items in fn {name}"), &item);
        }
        let bound = match () {
            () if sig.asyncness.is_some() => Some(Bound::Future),
            () if self.macros.have_async(block.to_token_stream()) => Some(Bound::Future),
            () if returns_opaque(sig) => Some(Bound::OpaqueResult),
            () if of_trait => Some(Bound::Trait),
            () => None,
        };
        let hash = hash_of(&*block);
        block.stmts.clear();
        // Two functions of one name, such as methods for two instances of a generic type, count as one.
        let body = self
            .outline
            .bodies
            .entry(name.to_owned())
            .or_insert(Body { hash: String::new(), bound });
        body.hash.push_str(&hash);
        body.bound = body.bound.or(bound);
    }
}

/// Finds the items inside of a body.
struct Nested<'m> {
    macros: &'m Macros,
    items: Vec<TokenStream>,
}

impl VisitMut for Nested<'_> {
    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        match stmt {
            Stmt::Item(item) => self.items.push(item.to_token_stream()),
            _ => visit_mut::visit_stmt_mut(self, stmt),
        }
    }

    fn visit_macro_mut(&mut self, it: &mut Macro) {
        if self.macros.have_item(it.to_token_stream()) {
            self.items.push(it.to_token_stream());
        }
    }
}

/// The words with which items begin.
const BEGIN_ITEMS: [&str; 10] =
    ["const", "enum", "fn", "impl", "mod", "static", "struct", "trait", "type", "union"];

/// The macros that hide something from which the layout of a type can follow.
struct Macros {
    /// Those of the file whose definitions have an `async` block.
    futures: BTreeSet<String>,
    /// Those that define items, such as a type or a static.
    items: BTreeSet<String>,
    /// Those whose results depend on the place of the call.
    places: BTreeSet<String>,
}

impl Macros {
    /// The macros of a file, and those of the language.
    fn of(file: TokenStream) -> Self {
        let mut defined = Vec::new();
        add_definitions(file, &mut defined);
        let places = ["line", "column"].map(str::to_owned).into();
        let items = ["thread_local".to_owned()].into();
        let mut all = Self { futures: BTreeSet::new(), items, places };
        // A macro may use another one.
        loop {
            let mut has_more = false;
            for (name, definition) in &defined {
                if all.have_async(definition.clone()) {
                    has_more |= all.futures.insert(name.clone());
                }
                if all.have_item(definition.clone()) {
                    has_more |= all.items.insert(name.clone());
                }
                if all.depends_on_its_place(definition.clone()) {
                    has_more |= all.places.insert(name.clone());
                }
            }
            if !has_more {
                return all;
            }
        }
    }

    /// Whether a body has an `async` block or an `async` closure, also in the arguments of a macro.
    ///
    /// The type of its future stays the same for the compiler, with another layout. So a future that was made by the
    /// old code, and is kept in an `Any`, would be taken for one of the new code.
    fn have_async(&self, body: TokenStream) -> bool {
        body.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => {
                ident == "async" || self.futures.contains(&ident.to_string())
            }
            TokenTree::Group(group) => self.have_async(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }

    /// Whether a macro, from its name and its arguments or from its definition, may define an item.
    fn have_item(&self, tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => {
                BEGIN_ITEMS.iter().any(|keyword| ident == keyword)
                    || self.items.contains(&ident.to_string())
            }
            TokenTree::Group(group) => self.have_item(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }

    /// Whether an item means something else after it was moved: it contains its own line or column, from which the
    /// length of an array can follow. The definition of a macro has no place of its own.
    fn depends_on_its_place(&self, item: TokenStream) -> bool {
        let tokens: Vec<_> = item.into_iter().collect();
        if is_ident(tokens.first(), "macro_rules") {
            return false;
        }
        tokens.iter().enumerate().any(|(at, token)| match token {
            TokenTree::Ident(ident) if ident == "Location" => {
                is_punct(tokens.get(at + 1), ':') && is_ident(tokens.get(at + 3), "caller")
            }
            TokenTree::Ident(ident) => {
                is_punct(tokens.get(at + 1), '!') && self.places.contains(&ident.to_string())
            }
            TokenTree::Group(group) => self.depends_on_its_place(group.stream()),
            _ => false,
        })
    }
}

/// Adds the names and definitions of all macros that are defined by `macro_rules`.
fn add_definitions(tokens: TokenStream, defined: &mut Vec<(String, TokenStream)>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for row in tokens.windows(4) {
        if let [keyword, mark, TokenTree::Ident(name), TokenTree::Group(rules)] = row
            && is_ident(Some(keyword), "macro_rules")
            && is_punct(Some(mark), '!')
        {
            defined.push((name.to_string(), rules.stream()));
        }
    }
    for token in tokens {
        if let TokenTree::Group(group) = token {
            add_definitions(group.stream(), defined);
        }
    }
}

fn is_ident(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == name)
}

fn is_punct(token: Option<&TokenTree>, punct: char) -> bool {
    matches!(token, Some(TokenTree::Punct(it)) if it.as_char() == punct)
}

/// Whether the type that a function returns follows from its body.
fn returns_opaque(sig: &Signature) -> bool {
    #[derive(Default)]
    struct Opaque(bool);
    impl VisitMut for Opaque {
        fn visit_type_mut(&mut self, it: &mut Type) {
            self.0 |= matches!(it, Type::ImplTrait(_));
            visit_mut::visit_type_mut(self, it);
        }
    }
    let mut opaque = Opaque::default();
    if let ReturnType::Type(_, mut result) = sig.output.clone() {
        opaque.visit_type_mut(&mut result);
    }
    opaque.0
}

/// The trait that a block implements, and the type: `Score`, or `Display for Score`.
fn impl_of(block: &ItemImpl) -> String {
    let of = shown(&block.self_ty);
    match &block.trait_ {
        Some((path, _)) => format!("{} for {of}", shown(path)),
        None => of,
    }
}

fn module_of(path: &str) -> &str {
    match path.strip_suffix("::") {
        Some(path) => path,
        None => "the file",
    }
}

/// Tokens in the form in which people write them.
fn shown(tokens: &impl ToTokens) -> String {
    tokens
        .to_token_stream()
        .to_string()
        .replace(" :: ", "::")
        .replace(" < ", "<")
        .replace(" >", ">")
}

fn hash_of(tokens: &impl ToTokens) -> String {
    text_hash(&tokens.to_token_stream().to_string())
}

fn text_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
        struct Score { points: u64 }
        const LIMIT: u64 = limit();
        const fn limit() -> u64 { 3 }
        static SEEN: AtomicU64 = AtomicU64::new(0);
        #[invoke]
        fn greet(name: &str) -> String { format!("Hello, {name}") }
        async fn nap() { wait(1).await }
        fn all() -> impl Iterator<Item = u64> { 0..3 }
        impl Score { fn add(&mut self) { self.points += 1 } }
        impl Display for Score { fn fmt(&self) { write(1) } }
        mod deep { fn inner() { one() } }
        fn counted() { static COUNT: AtomicU64 = AtomicU64::new(0); COUNT.add(1); }
    "#;

    /// The changes from `from` to `to`, in one line.
    fn change(from: &str, to: &str) -> String {
        assert!(BEFORE.contains(from), "{from}");
        let outline = |text: &str| Outline::of(text).unwrap();
        let after = BEFORE.replace(from, to);
        let changes = outline(BEFORE).changes_to(&outline(&after), Path::new("lib.rs"));
        let functions = changes.functions.iter().map(|it| match it.bound {
            Some(bound) => format!("{} ({bound:?})", it.name),
            None => it.name.clone(),
        });
        let items = changes
            .items
            .iter()
            .map(|it| format!("{} {:?}", it.item.as_deref().unwrap_or("file"), it.change));
        let text: Vec<_> = functions.chain(items).collect();
        format!("{}: {}", changes.is_bodies_only(), text.join(", "))
    }

    #[test]
    fn changes_of_bodies_are_distinguished_from_all_others() {
        for (from, to, expected) in [
            ("Hello", "Bye", "true: greet"),
            ("points += 1", "points += 2", "true: Score::add"),
            ("one()", "two()", "true: deep::inner"),
            ("COUNT.add(1)", "COUNT.add(2)", "true: counted"),
            ("wait(1)", "wait(2)", "false: nap (Future)"),
            ("0..3", "0..4", "false: all (OpaqueResult)"),
            ("write(1)", "write(2)", "false: <Display for Score>::fmt (Trait)"),
            ("points: u64", "points: u32", "false: struct Score Changed"),
            ("{ 3 }", "{ 4 }", "false: fn limit Changed"),
            ("= limit()", "= 1 + limit()", "false: const LIMIT Changed"),
            (
                "AtomicU64::new(0);\n        #",
                "AtomicU64::new(1);\n        #",
                "false: static SEEN Changed",
            ),
            (
                "COUNT: AtomicU64 = AtomicU64::new(0)",
                "COUNT: AtomicU64 = AtomicU64::new(1)",
                "false: counted, items in fn counted Changed",
            ),
            ("#[invoke]", "#[invoke]\n/// Greets.", "false: fn greet Changed"),
            ("name: &str", "name: String", "false: fn greet Changed"),
            (
                "fn inner() { one() }",
                "fn inner() { one() } fn more() {}",
                "false: fn deep::more Added",
            ),
            ("struct Score { points: u64 }", "", "false: struct Score Removed"),
        ] {
            assert_eq!(change(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn a_type_that_follows_from_a_body_or_from_a_place_is_bound_to_it() {
        let changes = |before: &str, after: &str| {
            let outline = |text: &str| Outline::of(text).unwrap();
            let changes = outline(before).changes_to(&outline(after), Path::new("lib.rs"));
            let bounds = changes.functions.into_iter().filter_map(|it| it.bound);
            (changes.items.len(), bounds.collect::<Vec<_>>())
        };
        for body in ["run(async { 1 })", "run(async || 1)", "select!(async move { 1 })"] {
            let before = format!("fn f() {{ {body} }}");
            assert_eq!(changes(&before, &before.replace('1', "2")), (0, vec![Bound::Future]));
        }
        for item in [
            "struct A([u8; line!() as usize]);",
            "const A: usize = f(column!());",
            "type A = [u8; Location::caller().line() as usize];",
            "impl A { const B: u32 = std::line!(); }",
            "fn f() { struct B([u8; line!() as usize]); }",
        ] {
            assert_eq!(changes(item, &format!("// more\n{item}")), (1, vec![]), "{item}");
        }
        for item in [
            "struct A { line: u32, caller: Location }",
            "fn f() { log(line!()) }",
            "macro_rules! log { () => { line!() } }",
        ] {
            assert_eq!(changes(item, &format!("// more\n{item}")), (0, vec![]), "{item}");
        }
        // Macros of the file that hide such a thing, also behind another macro.
        let outer = "macro_rules! outer { ($($it:tt)*) => { inner!($($it)*) } }";
        let inner = "macro_rules! inner { ($it:expr) => { async move { $it } } }";
        let before = format!("mod of {{ {outer} }} {inner} fn f() {{ run(outer!(1)) }}");
        assert_eq!(changes(&before, &before.replace('1', "2")), (0, vec![Bound::Future]));
        let inner = "macro_rules! inner { ($len:expr) => { struct A([u8; $len]); } }";
        let before = format!("{outer} {inner} fn f() {{ outer!(1); size_of::<A>() }}");
        assert_eq!(changes(&before, &before.replace("(1)", "(2)")), (1, vec![]));
        let inner = "macro_rules! inner { () => { line!() as usize } }";
        let before = format!("{outer} {inner} struct A([u8; outer!()]);");
        assert_eq!(changes(&before, &format!("// more\n{before}")), (1, vec![]));
    }

    #[test]
    fn space_and_comments_change_nothing() {
        assert_eq!(change("fn greet", "// more\n\n   fn   greet"), "true: ");
    }

    #[test]
    fn a_text_that_is_no_rust_has_no_outline() {
        assert_eq!(Outline::of("fn greet("), None);
    }
}
