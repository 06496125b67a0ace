//! Reads and checks what an artifact says of itself.

use std::{mem::offset_of, ops::Range};

use hotswap_plugin::abi::descriptor::{ABI_VERSION, Descriptor, MAGIC, Stamp};
use hotswap_protocol::{
    BuildId, InvalidName, KeepKind, KeepReason, Misfit, PluginName, Source, Toolchain,
    ToolchainPart,
};

use crate::{ArtifactError, elf, stamp, toolchain, unseen};

/// What an artifact says of itself, read by [`inspect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The plugin's name.
    pub name: PluginName,
    /// The plugin crate's version.
    pub crate_version: String,
    /// The build id of the artifact.
    pub build_id: BuildId,
    /// The source that it was built from; `None` outside a git repository.
    pub source: Option<Source>,
    /// The toolchain that built it.
    pub toolchain: Toolchain,
    /// Why its image could never be unmapped, and what to do about it; `None` if it can be unmapped.
    pub keep_reason: Option<KeepReason>,
    /// The shared libraries that it needs, without those that every Rust program needs.
    pub foreign_libraries: Vec<String>,
    /// A unique symbol in it, as C++ code has them; the loader may keep the image because of it.
    pub unique_symbol: Option<String>,
    /// Why its image could never be unmapped, whatever libraries it needs; `None` if there is no such reason.
    pub own_keep_reason: Option<KeepReason>,
    /// Where in the file the address of its host is written.
    pub host: Range<usize>,
    /// Whether it has constructors besides those of `std` and of the C library's start files.
    pub has_constructors: bool,
    /// Whether it has thread-locals in the static TLS area (`-ftls-model=initial-exec`). A process has little
    /// room there, which repeated loads use up.
    pub has_static_tls: bool,
}

impl Facts {
    /// Whether opening the file runs code that inspection cannot check, and that could end the process:
    /// constructors of its own, or of other libraries.
    pub fn may_harm_by_opening(&self) -> bool {
        self.has_constructors || self.has_static_tls || !self.foreign_libraries.is_empty()
    }

    /// Why the image cannot be unmapped in a host that trusts the libraries `trusted`; `None` if it can.
    ///
    /// A library counts even if it is loaded already: it may still have a thread, a callback or a key of the
    /// image.
    pub fn keep_reason_trusting(&self, trusted: &[String]) -> Option<KeepReason> {
        let own = self.own_keep_reason.clone();
        own.or_else(|| foreign_reason(&self.foreign_libraries, trusted))
    }
}

/// The reason to keep an image that needs libraries which the host does not trust; `None` if there are no such
/// libraries.
fn foreign_reason(libraries: &[String], trusted: &[String]) -> Option<KeepReason> {
    let library = libraries.iter().find(|library| !trusted.contains(library))?;
    let why = format!(
        "it needs {library}, which may keep pointers into it that the engine cannot see (threads, callbacks, \
         keys); {}",
        instead_of(library)
    );
    Some(KeepReason::new(KeepKind::NeedsLibrary, why).library(library))
}

/// The advice for an image that is kept because it needs or opens a shared library.
pub fn instead_of(library: &str) -> String {
    if ["libssl.so", "libcrypto.so"].iter().any(|name| library.starts_with(name)) {
        // The crate `openssl` leaves such a callback (`SSL_get_ex_new_index`), which OpenSSL calls when any
        // connection ends.
        return "OpenSSL has callbacks of whoever uses it, so a host must not trust it; use rustls, or leave \
                connections to the host"
            .to_owned();
    }
    format!(
        "link it statically, or make the host trust it with \
         `EngineBuilder::trust_library({library:?})`"
    )
}

/// The reason to keep an image because of its file itself; `None` if there is no such reason.
fn own_reason(elf: &elf::ElfFacts) -> Option<KeepReason> {
    if let Some(why) = PLATFORM_KEEPS {
        return Some(KeepReason::new(KeepKind::Platform, why));
    }
    if elf.is_no_delete {
        let why = "the file is marked NODELETE; link it without `-z nodelete`";
        return Some(KeepReason::new(KeepKind::NoDelete, why));
    }
    if let Some(symbol) = &elf.unique_symbol {
        let why = format!(
            "it has the unique symbol `{symbol}`, which all images share, as C++ code has them; compile that code \
             with `-fno-gnu-unique`"
        );
        return Some(KeepReason::new(KeepKind::UniqueSymbol, why).symbol(symbol));
    }
    if let Some(symbol) = &elf.unnamed {
        let why = format!(
            "it takes `{symbol}` from whatever library the host has loaded, which may keep pointers into it that \
             the engine cannot see; link the library statically"
        );
        return Some(KeepReason::new(KeepKind::UnnamedLibrary, why).symbol(symbol));
    }
    elf.unseen.and_then(unseen::reason)
}

/// Why nothing is unmapped on this platform; `None` on Linux with glibc. Only for glibc is it known what
/// keeps an image mapped, and what would still call into it.
const PLATFORM_KEEPS: Option<&str> = if cfg!(all(target_os = "linux", target_env = "gnu")) {
    None
} else {
    Some("this platform cannot unload")
};

