//! What the host's own code expects of versions: functions that it calls with Rust types, and interfaces that
//! it uses. A load that would break an expectation that is met now is not published.

use std::sync::{Arc, Mutex};

use hotswap_plugin::{FunctionDescription, FunctionTypes, InterfaceShape};
use hotswap_protocol::{BrokenExpectation, Expectation, ExpectedItem};

use super::{Version, registration::Registration};
use crate::lock::Lock as _;

/// What the host's own code expects of plugins.
#[derive(Default)]
pub(crate) struct Expectations(Mutex<Known>);

#[derive(Default)]
struct Known {
    functions: Vec<Arc<ExpectedFunction>>,
    interfaces: Vec<ExpectedInterface>,
}

/// A function that the host calls with Rust types.
#[derive(PartialEq)]
pub(crate) struct ExpectedFunction {
    /// `None` for a live function.
    plugin: Option<String>,
    name: String,
    types: Arc<FunctionTypes>,
    is_async: bool,
    /// The type with which it is called.
    called_as: &'static str,
}

/// An interface, if the host has used an object of it.
#[derive(Clone, PartialEq)]
struct ExpectedInterface {
    /// The plugin that exports it; `None` if plugins register it.
    exported_by: Option<String>,
    shape: InterfaceShape,
}

/// The versions and registrations that a generation has, or will have.
pub(crate) struct Offer<'a> {
    pub versions: &'a [Arc<Version>],
    /// Returns the registrations of an interface, given its name.
    pub registrations: &'a dyn Fn(&str) -> Vec<Arc<Registration>>,
}

/// Whether a generation meets an expectation.
enum Met {
    Yes,
    /// It does not have the item.
    Absent,
    /// It has the item in another form.
    Not {
        plugin: String,
        difference: String,
    },
}

impl Expectations {
    /// Remembers that the host calls a function with these types. A handle that was dropped counts, too: a
    /// host may request one for each call.
    pub fn of_function(
        &self,
        plugin: Option<&str>,
        name: &str,
        (types, is_async): (&Arc<FunctionTypes>, bool),
        called_as: &'static str,
    ) {
        let expected = ExpectedFunction {
            plugin: plugin.map(ToOwned::to_owned),
            name: name.to_owned(),
            types: types.clone(),
            is_async,
            called_as,
        };
        let mut known = self.0.locked();
        if !known.functions.iter().any(|function| **function == expected) {
            known.functions.push(Arc::new(expected));
        }
    }

    /// Remembers that the host uses an interface that a plugin exports, or that plugins register.
    pub fn of_interface(&self, exported_by: Option<&str>, shape: &InterfaceShape) {
        let mut known = self.0.locked();
        let is_it = |known: &ExpectedInterface| {
            known.exported_by.as_deref() == exported_by && known.shape == *shape
        };
        if !known.interfaces.iter().any(is_it) {
            let exported_by = exported_by.map(ToOwned::to_owned);
            known.interfaces.push(ExpectedInterface { exported_by, shape: shape.clone() });
        }
    }

    /// All expectations, in the form of the console protocol.
    pub fn to_wire(&self) -> Vec<Expectation> {
        let (functions, interfaces) = self.now();
        let functions = functions.iter().map(|function| function.to_wire());
        functions.chain(interfaces.iter().map(ExpectedInterface::to_wire)).collect()
    }

    /// The expectations that are met before a load, and not after it because the item has another form. Items
    /// that a load only removes are not included, since the removal was requested.
    pub fn broken(&self, before: &Offer<'_>, after: &Offer<'_>) -> Vec<BrokenExpectation> {
        let (functions, interfaces) = self.now();
        let functions =
            functions.iter().map(|it| (it.to_wire(), it.met_by(before), it.met_by(after)));
        let interfaces =
            interfaces.iter().map(|it| (it.to_wire(), it.met_by(before), it.met_by(after)));
        let broken = |met| match met {
            (expectation, Met::Yes, Met::Not { plugin: by, difference }) => {
                Some(BrokenExpectation { expectation, by, difference })
            }
            _ => None,
        };
        functions.chain(interfaces).filter_map(broken).collect()
    }

    fn now(&self) -> (Vec<Arc<ExpectedFunction>>, Vec<ExpectedInterface>) {
        let known = self.0.locked();
        (known.functions.clone(), known.interfaces.clone())
    }
}

