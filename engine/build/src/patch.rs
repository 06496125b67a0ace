//! Makes patches. If two builds differ only in bodies of functions, a patch contains the functions that
//! differ.
//!
//! Two checks show that only bodies differ. The first one is about the sources (`outline`): if only bodies
//! changed, each named type has the layout that it had before. The second one is about the object files:
//! statics, linker-collected items and the descriptions of functions must be equal, and every chain of
//! callers that starts at a changed function must end in functions that the engine calls. Data that holds the
//! address of a changed function, such as the table of a trait object, would still lead to the old function,
//! so in this case there is no patch.

use std::fmt;
use std::io;
use std::path::{Display, Path, PathBuf};

use hotswap_artifact::patch::Patch;
use hotswap_protocol::BuildId;

mod base;
mod compare;
mod object_file;
mod symbols;
mod write;

use base::Base;
pub(crate) use compare::{Edited, FileId};
use compare::{Listed, Pair, compare};

use crate::outline::SourceChanges;

/// Why a build cannot be loaded into a running version as a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unpatchable {
    /// The address of a function is stored in data: it is called through a table, such as that of a trait
    /// object.
    AddressStored {
        /// The function.
        function: String,
    },
    /// The address of a function is taken by another function, which may keep it.
    AddressTaken {
        /// The function.
        function: String,
        /// The function that takes its address.
        by: String,
    },
    /// The running version may have stored the address of a function, which the new build does not store.
    AddressKept {
        /// The function.
        function: String,
    },
    /// A function is called from a place that a patch cannot reach: by a library, or by its name.
    CalledFromOutside {
        /// The function.
        function: String,
    },
    /// The compiler merged functions that do the same. The text is one of their symbols.
    Alias(String),
    /// A constant has to be aligned to this many bytes, which is more than a page.
    Alignment(u64),
    /// A static, or a named constant, has another value.
    ChangedStatic(String),
    /// A static is new.
    NewStatic(String),
    /// A static is gone, so the optimiser may have computed with its first value.
    GoneStatic(String),
    /// The optimiser split a static and numbered its parts anew in each build, and the edited code may use a part.
    SplitStatic(String),
    /// The code uses a static without a name.
    UnnamedStatic,
    /// Something that the linker collects changed, such as constructors.
    Collected,
    /// The code needs a symbol that neither the running version nor a library has.
    Missing(String),
    /// The patch would have this many bytes.
    TooLarge(usize),
    /// The code has a relocation of this type, which patches do not support.
    Relocation(u32),
    /// The library of the running version has no symbols.
    Stripped,
    /// The library of the running version cannot be read.
    Base,
    /// The object files cannot be read.
    Objects,
    /// The object files have no machine code, since the plugin is optimised while it is linked (`lto`).
    LinkTime,
    /// The object files do not belong to the library.
    OtherObjects,
    /// Patches exist only on x86-64.
    Machine,
}

impl fmt::Display for Unpatchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressStored { function } => {
                write!(f, "`{function}` is called through a table that holds its address")
            }
            Self::AddressTaken { function, by } => {
                write!(f, "`{by}` takes the address of `{function}`, and may keep it")
            }
            Self::AddressKept { function } => {
                write!(f, "the running version may have stored the address of `{function}`")
            }
            Self::CalledFromOutside { function } => {
                write!(f, "`{function}` is called from a place that a patch cannot reach")
            }
            Self::Alias(symbol) => {
                let name = compare::readable(symbol);
                write!(f, "the compiler merged `{name}` with other functions")
            }
            Self::Alignment(bytes) => write!(f, "a constant is aligned to {bytes} bytes"),
            Self::ChangedStatic(name) => {
                write!(f, "`{}` has another value", compare::readable(name))
            }
            Self::NewStatic(name) => write!(f, "`{}` is new", compare::readable(name)),
            Self::GoneStatic(name) => {
                let name = compare::readable(name);
                write!(f, "`{name}` is gone, so the optimised code may not read its value")
            }
            Self::SplitStatic(name) => {
                let name = compare::readable(name);
                write!(
                    f,
                    "the optimiser split the static of `{name}`, which the edited code may use"
                )
            }
            Self::UnnamedStatic => f.write_str("a static without a name is used"),
            Self::Collected => f.write_str("the code that runs when the library is loaded changed"),
            Self::Missing(name) => {
                let name = compare::readable(name);
                write!(f, "it needs `{name}`, which the running version lacks")
            }
            Self::TooLarge(bytes) => write!(f, "the patch would have {bytes} bytes"),
            Self::Relocation(form) => {
                write!(f, "its code has a relocation of type {form}, which patches do not support")
            }
            Self::Stripped => {
                f.write_str("the running version was built with `strip = \"symbols\"`")
            }
            Self::Base => f.write_str("the library of the running version cannot be read"),
            Self::Objects => f.write_str("its object files cannot be read"),
            Self::LinkTime => f.write_str(
                "its object files have no machine code, because of `lto` in the profile",
            ),
            Self::OtherObjects => f.write_str("its object files belong to another build"),
            Self::Machine => f.write_str("patches exist only on x86-64"),
        }
    }
}

