//! The owners of values and registrations in the Vault.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An owner of something in the Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Owner {
    /// The host.
    Host,
    /// A version of a plugin.
    Version {
        /// The plugin.
        plugin: String,
        /// The version.
        version: u32,
    },
    /// A version that does not exist any more.
    Gone,
    /// An owner that this program does not know.
    #[serde(other)]
    Other,
}

impl Owner {
    /// The plugin and the version, if a version owns it.
    pub fn version(&self) -> Option<(&str, u32)> {
        match self {
            Self::Version { plugin, version } => Some((plugin, *version)),
            _ => None,
        }
    }
}

impl fmt::Display for Owner {
    /// `host`, or `world v3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Version { plugin, version } => write!(f, "{plugin} v{version}"),
            Self::Gone => f.write_str("a version that is gone"),
            Self::Other => f.write_str("an owner that is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_identified_by_its_kind() {
        let read = |json: &str| serde_json::from_str::<Owner>(json).unwrap();
        let json = r#"{"kind":"version","plugin":"world","version":3}"#;
        let world = read(json);
        assert_eq!((world.to_string(), world.version()), ("world v3".into(), Some(("world", 3))));
        assert_eq!(serde_json::to_string(&world).unwrap(), json);
        assert_eq!(
            (read(r#"{"kind":"host"}"#), read(r#"{"kind":"gone"}"#)),
            (Owner::Host, Owner::Gone)
        );
        assert_eq!(read(r#"{"kind":"console"}"#), Owner::Other);
    }
}
