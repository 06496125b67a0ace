//! 10: a reload that is asked for inside a step hangs, and goes on for ever.

use std::{
    thread,
    time::{Duration, Instant},
};

use hostile_api::Control;
use hotswap_engine::Engine;

use crate::support::{Host, PluginDir, in_own_process};

struct Reloads(Engine);

impl Control for Reloads {
    fn reload(&self) -> String {
        match self.0.reload() {
            Ok(report) => report.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn a_reload_inside_a_step_is_refused() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["controls"]);
        let second = Duration::from_secs(1);
        let host = Host::new(plugins, |builder| builder.step_timeout(second));
        let control = Reloads(host.engine.clone());
        host.engine.vault().extension().register::<dyn Control, _>("control", control).unwrap();
        let began = Instant::now();
        println!(
            "{:?} after {:?}",
            host.engine.reload().map(|r| r.to_string()).map_err(|e| e.to_string()),
            began.elapsed()
        );
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(1000));
            let plugins = host.engine.snapshot().plugins;
            let versions = plugins.iter().flat_map(|plugin| &plugin.versions);
            let told: Vec<_> =
                versions.map(|info| format!("v{} {:?}", info.version, info.state)).collect();
            let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
            println!("{told:?}, {} mapped, {threads} threads", host.mapped().len());
        }
        std::process::exit(0);
    });
    assert!(!end.output.contains("v2"), "{:?} {}", end.status, end.output);
}
