//! What a reload costs: `cargo bench -p hotswap-benchmarks --bench reloads`.

#[path = "../../it/support/plugins.rs"]
#[allow(dead_code, reason = "the benchmarks use a part of it")]
mod plugins;

use std::{cell::Cell, fs};

use hotswap_benchmarks::{Case, compare};
use hotswap_engine::Engine;
use plugins::PluginDir;

fn main() {
    for unchanged in [0, 1, 10, 50] {
        beside(unchanged);
    }
}

/// Reloads one changed plugin beside so many unchanged ones, against a bare copy, open and close of
/// the same file.
fn beside(unchanged: usize) {
    let dir = PluginDir::of(&["measured"]);
    for number in 0..unchanged {
        // No longer than the name of the fixture, in whose place they are written.
        let name = format!("oth-{number:02}");
        dir.write(&name, &plugins::renamed("by-hand", &name));
    }
    let engine = Engine::builder(dir.path()).build().expect("make an engine");
    engine.load(()).expect("load the plugins");
    let artifacts = [plugins::revision("measured", 2), plugins::revision("measured", 1)];
    let bare = tempfile::tempdir().expect("make a directory");
    let (copied, reloaded) = (Cell::new(0_usize), Cell::new(0_usize));
    let title = format!("one changed plugin beside {unchanged} unchanged");
    compare(
        &title,
        &mut [
            Case::new("write, copy, open and close the file", || {
                let count = copied.replace(copied.get() + 1);
                let (from, to) = (bare.path().join("from.so"), bare.path().join(count.to_string()));
                fs::write(&from, &artifacts[count % 2]).expect("write a file");
                fs::copy(&from, &to).expect("copy a file");
                // SAFETY: the library's constructors are std's, and nothing of it is called.
                let library = unsafe { libloading::Library::new(&to) }.expect("open the library");
                library.close().expect("close the library");
                fs::remove_file(&to).expect("remove a file");
            }),
            Case::new("write the file and `Engine::reload`", || {
                let count = reloaded.replace(reloaded.get() + 1);
                dir.write("measured", &artifacts[count % 2]);
                engine.reload().expect("a reload")
            }),
        ],
    );
}