/// Reads and checks a finished artifact without running any of it.
///
/// The toolchain is reported, but not compared with this program's: see [`Toolchain::misfit`].
///
/// # Errors
/// Whatever is wrong with the file. Such a file must never reach the loader.
pub fn inspect(file: &[u8]) -> Result<Facts, ArtifactError> {
    let elf = elf::read(file)?;
    let descriptor = descriptor(file, elf.descriptor.start)?;
    let Stamp { build_id, seal, .. } = descriptor.stamp;
    if build_id == [0; 16] {
        return Err(ArtifactError::NotStamped);
    }
    let found = stamp::build_id(file, elf.descriptor.start);
    let expected = BuildId::from_bytes(build_id);
    if found != expected || seal != stamp::seal(file, elf.descriptor.start) {
        return Err(ArtifactError::Damaged { expected, found });
    }
    if let Some(symbol) = elf.missing_hook {
        return Err(ArtifactError::NoHooks { symbol });
    }
    let host = elf.host.clone();
    let host = host.ok_or_else(|| {
        ArtifactError::BadDescriptor("it has no section for its host's address".into())
    })?;
    let own_keep_reason = own_reason(&elf);
    let foreign = || foreign_reason(&elf.foreign_libraries, &[]);
    Ok(Facts {
        keep_reason: own_keep_reason.clone().or_else(foreign),
        foreign_libraries: elf.foreign_libraries,
        unique_symbol: elf.unique_symbol,
        own_keep_reason,
        host,
        has_constructors: elf.has_constructors,
        has_static_tls: elf.has_static_tls,
        ..claims_of(&descriptor)?
    })
}

/// The statements of a file that [`inspect`] refuses, without any check. `None` if it has no descriptor.
pub fn claims(file: &[u8]) -> Option<Facts> {
    let start = file.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)?;
    claims_of(&descriptor(file, start).ok()?).ok()
}

/// The facts in the descriptor.
fn claims_of(descriptor: &Descriptor) -> Result<Facts, ArtifactError> {
    let name = text(&descriptor.name)?;
    let name = name
        .parse()
        .map_err(|error: InvalidName| ArtifactError::BadDescriptor(error.to_string()))?;
    let broken = KeepReason::new(KeepKind::Broken, "the file is broken");
    Ok(Facts {
        name,
        crate_version: text(&descriptor.crate_version)?,
        build_id: BuildId::from_bytes(descriptor.stamp.build_id),
        source: source(&descriptor.stamp)?,
        toolchain: toolchain::of(descriptor)?,
        keep_reason: Some(broken.clone()),
        foreign_libraries: Vec::new(),
        unique_symbol: None,
        own_keep_reason: Some(broken),
        host: 0..0,
        has_constructors: false,
        has_static_tls: false,
    })
}

/// Copies the descriptor out of the file and checks that it belongs to this ABI.
pub(super) fn descriptor(file: &[u8], start: usize) -> Result<Descriptor, ArtifactError> {
    let wrong = |why: &str| ArtifactError::BadDescriptor(why.to_owned());
    let bytes = file.get(start..).and_then(|rest| rest.first_chunk());
    let bytes = bytes.ok_or_else(|| wrong("its place is outside the file"))?;
    let descriptor = Descriptor::from_bytes(bytes);
    if descriptor.magic != MAGIC {
        return Err(wrong("it does not begin as a descriptor"));
    }
    if (descriptor.abi_version, descriptor.size as usize) != (ABI_VERSION, size_of::<Descriptor>())
    {
        return Err(ArtifactError::Toolchain(Misfit {
            part: ToolchainPart::Abi,
            found: format!("version {}, {} bytes", descriptor.abi_version, descriptor.size),
            expected: format!("version {ABI_VERSION}, {} bytes", size_of::<Descriptor>()),
        }));
    }
    Ok(descriptor)
}

/// Where the stamp begins in the file, given where the descriptor begins.
pub(super) fn stamp_start(descriptor_start: usize) -> usize {
    descriptor_start + offset_of!(Descriptor, stamp)
}

fn source(stamp: &Stamp) -> Result<Option<Source>, ArtifactError> {
    let commit = text(&stamp.commit)?;
    Ok((!commit.is_empty()).then_some(Source {
        commit,
        branch: text(&stamp.branch)?,
        commit_time: i64::from_le_bytes(stamp.commit_time),
        dirty: stamp.dirty[0] != 0,
    }))
}

/// A text without its padding.
pub(super) fn text(bytes: &[u8]) -> Result<String, ArtifactError> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let wrong = |_| ArtifactError::BadDescriptor("one of its texts is not UTF-8".into());
    String::from_utf8(bytes[..len].to_vec()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_library() {
        for file in [&b""[..], b"\x7fELF", &[0x7f; 4096]] {
            assert!(matches!(inspect(file), Err(ArtifactError::NotALibrary(_))));
        }
    }

    #[test]
    fn the_advice_never_is_to_trust_openssl() {
        let advice = |library: &str| foreign_reason(&[library.to_owned()], &[]).unwrap().message;
        assert!(advice("libssl.so.3").contains("must not trust"));
        assert!(advice("libz.so.1").contains("`EngineBuilder::trust_library(\"libz.so.1\")`"));
    }
}