impl ExpectedFunction {
    fn to_wire(&self) -> Expectation {
        let item = match self.plugin {
            Some(_) => ExpectedItem::Function,
            None => ExpectedItem::LiveFunction,
        };
        Expectation {
            item,
            plugin: self.plugin.clone(),
            name: self.name.clone(),
            expected: format!(
                "{}{}",
                if self.is_async { "async " } else { "" },
                as_written(self.called_as)
            ),
            fingerprint: fingerprint_of_function(&self.types, self.is_async),
        }
    }

    fn met_by(&self, offer: &Offer<'_>) -> Met {
        let Some(plugin) = &self.plugin else { return self.met_live(offer) };
        let mut versions = offer.versions.iter();
        let Some(version) = versions.find(|version| version.name().is(plugin)) else {
            return Met::Absent;
        };
        match version.function(&self.name) {
            Some((_, function)) => self.compare(version, function),
            None => not(version, version.has_no_such_function()),
        }
    }

    fn met_live(&self, offer: &Offer<'_>) -> Met {
        let found = offer.versions.iter().find_map(|version| {
            let mut live = version.live_places().map(|(_, function)| function);
            Some((version, live.find(|function| function.name == self.name)?))
        });
        found.map_or(Met::Absent, |(version, function)| self.compare(version, function))
    }

    fn compare(&self, version: &Version, found: &FunctionDescription) -> Met {
        match &found.types {
            Some(_) if found.is_async != self.is_async => {
                let is = if found.is_async { "is `async` now" } else { "is not `async` any more" };
                not(version, format!("it {is}"))
            }
            Some(types) => types.difference(&self.types).map_or(Met::Yes, |it| not(version, it)),
            None => {
                let signature = &found.signature;
                not(version, format!("it is `{signature}`, and cannot be called with Rust types"))
            }
        }
    }
}

fn not(version: &Version, difference: String) -> Met {
    Met::Not { plugin: version.name().to_string(), difference }
}

impl ExpectedInterface {
    fn to_wire(&self) -> Expectation {
        let methods = self.shape.methods.iter();
        let methods = methods.map(|method| format!("fn {}{}", method.name, method.signature));
        Expectation {
            item: match self.exported_by {
                Some(_) => ExpectedItem::Export,
                None => ExpectedItem::Registration,
            },
            plugin: self.exported_by.clone(),
            name: self.shape.name.clone(),
            expected: methods.collect::<Vec<_>>().join("; "),
            fingerprint: fingerprint_of_interface(&self.shape),
        }
    }

    fn met_by(&self, offer: &Offer<'_>) -> Met {
        let Some(plugin) = &self.exported_by else { return self.met_by_registrations(offer) };
        let mut versions = offer.versions.iter();
        let Some(version) = versions.find(|version| version.name().is(plugin)) else {
            return Met::Absent;
        };
        match version.export() {
            Some(export) => {
                export.shape.difference(&self.shape).map_or(Met::Yes, |it| not(version, it))
            }
            None => not(version, "it exports nothing".into()),
        }
    }

    fn met_by_registrations(&self, offer: &Offer<'_>) -> Met {
        let registrations = (offer.registrations)(&self.shape.name);
        let differing = registrations.iter().find_map(|object| {
            let difference = object.shape.difference(&self.shape)?;
            Some(not(&*object.owner.version()?, difference))
        });
        differing.unwrap_or(if registrations.is_empty() { Met::Absent } else { Met::Yes })
    }
}

/// The name of a type as its author writes it, without the paths of types that need no import.
fn as_written(type_name: &str) -> String {
    const PATHS: [&str; 6] = [
        "alloc::string::",
        "alloc::vec::",
        "alloc::boxed::",
        "core::option::",
        "core::result::",
        "hotswap_plugin::interface::",
    ];
    PATHS.iter().fold(type_name.to_owned(), |name, path| name.replace(path, ""))
}

/// A hash of the types of a function, to compare with others of the same program or toolchain.
pub(crate) fn fingerprint_of_function(types: &FunctionTypes, is_async: bool) -> String {
    let kind = if is_async { "async-" } else { "" };
    format!("{kind}{:016x}{:016x}", types.args.fingerprint(), types.result.fingerprint())
}

/// A hash of an interface, to compare with others of the same program or toolchain.
pub(crate) fn fingerprint_of_interface(shape: &InterfaceShape) -> String {
    format!("{:016x}", shape.fingerprint())
}
