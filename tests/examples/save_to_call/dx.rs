//! Dioxus' subsecond, with the tool that makes its patches.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    fixture::{Fixture, with_text, workspaces_dir, write},
    way::{PATIENCE, Source, Way, program},
};

/// `dx serve --hot-patch`, as its documentation describes it for programs that do not use Dioxus otherwise. The
/// changed function lies in the program itself, since functions of other crates are not patched.
pub struct Dx {
    source_text: String,
    source: Source,
    /// The file into which the program writes each new answer.
    answer: PathBuf,
    dx: Child,
}

impl Dx {
    pub fn new(fixture: &Fixture) -> Self {
        let dir = workspaces_dir().join(format!("{}-dx", fixture.name));
        let manifest = format!(
            "[workspace]\n[package]\nname = \"app\"\nedition = \"2024\"\n\
             [dependencies]\nsubsecond = \"=0.7.10\"\ndioxus-devtools = \"=0.7.10\"\n{}",
            fixture.dependencies
        );
        write(&dir.join("Cargo.toml"), &manifest);
        fixture.write_packages(&dir);
        let answer = dir.join("target/answer");
        let source_text = format!(
            "{}\
             fn main() {{\n\
                 dioxus_devtools::connect_subsecond();\n\
                 let mut last = String::new();\n\
                 loop {{\n\
                     let text = subsecond::call(|| greet(\"Ada\".to_owned(), 1));\n\
                     if text != last {{\n\
                         std::fs::write({answer:?}, &text).expect(\"write the answer\");\n\
                         last = text;\n\
                     }}\n\
                     std::thread::sleep(std::time::Duration::from_millis(1));\n\
                 }}\n\
             }}\n",
            fixture.library.replace("#[unsafe(no_mangle)]\n", "")
        );
        let source = Source::new(dir.join("src/main.rs"));
        write(&dir.join("src/main.rs"), &with_text(&source_text, "the first text"));
        let _ = fs::remove_file(&answer);
        let dx = program("dx")
            .args(["serve", "--hot-patch", "--interactive", "false", "--open", "false"])
            .current_dir(&dir)
            // The program that it runs ends with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run `dx`, which `cargo install dioxus-cli@0.7.10` installs");
        let mut way = Self { source_text, source, answer, dx };
        way.wait_for("the first text");
        way
    }
}

impl Way for Dx {
    fn name(&self) -> &'static str {
        "`dx serve --hot-patch` 0.7.10"
    }

    fn prepare(&mut self, text: &str) {
        self.source.next = with_text(&self.source_text, text);
    }

    fn save(&mut self, _now: Instant) {
        self.source.save();
    }

    fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        while !fs::read_to_string(&self.answer).is_ok_and(|answer| answer.contains(text)) {
            assert!(begun.elapsed() < PATIENCE, "no answer with {text:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Dx {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.dx), Signal::KILL);
        let _ = self.dx.wait();
    }
}
