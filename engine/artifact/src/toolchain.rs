//! What built an artifact, and whether that is what built this program.

use hotswap_plugin::abi::descriptor::Descriptor;

use crate::{ArtifactError, facts::text};

/// What built an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler's release, `1.95.0`.
    pub rustc_release: String,
    /// The compiler's commit.
    pub rustc_commit: String,
    /// The target triple.
    pub target: String,
    /// `unwind` or `abort`.
    pub panic_strategy: String,
    /// The version of hotswap-plugin.
    pub plugin_crate_version: String,
}

impl Toolchain {
    /// What built this program.
    pub fn of_host() -> Self {
        Self::of(&Descriptor::new("", "")).unwrap_or_else(|_| unreachable!("its texts are UTF-8"))
    }

    pub(super) fn of(descriptor: &Descriptor) -> Result<Self, ArtifactError> {
        Ok(Self {
            rustc_release: text(&descriptor.rustc_release)?,
            rustc_commit: text(&descriptor.rustc_commit)?,
            target: text(&descriptor.target)?,
            panic_strategy: text(&descriptor.panic_strategy)?,
            plugin_crate_version: text(&descriptor.plugin_crate_version)?,
        })
    }

    /// `rustc 1.95.0 (59807616e)`
    pub fn rustc(&self) -> String {
        let commit = self.rustc_commit.get(..9).unwrap_or(&self.rustc_commit);
        format!("rustc {} ({commit})", self.rustc_release)
    }

    /// Refuses an artifact that another toolchain built than this program.
    ///
    /// # Errors
    /// [`ArtifactError::Toolchain`], naming both sides of the first difference.
    pub fn expect_host(&self) -> Result<(), ArtifactError> {
        let host = Self::of_host();
        let refuse = |what, found: &str, expected: &str| {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            Err(ArtifactError::Toolchain { what, found, expected })
        };
        if self.rustc_commit != host.rustc_commit || self.rustc_release != host.rustc_release {
            return refuse("rustc", &self.rustc(), &host.rustc());
        }
        if self.target != host.target {
            return refuse("target", &self.target, &host.target);
        }
        if self.panic_strategy != host.panic_strategy {
            return refuse("panic strategy", &self.panic_strategy, &host.panic_strategy);
        }
        if self.plugin_crate_version != host.plugin_crate_version {
            let (found, expected) = (&self.plugin_crate_version, &host.plugin_crate_version);
            return refuse("hotswap-plugin", found, expected);
        }
        Ok(())
    }
}
