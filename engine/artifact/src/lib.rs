//! What a built plugin file says of itself, read and checked without running any of it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let facts = hotswap_artifact::inspect(&hotswap_artifact::read("plugins/libworld.so".as_ref())?)?;
//! println!("{} {} was built by {}", facts.name, facts.build_id, facts.toolchain.rustc());
//! if let Some(misfit) = facts.toolchain.misfit(&hotswap_artifact::own_toolchain()) {
//!     println!("it does not fit: {misfit}"); // both sides of the first difference
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod file;

// What a file says.
mod facts;
mod toolchain;

// What the ELF file around it shows.
mod elf;
pub mod unseen;

// What is written after linking, and where builds are stored.
pub mod layout;
pub mod patch;
mod stamp;

mod error;

pub use elf::is_covered;
pub use error::ArtifactError;
pub use facts::{Facts, claims, inspect, instead_of};
pub use file::{open, read};
pub use hotswap_protocol::{BuildId, Misfit, Source, Toolchain, ToolchainPart};
pub use stamp::stamp;
pub use toolchain::own_toolchain;
