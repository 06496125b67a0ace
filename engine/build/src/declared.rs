//! What a plugin's sources declare, read without compiling them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use hotswap_protocol::env::LIVE_PREFIX;
use serde::Serialize;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Ident, Item, ItemImpl, ItemMod, Lit, LitStr, Meta, Token};

use crate::workspace::Workspace;
use crate::{BuildError, PluginPackage, syntax};

/// The default prefix of live names, as in `#[live]`.
pub(crate) const DEFAULT_LIVE_PREFIX: &str = "live_";

/// The items that the sources of a plugin declare with `#[plugin]`, `#[invoke]` and `#[live]`, and items with
/// live names that are not live.
///
/// Only the text of the sources is read: the output of macros and the content of `include!` are not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Declarations {
    /// The declarations, module by module.
    pub items: Vec<Declaration>,
    /// The files that could not be read.
    pub unread: Vec<UnreadFile>,
}

/// An item of a plugin's sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Declaration {
    /// The kind of the item.
    pub kind: DeclarationKind,
    /// Its name.
    pub name: String,
    /// The file that contains it.
    pub file: PathBuf,
    /// Its line in that file, counted from 1.
    pub line: usize,
}

/// The kind of a [`Declaration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclarationKind {
    /// The plugin's type.
    Plugin,
    /// A function with `#[invoke]`.
    Function,
    /// A live function.
    LiveFunction,
    /// A live type.
    LiveType,
    /// A function or a serialisable type whose name begins with the live prefix although it is not live.
    NotLive,
}

/// A source file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadFile {
    /// Its path.
    pub file: PathBuf,
    /// Why it could not be read.
    pub reason: String,
}

impl PluginPackage {
    /// Reads the declarations in the sources of the library. `live_prefix` is as in
    /// [`BuildOptions`](crate::BuildOptions::live_prefix).
    ///
    /// # Errors
    /// [`Setup`](crate::BuildErrorKind::Setup) if cargo does not say where the library's sources are.
    pub fn declarations(&self, live_prefix: Option<&str>) -> Result<Declarations, BuildError> {
        let workspace = Workspace::load(&self.manifest_path, &[])?;
        let targets =
            workspace.member_at(&self.manifest_path).into_iter().flat_map(|it| &it.targets);
        let is_library = |target: &&cargo_metadata::Target| {
            target.is_lib() || target.is_rlib() || target.is_cdylib() || target.is_dylib()
        };
        let library = targets.into_iter().find(is_library).ok_or_else(|| {
            BuildError::setup(format!("{} has no library", self.manifest_path.display()))
        })?;
        let prefix = live_prefix.map(str::to_owned).or_else(|| env::var(LIVE_PREFIX).ok());
        let prefix = prefix.unwrap_or_else(|| DEFAULT_LIVE_PREFIX.to_owned());
        let mut reader = Reader { prefix, found: Declarations::default() };
        reader.read_root(library.src_path.as_std_path());
        Ok(reader.found)
    }
}

/// Collects the declarations of files.
struct Reader {
    prefix: String,
    found: Declarations,
}

/// The module whose items are read.
struct Module<'a> {
    file: &'a Path,
    /// The directory of the files of its modules.
    dir: PathBuf,
    /// The prefix of live names in it; `None` if it is not marked.
    live: Option<String>,
}

impl Reader {
    fn read_root(&mut self, file: &Path) {
        let dir = file.parent().unwrap_or(file).to_owned();
        self.read_file(file, dir);
    }

