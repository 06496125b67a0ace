//! An artifact's description of itself: plain bytes in a section of their own, which the engine reads without
//! running the artifact.

/// The section of the file that contains the [`Descriptor`].
pub const SECTION: &str = ".hotswap";

/// The first bytes of a descriptor.
pub const MAGIC: [u8; 16] = *b"HOTSWAP-PLUGIN\r\n";

/// The version of everything in [`crate::abi`].
pub const ABI_VERSION: u32 = 11;

/// A text in a fixed number of bytes, padded with zeros.
pub type Text<const N: usize> = [u8; N];

/// An artifact's description of itself. It consists of plain bytes, so that a file from any toolchain can be
/// read. In every version, `magic`, `abi_version` and `size` keep their places.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Descriptor {
    /// [`MAGIC`]
    pub magic: [u8; 16],
    /// [`ABI_VERSION`]
    pub abi_version: u32,
    /// The descriptor's size in bytes.
    pub size: u32,
    /// The compiler's release, `1.95.0`.
    pub rustc_release: Text<32>,
    /// The compiler's commit.
    pub rustc_commit: Text<64>,
    /// The target triple.
    pub target: Text<64>,
    /// `unwind` or `abort`.
    pub panic_strategy: Text<16>,
    /// The version of `hotswap-plugin`, and a hash of its source.
    pub plugin_crate_version: Text<32>,
    /// The plugin's name.
    pub name: Text<96>,
    /// The version of the plugin's crate.
    pub crate_version: Text<32>,
    /// The part that `hotswap build` writes after linking.
    pub stamp: Stamp,
}

/// The part of a [`Descriptor`] that is written after linking; all zero until then.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Stamp {
    /// The build id, which identifies the code: the first half of the BLAKE3 hash of the file with the
    /// whole stamp zeroed.
    pub build_id: [u8; 16],
    /// A checksum of the other fields: the first half of the BLAKE3 hash of the stamp with this field
    /// zeroed.
    pub seal: [u8; 16],
    /// The commit; empty outside a git repository.
    pub commit: Text<64>,
    /// The branch; empty if HEAD is detached.
    pub branch: Text<128>,
    /// The time of the commit, in seconds since the Unix epoch, little-endian.
    pub commit_time: [u8; 8],
    /// 1 if the work tree differed from the commit, little-endian.
    pub dirty: [u8; 8],
}

impl Descriptor {
    /// Reads a descriptor from the bytes of a file, without any check.
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        // SAFETY: the array has the descriptor's size, and every pattern of bytes is a descriptor.
        unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() }
    }

    /// The descriptor of a plugin that is built with this program's compiler.
    ///
    /// # Panics
    /// At compile time, if a text is longer than its field.
    pub const fn new(name: &str, crate_version: &str) -> Self {
        Self {
            magic: MAGIC,
            abi_version: ABI_VERSION,
            size: size_of::<Self>() as u32,
            rustc_release: text(env!("HOTSWAP_RUSTC_RELEASE")),
            rustc_commit: text(env!("HOTSWAP_RUSTC_COMMIT")),
            target: text(env!("HOTSWAP_TARGET")),
            panic_strategy: text(if cfg!(panic = "unwind") { "unwind" } else { "abort" }),
            plugin_crate_version: text(env!("HOTSWAP_PLUGIN_VERSION")),
            name: text(name),
            crate_version: text(crate_version),
            stamp: Stamp {
                build_id: [0; 16],
                seal: [0; 16],
                commit: [0; 64],
                branch: [0; 128],
                commit_time: [0; 8],
                dirty: [0; 8],
            },
        }
    }
}

/// Pads a text with zeros.
const fn text<const N: usize>(text: &str) -> Text<N> {
    assert!(text.len() <= N, "a plugin's name has at most 96 bytes, its version 32");
    let mut bytes = [0; N];
    let (head, _) = bytes.split_at_mut(text.len());
    head.copy_from_slice(text.as_bytes());
    bytes
}
