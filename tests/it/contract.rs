//! The contract for other programs: `hotswap`, the sample host and its plugins as separate processes.

mod commands;
mod previews;
mod processes;
mod refusals;

use std::process::Command;

use serde_json::Value;

use crate::support::{Place, PluginDir, Session, host_command, program, sample, world};

/// The sample host with its own directories, started by `hotswap run`.
struct Serving {
    session: Session,
    place: Place,
    plugins: PluginDir,
}

impl Serving {
    /// With the sample plugins `world` and `cat`.
    fn with_samples() -> Self {
        let plugins = PluginDir::empty();
        plugins.write("world", &sample("world"));
        plugins.write("cat", &sample("cat"));
        Self::of(plugins)
    }

    fn of(plugins: PluginDir) -> Self {
        let place = Place::new();
        let mut run = run_command(&place, &plugins);
        // With it, the log has backtraces.
        run.arg("--json").env_remove("RUST_BACKTRACE");
        Self { session: Session::start(run), place, plugins }
    }

    fn json(&self, args: &[&str]) -> Value {
        self.place.json(args)
    }

    fn refusal(&self, args: &[&str]) -> Value {
        self.place.refusal(1, args)
    }

    /// The error of a reload that the host refuses; the host keeps serving.
    fn refused_reload(&self) -> Value {
        let error = self.refusal(&["reload"]);
        assert_eq!(error["kind"], "reload", "{error}");
        assert_eq!(self.session.get("/greet/Ada"), "Hello, Ada!\n");
        assert_eq!(self.json(&["status"])["generation"], 1);
        error
    }
}

/// The command `hotswap run` with the sample host that is already built.
fn run_command(place: &Place, plugins: &PluginDir) -> Command {
    let mut run = place.command("hotswap");
    run.arg("run").arg(program("sample-host")).arg("--plugins").arg(plugins.path());
    run
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let plugins = report["plugins"].as_array().expect("plugins").iter();
    plugins.map(|it| (it["name"].as_str().unwrap(), it["outcome"].as_str().unwrap())).collect()
}

fn version<'a>(status: &'a Value, plugin: &str, version: u32) -> &'a Value {
    let plugins = status["plugins"].as_array().expect("plugins");
    let plugin = plugins.iter().find(|it| it["name"] == plugin).expect("the plugin");
    let versions = plugin["versions"].as_array().expect("versions");
    versions.iter().find(|it| it["version"] == version).expect("the version")
}
