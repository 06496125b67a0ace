//! The reason why a load failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Step;

/// The kind of reason why a load failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CauseKind {
    /// A file is not an artifact, or is incomplete.
    Artifact,
    /// An artifact was built with a different toolchain than the host.
    Toolchain,
    /// The system refused to read or copy a file, or to start a thread.
    Io,
    /// The system's loader did not open the image.
    Loader,
    /// The plugin's code returned an error.
    Plugin,
    /// The plugin's code panicked; if no plugin is named, the host's code did.
    Panic,
    /// The plugin's code did not return in time.
    TimedOut,
    /// A plugin imports something that no other plugin exports in this form.
    Import,
    /// A callback of the host returned an error.
    Callback,
    /// The load breaks a rule: two plugins have one name, a plugin is missing, or a plugin must not be
    /// replaced.
    Refused,
    /// A new version does not have what the host's own code expects.
    HostExpects,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// The reason why a load failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The plugin, or the file if its plugin is not known yet; `None` if no plugin is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The step that failed; `None` if the load was given up between two steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The kind of reason.
    pub cause: CauseKind,
    /// The reason, as text for people.
    pub message: String,
    /// The causes of the failure, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl fmt::Display for Failure {
    /// For example `world: on_init: no greeting`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plugin) = &self.plugin {
            write!(f, "{plugin}: ")?;
        }
        if let Some(step) = self.step {
            write!(f, "{step}: ")?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_in_words_names_what_is_known() {
        let mut failure = Failure {
            plugin: Some("world".into()),
            step: Some(Step::OnInit),
            cause: CauseKind::Plugin,
            message: "no greeting".into(),
            causes: Vec::new(),
        };
        assert_eq!(failure.to_string(), "world: on_init: no greeting");
        let json =
            r#"{"plugin":"world","step":"on_init","cause":"plugin","message":"no greeting"}"#;
        assert_eq!(serde_json::to_string(&failure).unwrap(), json);
        failure.plugin = None;
        assert_eq!(failure.to_string(), "on_init: no greeting");
        failure.step = None;
        assert_eq!(failure.to_string(), "no greeting");
    }

    #[test]
    fn a_cause_and_a_step_of_a_newer_host_are_read_as_others() {
        let newer = r#"{"step":"warm_up","cause":"quota","message":"no memory is left"}"#;
        let failure: Failure = serde_json::from_str(newer).unwrap();
        assert_eq!((failure.step, failure.cause), (Some(Step::Other), CauseKind::Other));
    }
}