    fn read_file(&mut self, file: &Path, dir: PathBuf) {
        let read = fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| {
            let module = Module { file, dir, live: None };
            syntax::read(&text, |parsed| self.read_items(&parsed.items, &module))
        });
        if let Err(reason) = read {
            self.found.unread.push(UnreadFile { file: file.to_owned(), reason });
        }
    }

    fn read_items(&mut self, items: &[Item], module: &Module<'_>) {
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            match item {
                Item::Mod(inner) => self.read_module(inner, module),
                Item::Impl(item) => self.read_impl(item, module),
                Item::Fn(item) => {
                    let kind = kind_of_function(&item.sig.ident, &item.attrs, module);
                    let named = || item.sig.ident.to_string().starts_with(&self.prefix);
                    let kind = kind.or_else(|| named().then_some(DeclarationKind::NotLive));
                    self.add(kind, &item.sig.ident, module);
                }
                Item::Struct(item) => self.read_type(&item.ident, &item.attrs, module),
                Item::Enum(item) => self.read_type(&item.ident, &item.attrs, module),
                _ => {}
            }
        }
    }

    fn read_module(&mut self, inner: &ItemMod, module: &Module<'_>) {
        let name = inner.ident.to_string();
        let name = name.trim_start_matches("r#");
        let path = text_of(&inner.attrs, "path");
        match &inner.content {
            Some((_, items)) => {
                let live = marked(&inner.attrs).map(|mark| self.prefix_of(mark));
                let dir = module.dir.join(path.as_deref().unwrap_or(name));
                self.read_items(items, &Module { file: module.file, dir, live });
            }
            None => {
                let beside = module.file.parent().unwrap_or(module.file);
                let own = module.dir.join(name);
                let (file, dir) = match path {
                    Some(path) => {
                        let file = beside.join(path);
                        let dir = file.parent().unwrap_or(&file).to_owned();
                        (file, dir)
                    }
                    None if own.join("mod.rs").is_file() => (own.join("mod.rs"), own),
                    None => (own.with_extension("rs"), own),
                };
                self.read_file(&file, dir);
            }
        }
    }

    fn prefix_of(&self, mark: &Attribute) -> String {
        let mut prefix = None;
        // If a mark cannot be read, the compiler reports it.
        let _ = mark.parse_nested_meta(|meta| {
            match meta.path.is_ident("prefix") {
                true => prefix = Some(meta.value()?.parse::<LitStr>()?.value()),
                false => drop(meta.value()?.parse::<Expr>()?),
            }
            Ok(())
        });
        prefix.unwrap_or_else(|| self.prefix.clone())
    }

    fn read_impl(&mut self, item: &ItemImpl, module: &Module<'_>) {
        let syn::Type::Path(path) = item.self_ty.as_ref() else { return };
        if let Some(name) = path.path.segments.last()
            && has(&item.attrs, "plugin")
        {
            self.add(Some(DeclarationKind::Plugin), &name.ident, module);
        }
    }

    fn read_type(&mut self, name: &Ident, attributes: &[Attribute], module: &Module<'_>) {
        let is_live = marked(attributes).is_some() || is_live(name, module);
        let kind = match is_live {
            true => Some(DeclarationKind::LiveType),
            false if self.is_named_live(name) && is_serialisable(attributes) => {
                Some(DeclarationKind::NotLive)
            }
            false => None,
        };
        self.add(kind, name, module);
    }

    /// Whether the name of a type begins with the words of the prefix: `LiveFire`, but not `Lively`.
    fn is_named_live(&self, name: &Ident) -> bool {
        let words = self.prefix.split('_').filter(|word| !word.is_empty());
        let words: String = words.map(capitalised).collect();
        let name = name.to_string();
        let rest = name.strip_prefix(&words);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_lowercase()))
    }

    fn add(&mut self, kind: Option<DeclarationKind>, name: &Ident, module: &Module<'_>) {
        let Some(kind) = kind else { return };
        let line = name.span().start().line;
        let (name, file) = (name.to_string(), module.file.to_owned());
        self.found.items.push(Declaration { kind, name, file, line });
    }
}

fn kind_of_function(
    name: &Ident,
    attributes: &[Attribute],
    module: &Module<'_>,
) -> Option<DeclarationKind> {
    match () {
        () if has(attributes, "invoke") => Some(DeclarationKind::Function),
        () if marked(attributes).is_some() || is_live(name, module) => {
            Some(DeclarationKind::LiveFunction)
        }
        () => None,
    }
}

/// Whether the module's mark makes an item with this name live, by the rule of `#[live]`: case and
/// underscores do not count.
fn is_live(name: &Ident, module: &Module<'_>) -> bool {
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let prefix = module.live.as_ref().map(|prefix| plain(prefix));
    prefix.is_some_and(|prefix| plain(&name.to_string()).starts_with(&prefix))
}

fn marked(attributes: &[Attribute]) -> Option<&Attribute> {
    attributes.iter().find(|attribute| is_named(attribute, "live"))
}

fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| is_named(attribute, name))
}

fn is_named(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// Whether an item exists only in tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        meta => meta.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    };
    attributes.iter().any(is_test)
}

/// Whether a type derives the traits that a live type needs.
fn is_serialisable(attributes: &[Attribute]) -> bool {
    let parse = Punctuated::<syn::Path, Token![,]>::parse_terminated;
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    let derived = derives.filter_map(|derive| derive.parse_args_with(parse).ok()).flatten();
    let names = derived.filter_map(|path| Some(path.segments.last()?.ident.to_string()));
    let names: Vec<String> = names.collect();
    ["Serialize", "Deserialize"].iter().all(|wanted| names.iter().any(|name| name == wanted))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        _ => &[],
    }
}

/// The text of an attribute such as `#[path = "…"]`.
fn text_of(attributes: &[Attribute], name: &str) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident(name) => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
