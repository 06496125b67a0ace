//! The names of plugins, of their versions and of their builds.
//!
//! A **target** is a text that names a plugin, or one version of it:
//!
//! | target | names |
//! |---|---|
//! | `world` | the version of `world` that serves |
//! | `world@2`, `world@v2` | the second version of `world` that this host loaded |
//! | `world@7f3a90` | the build of `world` whose build id begins with these digits, at least six |

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A plugin's name: letters, digits, `-` and `_`. The name keeps its case, but names that differ only in case
/// are equal:
///
/// ```
/// use hotswap_protocol::PluginName;
///
/// let name: PluginName = "World".parse().unwrap();
/// assert_eq!(name, "world".parse::<PluginName>().unwrap());
/// assert!(name.is("WORLD"));
/// assert_eq!(name.to_string(), "World");
/// assert!("a/b".parse::<PluginName>().is_err());
/// ```
#[derive(Clone)]
pub struct PluginName {
    shown: Arc<str>,
    /// The name in lower case, which comparisons use.
    folded: Arc<str>,
}

impl PluginName {
    /// The name as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The name in lower case, which all its spellings share. It can also be part of a path.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether `name` is this name, ignoring case.
    pub fn is(&self, name: &str) -> bool {
        same_plugin(&self.shown, name)
    }
}

/// Whether two texts name the same plugin: case does not matter.
pub fn same_plugin(a: &str, b: &str) -> bool {
    // Most names need no folding for this comparison.
    a == b || a.eq_ignore_ascii_case(b) || !(a.is_ascii() && b.is_ascii()) && fold(a) == fold(b)
}

/// A name in lower case. Each character is folded on its own, without regard to its neighbours.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

impl FromStr for PluginName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let is_allowed = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_allowed) {
            return Err(InvalidName(name.to_owned()));
        }
        let (shown, folded) = (Arc::<str>::from(name), fold(name));
        let folded = if folded == name { shown.clone() } else { folded.into() };
        Ok(Self { shown, folded })
    }
}

impl PartialEq for PluginName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.folded, &other.folded) || self.folded == other.folded
    }
}

impl Eq for PluginName {}

impl PartialEq<&str> for PluginName {
    fn eq(&self, other: &&str) -> bool {
        self.is(other)
    }
}

impl PartialOrd for PluginName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PluginName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded.cmp(&other.folded)
    }
}

impl Hash for PluginName {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.folded.hash(hasher);
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

impl fmt::Debug for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl Serialize for PluginName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for PluginName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a plugin's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName(String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a plugin's name (letters, digits, `-` and `_`)", self.0)
    }
}

impl std::error::Error for InvalidName {}

/// Identifies a build of a plugin: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BuildId([u8; 16]);

impl BuildId {
    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

impl FromStr for BuildId {
    type Err = InvalidBuildId;

    fn from_str(text: &str) -> Result<Self, InvalidBuildId> {
        let wrong = || InvalidBuildId(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for BuildId {
    type Error = InvalidBuildId;

    fn try_from(text: String) -> Result<Self, InvalidBuildId> {
        text.parse()
    }
}

/// A text that is not a build id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidBuildId(String);

impl fmt::Display for InvalidBuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a build id (32 hexadecimal digits)", self.0)
    }
}

impl std::error::Error for InvalidBuildId {}

/// A reference to one version of a plugin, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    /// The number of the load of the plugin in this host, from 1: `2` or `v2`.
    Ordinal(u32),
    /// The build whose id begins with these digits, in lower case.
    Build(String),
}

/// The fewest digits that name a build. Fewer digits are an ordinal.
const SHORTEST_BUILD: usize = 6;

impl VersionRef {
    /// Whether this refers to the build.
    pub fn is_build(&self, id: BuildId) -> bool {
        matches!(self, Self::Build(digits) if id.to_string().starts_with(digits.as_str()))
    }
}

impl FromStr for VersionRef {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let ordinal = match text.strip_prefix('v') {
            Some(number) => number.parse().ok(),
            None => text.parse().ok().filter(|_| text.len() < SHORTEST_BUILD),
        };
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match ordinal {
            Some(ordinal) => Ok(Self::Ordinal(ordinal)),
            None if is_hex && (SHORTEST_BUILD..=32).contains(&text.len()) => {
                Ok(Self::Build(text.to_ascii_lowercase()))
            }
            None => Err(InvalidVersion(text.to_owned())),
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinal(ordinal) => write!(f, "v{ordinal}"),
            Self::Build(digits) => f.write_str(digits),
        }
    }
}

/// A text that does not refer to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidVersion(String);

impl fmt::Display for InvalidVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` does not name a version: write its number (`3` or `v3`), or at least \
             {SHORTEST_BUILD} digits of its build id",
            self.0
        )
    }
}

impl std::error::Error for InvalidVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_reads_as_it_prints() {
        let id = BuildId(std::array::from_fn(|i| i as u8 * 17));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("xyz".parse::<BuildId>().is_err());
        assert!("+0000000000000000000000000000000".parse::<BuildId>().is_err());
    }

    #[test]
    fn case_does_not_matter_in_any_script() {
        let name: PluginName = "ΟΔΟΣ".parse().unwrap();
        assert!(name.is("οδοσ"));
        assert_eq!(name, "οδοσ".parse::<PluginName>().unwrap());
        assert!(!name.is("οδος"), "a final sigma is another letter");
    }

    #[test]
    fn a_version_is_named_by_number_or_build() {
        assert_eq!("3".parse(), Ok(VersionRef::Ordinal(3)));
        assert_eq!("v123456".parse(), Ok(VersionRef::Ordinal(123_456)));
        assert_eq!("123456".parse(), Ok(VersionRef::Build("123456".into())));
        assert_eq!("7F3A90".parse(), Ok(VersionRef::Build("7f3a90".into())));
        for wrong in ["", "v", "7f3a", "nothing", "-1"] {
            assert!(wrong.parse::<VersionRef>().is_err(), "{wrong}");
        }
    }
}
