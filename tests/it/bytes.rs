//! The feature `bytes` of `hotswap-plugin`, in a project outside the repository that asks for it.

use crate::support::{Project, repository};

/// Calls a plugin by type, keeps its answer, and prints both again at each line that it reads.
const HOST: &str = r#"use bytes::Bytes;
use hotswap_engine::{ConsoleSocket, Engine, args};
use hotswap_plugin::SharedBytes;

fn main() {
    let engine = Engine::builder("plugins").console(ConsoleSocket::from_env()).build().unwrap();
    engine.load(()).unwrap();
    let framed = engine.func::<fn(SharedBytes) -> SharedBytes>("one", "framed").unwrap();
    let same = engine.func::<fn(SharedBytes) -> SharedBytes>("one", "same").unwrap();
    let request = SharedBytes::from(b"tea".to_vec());
    let kept = framed.call(request.clone()).unwrap();
    let returned = same.call(kept.clone()).unwrap();
    println!("copied={}", returned.as_ptr() != kept.as_ptr());
    let kept = Bytes::from(kept);
    for line in std::io::stdin().lines() {
        let now = framed.call(request.clone()).unwrap();
        let by_name: Vec<u8> = engine.invoke("one", "framed", args![request.to_vec()]).unwrap();
        println!("at {}: {kept:?} {:?} {by_name:?}", line.unwrap(), Bytes::from(now));
    }
}
"#;

const PLUGIN: &str = r#"use bytes::{BufMut as _, Bytes, BytesMut};
use hotswap_plugin::{SharedBytes, prelude::*};

#[derive(Default)]
struct Framed;

#[plugin]
impl Plugin for Framed {}

/// Puts a sign before the bytes.
#[invoke]
fn framed(bytes: SharedBytes) -> SharedBytes {
    let mut framed = BytesMut::new();
    framed.put_u8(b'<');
    framed.put(Bytes::from(bytes));
    framed.freeze().into()
}

#[invoke]
fn same(bytes: SharedBytes) -> SharedBytes {
    bytes
}
"#;

fn project() -> Project {
    let project = Project::empty();
    project.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"one\"]\n");
    let [engine, plugin] = ["core", "plugin"].map(|name| repository().join("engine").join(name));
    let dependencies = format!(
        "bytes = \"1\"\nhotswap-plugin = {{ path = {plugin:?}, features = [\"bytes\"] }}\n"
    );
    let manifest = |name: &str, rest: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\n{dependencies}{rest}"
        )
    };
    let rest = format!(
        "hotswap-engine = {{ path = {engine:?} }}\n\n[package.metadata.hotswap]\n\
         plugins = [\"one\"]\n"
    );
    project.write("app/Cargo.toml", &manifest("app", &rest));
    project.write("app/src/main.rs", HOST);
    project.write("one/Cargo.toml", &manifest("one", ""));
    project.write("one/src/lib.rs", PLUGIN);
    project.build_once("one");
    project
}

#[test]
fn bytes_of_a_freed_version_are_read_cloned_and_dropped() {
    let project = project();
    let mut run = project.run(&[]);
    assert_eq!(run.wait_for_host("copied="), "false");
    run.type_line("first");
    assert_eq!(run.wait_for_host("at first: "), r#"b"<tea" b"<tea" [60, 116, 101, 97]"#);

    project.edit("one/src/lib.rs", "b'<'", "b'>'");
    run.wait_for_event("version_changed", |it| it["version"] == 1 && it["state"] == "freed");
    run.type_line("last");
    assert_eq!(run.wait_for_host("at last: "), r#"b"<tea" b">tea" [62, 116, 101, 97]"#);
}
