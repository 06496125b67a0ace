//! The cost of a reload: `cargo bench -p hotswap-benchmarks --bench reloads`.

#[path = "../../it/support/plugins.rs"]
#[allow(dead_code, reason = "the benchmarks use a part of it")]
mod plugins;

use std::{
    cell::{Cell, RefCell},
    fs,
    hint::black_box,
};

use hotswap_benchmarks::{Case, compare, quantile, with_unit};
use hotswap_engine::{Engine, protocol::ReloadReport};
use plugins::PluginDir;

fn main() {
    for unchanged in [0, 1, 10, 50] {
        compare_beside_unchanged(unchanged);
    }
    for mebibytes in [0, 1024] {
        compare_with_trial(mebibytes);
    }
}

/// Compares reloads of a plugin with a constructor, which is opened in a process of its own first, and of one
/// without. The host has this much other memory: the more there is, the longer a fork takes.
fn compare_with_trial(mebibytes: usize) {
    let memory = vec![1_u8; mebibytes << 20];
    let plugins = ["measured", "crashes-on-open"].map(|plugin| {
        let dir = PluginDir::of(&[plugin]);
        let engine = Engine::builder(dir.path()).build().expect("make an engine");
        engine.load(()).expect("load the plugin");
        let artifacts = [plugins::revision(plugin, 2), plugins::revision(plugin, 1)];
        (plugin, dir, engine, artifacts)
    });
    let phases = [(); 2].map(|()| RefCell::new(Phases::default()));
    let mut cases: Vec<_> = plugins
        .iter()
        .zip(&phases)
        .zip(["opened at once", "tried first"])
        .map(|(((plugin, dir, engine, artifacts), phases), name)| {
            let written = Cell::new(0_usize);
            Case::prepared(
                name,
                move || {
                    let count = written.replace(written.get() + 1);
                    dir.write(plugin, &artifacts[count % 2]);
                },
                || phases.borrow_mut().add(&engine.reload().expect("a reload")),
            )
        })
        .collect();
    compare(&format!("a reload in a host with {mebibytes} MiB"), &mut cases);
    drop(cases);
    phases.into_iter().for_each(|phases| phases.into_inner().print());
    black_box(memory);
}

/// Compares a reload of one changed plugin beside this many unchanged ones with a bare copy, open and close of
/// the same file.
fn compare_beside_unchanged(unchanged: usize) {
    let dir = PluginDir::of(&["measured"]);
    for number in 0..unchanged {
        // No longer than the name of the fixture, in whose place they are written.
        let name = format!("oth-{number:02}");
        dir.write(&name, &plugins::renamed("by-hand", &name));
    }
    let engine = Engine::builder(dir.path()).build().expect("make an engine");
    engine.load(()).expect("load the plugins");
    let artifacts = [plugins::revision("measured", 2), plugins::revision("measured", 1)];
    let bare = PluginDir::empty();
    let copy = bare.path().join("copy");
    let (copied, reloaded) = (Cell::new(0_usize), Cell::new(0_usize));
    let write = |dir: &PluginDir, count: &Cell<usize>| {
        let count = count.replace(count.get() + 1);
        dir.write("measured", &artifacts[count % 2]);
    };
    let phases = RefCell::new(Phases::default());
    let title = format!("one changed plugin beside {unchanged} unchanged");
    compare(
        &title,
        &mut [
            Case::prepared(
                "copy, open and close the file",
                || {
                    write(&bare, &copied);
                    let _ = fs::remove_file(&copy);
                },
                || {
                    fs::copy(bare.file("measured"), &copy).expect("copy a file");
                    // SAFETY: the library's constructors are std's, and nothing of it is called.
                    let library = unsafe { libloading::Library::new(&copy) };
                    library.expect("open the library").close().expect("close the library");
                },
            ),
            Case::prepared(
                "`Engine::reload`",
                || write(&dir, &reloaded),
                || phases.borrow_mut().add(&engine.reload().expect("a reload")),
            ),
        ],
    );
    phases.into_inner().print();
}

/// The time of each phase of the reloads, and the time outside of the phases.
#[derive(Default)]
struct Phases(Vec<(String, Vec<f64>)>);

impl Phases {
    fn add(&mut self, report: &ReloadReport) {
        let in_phases: u64 = report.phases.iter().map(|phase| phase.elapsed_us).sum();
        for phase in &report.phases {
            self.add_one(phase.phase.as_str(), phase.elapsed_us);
        }
        self.add_one("the rest", report.elapsed_us.saturating_sub(in_phases));
    }

    fn add_one(&mut self, name: &str, elapsed_us: u64) {
        let nanos = elapsed_us as f64 * 1e3;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, all)) => all.push(nanos),
            None => self.0.push((name.to_owned(), vec![nanos])),
        }
    }

    fn print(&self) {
        println!("\n| phase of the reload | median |\n|---|---|");
        for (name, nanos) in &self.0 {
            println!("| {name} | {} |", with_unit(quantile(nanos, 500)));
        }
    }
}
