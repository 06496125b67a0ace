//! The toolchains that built an artifact and this program.

use hotswap_plugin::abi::descriptor::Descriptor;
use hotswap_protocol::Toolchain;

use crate::{ArtifactError, facts::text};

/// The toolchain that built this program.
pub fn own_toolchain() -> Toolchain {
    of(&Descriptor::new("", "")).unwrap_or_else(|_| unreachable!("its texts are UTF-8"))
}

/// The toolchain that built the artifact with this descriptor.
pub(super) fn of(descriptor: &Descriptor) -> Result<Toolchain, ArtifactError> {
    Ok(Toolchain {
        rustc_release: text(&descriptor.rustc_release)?,
        rustc_commit: text(&descriptor.rustc_commit)?,
        target: text(&descriptor.target)?,
        panic_strategy: text(&descriptor.panic_strategy)?,
        plugin_crate_version: text(&descriptor.plugin_crate_version)?,
        abi_version: descriptor.abi_version,
    })
}
