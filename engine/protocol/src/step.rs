//! The steps of a load, and the other activities of plugin code.

use std::fmt;

use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value::Error as NoName},
};

/// A part of a load that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Reading the plugin directory.
    Find,
    /// Reading the artifact, and copying it to the staging directory.
    Stage,
    /// Checking the copy without running it.
    Inspect,
    /// Mapping the image and attaching to it.
    Open,
    /// Making the plugin's instance.
    Create,
    /// Asking the running version whether it may be replaced.
    Reloadable,
    /// The plugin's `export`.
    Export,
    /// Resolving the plugin's imports and handing over the objects.
    Import,
    /// Collecting the live functions and types of all plugins.
    Live,
    /// The plugin's `on_load`.
    OnLoad,
    /// The `hand_over` of the version that is replaced.
    HandOver,
    /// The `take_back` of a version that keeps serving because the load failed.
    TakeBack,
    /// The plugin's `on_init`.
    OnInit,
    /// Comparing the new versions with what the host's own code expects.
    HostExpects,
    /// The host's callbacks.
    Callback,
    /// Handing over the Vault's values that new versions take, and making the versions serve.
    Publish,
    /// A step that this program does not know.
    #[serde(other)]
    Other,
}

impl Step {
    /// The step's name, which is also its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Stage => "stage",
            Self::Inspect => "inspect",
            Self::Open => "open",
            Self::Create => "create",
            Self::Reloadable => "reloadable",
            Self::Export => "export",
            Self::Import => "import",
            Self::Live => "live",
            Self::OnLoad => "on_load",
            Self::HandOver => "hand_over",
            Self::TakeBack => "take_back",
            Self::OnInit => "on_init",
            Self::HostExpects => "host_expects",
            Self::Callback => "callback",
            Self::Publish => "publish",
            Self::Other => "other",
        }
    }

    /// The step with this name; `None` if this program does not know it.
    pub fn named(name: &str) -> Option<Self> {
        let step = Self::deserialize(name.into_deserializer()).map_err(|error: NoName| error);
        step.ok().filter(|step| *step != Self::Other)
    }

    /// The activity of the plugin in this step; `None` if the step runs none of its code.
    pub fn activity(self) -> Option<Activity> {
        match self {
            Self::Create => Some(Activity::Create),
            Self::Reloadable => Some(Activity::Reloadable),
            Self::Export => Some(Activity::Export),
            Self::Import => Some(Activity::Import),
            Self::OnLoad => Some(Activity::OnLoad),
            Self::HandOver => Some(Activity::HandOver),
            Self::TakeBack => Some(Activity::TakeBack),
            Self::OnInit => Some(Activity::OnInit),
            Self::Publish => Some(Activity::Publish),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a plugin's code is doing, other than running a declared function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activity {
    /// A function that the plugin does not declare, but answers in its own `invoke_func`.
    FoundByHand,
    /// Opening the image, which runs its constructors.
    Open,
    /// Making the plugin's instance.
    Create,
    /// The plugin's `reloadable`.
    Reloadable,
    /// The plugin's `export`.
    Export,
    /// The plugin's `import`.
    Import,
    /// The plugin's `on_load`.
    OnLoad,
    /// The plugin's `hand_over`.
    HandOver,
    /// The plugin's `take_back`.
    TakeBack,
    /// The plugin's `on_init`.
    OnInit,
    /// Handing over the values of the Vault that the plugin takes.
    Publish,
    /// The plugin's `on_free`.
    OnFree,
    /// The drop of something that the plugin has in the Vault, or exports.
    DropValue,
    /// The drop of the plugin's instance.
    DropPlugin,
    /// The end of the process, which the plugin's code requested.
    ProcessExit,
    /// An activity that this program does not know.
    #[serde(other)]
    Other,
}

impl Activity {
    /// The activities that a host writes into the file of calls, in the order of their numbers there. The list
    /// only grows.
    pub const NOTED: [Self; 15] = [
        Self::FoundByHand,
        Self::Open,
        Self::Create,
        Self::Reloadable,
        Self::Export,
        Self::Import,
        Self::OnLoad,
        Self::HandOver,
        Self::TakeBack,
        Self::OnInit,
        Self::Publish,
        Self::OnFree,
        Self::DropValue,
        Self::DropPlugin,
        Self::ProcessExit,
    ];

    /// Whether the activity belongs to a version that is being loaded.
    pub fn is_of_load(self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Create
                | Self::Export
                | Self::Import
                | Self::OnLoad
                | Self::OnInit
                | Self::Publish
        )
    }

    /// The words for a screen or a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FoundByHand => "a function found by hand",
            Self::Open => "open",
            Self::Create => "create",
            Self::Reloadable => "reloadable",
            Self::Export => "export",
            Self::Import => "import",
            Self::OnLoad => "on_load",
            Self::HandOver => "hand_over",
            Self::TakeBack => "take_back",
            Self::OnInit => "on_init",
            Self::Publish => "publish",
            Self::OnFree => "on_free",
            Self::DropValue => "the drop of a value",
            Self::DropPlugin => "the drop of the plugin",
            Self::ProcessExit => "the exit of the process",
            Self::Other => "something else",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