impl std::error::Error for Unpatchable {}

/// Why a build is not loaded into a running version as a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotPatched {
    /// The input of the running build is not known: it was built elsewhere, or too long ago.
    NothingKept,
    /// The compiler keeps no object files, for example without `incremental`.
    NoObjects,
    /// The kept input of a build cannot be read or written, for this reason.
    Unreadable(String),
    /// The compiler is called in another way, or a procedural macro, a build script or a manifest changed.
    CompiledOtherwise,
    /// More than bodies of functions changed in the sources.
    Sources(Box<SourceChanges>),
    /// The sources would allow a patch, but the compiled code does not.
    Objects(Unpatchable),
}

impl fmt::Display for NotPatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingKept => f.write_str("the input of the running build is not kept"),
            Self::NoObjects => {
                f.write_str("the compiler keeps no object files, for example because `incremental` is off")
            }
            Self::Unreadable(why) => write!(f, "the input of the builds cannot be compared: {why}"),
            Self::CompiledOtherwise => f.write_str(
                "more than sources changed: a manifest, a procedural macro, a build script, or a flag",
            ),
            Self::Sources(changes) => {
                let function = changes.functions.iter().find_map(|it| Some((&it.name, it.bound?)));
                match (changes.items.first(), function) {
                    (Some(item), _) => {
                        let (what, how) = (item.item.as_deref(), item.change.as_str());
                        let file = ending(&item.file);
                        write!(f, "{} was {how} ({file})", what.unwrap_or("the file"))
                    }
                    (None, Some((name, bound))) => write!(f, "`{name}` changed, and {bound}"),
                    (None, None) => f.write_str("more than bodies changed"),
                }
            }
            Self::Objects(reason) => reason.fmt(f),
        }
    }
}

/// The file, its directory and the one above: `world/src/lib.rs`.
fn ending(file: &Path) -> Display<'_> {
    let above = file.ancestors().nth(3);
    above.and_then(|above| file.strip_prefix(above).ok()).unwrap_or(file).display()
}

impl std::error::Error for NotPatched {}

/// A build that was linked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build<'a> {
    pub id: BuildId,
    pub library: &'a [u8],
}

/// A build to be patched. It is read before the other build is finished.
#[derive(Debug)]
pub(crate) struct Linked {
    library: Result<Base, Unpatchable>,
    objects: Listed,
}

impl Linked {
    /// Reads a library and the objects that it was linked from.
    ///
    /// # Errors
    /// If an object cannot be read.
    pub(crate) fn read(library: Vec<u8>, objects: &[PathBuf]) -> io::Result<Self> {
        Ok(Self { library: Base::read(library), objects: Listed::read(objects)? })
    }
}

/// The patch from a build to another build, which has these objects and is linked with these `libraries`. With
/// `None`, the linker still runs, and the patch [is early](Patch::is_early).
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn make(
    (from, base): (BuildId, &Linked),
    (new, new_objects): (Option<Build<'_>>, &[PathBuf]),
    libraries: &[PathBuf],
    edited: Edited<'_>,
) -> io::Result<Result<Patch, Unpatchable>> {
    let mut pair = match Pair::read(&base.objects, new_objects)? {
        Ok(pair) => pair,
        Err(reason) => return Ok(Err(reason)),
    };
    let difference = match compare(&mut pair, edited)? {
        Ok(difference) => difference,
        Err(reason) => return Ok(Err(reason)),
    };
    let library = match &base.library {
        Ok(library) => library,
        Err(reason) => return Ok(Err(reason.clone())),
    };
    let are_made_of = library.expect_linked_from(&pair.base).and_then(|()| match new {
        Some(new) => Base::read(new.library.to_vec())?.expect_linked_from(&pair.new),
        None => Ok(()),
    });
    if let Err(reason) = are_made_of {
        return Ok(Err(reason));
    }
    let to = new.map(|new| new.id);
    let functions: Vec<String> = edited.functions.iter().map(|it| it.name.clone()).collect();
    let made = write::Made { from, to, functions: &functions };
    write::write(library, pair, &difference, libraries, made)
}
