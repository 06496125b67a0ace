//! The plugin with the rules: built at the start, and again when its sources change.

use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
};

use eyre::Result;
use hotswap_build::{
    BuildError, BuildMessage, BuildOptions, Cancel, DiagnosticLevel, HostPackage, Quiet, Watcher,
    build_plugin,
};
use hotswap_engine::{Engine, protocol::ReloadReport};

/// The plugin's package, as the game's manifest names it.
pub struct Rules {
    host: HostPackage,
}

/// Receives the result of each change, as text, while the sources are watched.
pub struct Reloads {
    texts: Receiver<String>,
    _watcher: Watcher,
}

impl Rules {
    /// Builds the plugin. The compiler's messages go to stderr.
    pub fn build(game: &Path) -> Result<Self> {
        let rules = Self { host: HostPackage::open(game)? };
        rules.build_again(&mut |message| match message {
            BuildMessage::Diagnostic(diagnostic) => eprintln!("{}", diagnostic.rendered),
            BuildMessage::Output(line) => eprintln!("{line}"),
            _ => {}
        })?;
        Ok(rules)
    }

    /// The directory of the artifact.
    pub fn plugin_dir(&self) -> &Path {
        &self.host.plugin_dir
    }

    fn build_again(&self, on_message: &mut dyn FnMut(BuildMessage)) -> Result<(), BuildError> {
        let options = BuildOptions::default();
        for plugin in &self.host.plugins {
            let built = build_plugin(plugin, &options, &Cancel::default(), on_message);
            built?.install(&self.host.plugin_dir)?;
        }
        Ok(())
    }

    /// From now on, builds and reloads the plugin when its sources have changed.
    pub fn reload_when_changed(self, engine: Engine) -> Result<Reloads> {
        let (sender, texts) = channel();
        let plugins = self.host.plugins.clone();
        let watcher = Watcher::new(&plugins, Quiet::default(), move |_| {
            let mut first = None;
            let built = self.build_again(&mut |message| {
                if let BuildMessage::Diagnostic(it) = message
                    && it.level == DiagnosticLevel::Error
                {
                    first.get_or_insert(it.rendered);
                }
            });
            let text = match built {
                Ok(()) => engine.reload().map_or_else(|it| it.to_string(), |it| describe(&it)),
                // The compiler's first message says more than the error.
                Err(error) => first.unwrap_or_else(|| error.to_string()),
            };
            // Nobody listens any more once the game ends.
            let _ = sender.send(text);
        })?;
        Ok(Reloads { texts, _watcher: watcher })
    }
}

/// The plugin's part of the report: `rules v2: ok`.
fn describe(report: &ReloadReport) -> String {
    let plugins = report.plugins.iter().map(|plugin| {
        let version = plugin.version.map_or_else(String::new, |version| format!(" v{version}"));
        format!("{}{version}: {}", plugin.name, plugin.outcome)
    });
    plugins.collect::<Vec<_>>().join(", ")
}

impl Reloads {
    /// The results since the last call.
    pub fn try_iter(&self) -> impl Iterator<Item = String> {
        self.texts.try_iter()
    }
}
