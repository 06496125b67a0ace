//! What the host gives to the engine is dropped with it: registrations, values, the Extension.

use std::sync::mpsc::{Sender, channel};

use hotswap_engine::Engine;
use sample_api::Animal;

use crate::support::PluginDir;

/// Tells when it is dropped.
#[derive(serde::Serialize)]
struct Tells(&'static str, #[serde(skip)] Sender<&'static str>);

impl Animal for Tells {
    fn speak(&self, _: u32) -> String {
        String::new()
    }
}

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

#[test]
fn what_the_host_registered_is_dropped_with_the_engine() {
    let plugins = PluginDir::of(&["echo"]);
    let (tell, told) = channel();
    let extension = tell.clone();
    let builder = Engine::builder(plugins.path());
    let builder = builder.extension(move |_: Option<&Tells>| Tells("extension", extension.clone()));
    let engine = builder.build().unwrap();
    engine.load(()).unwrap();
    // Those of the generations before have gone.
    let _ = told.try_iter().count();
    let bear = Tells("bear", tell);
    engine.vault().extension().register::<dyn Animal, _>("bear", bear).unwrap();
    drop(engine);
    let mut told: Vec<_> = told.iter().collect();
    told.sort_unstable();
    assert_eq!(told, ["bear", "extension"]);
}
