//! Everything that the host gives to the engine is dropped with the engine: registrations, values, the Extension.

use std::sync::mpsc::{Sender, TryRecvError, channel};

use hotswap_engine::{Engine, plugin::Error};
use sample_api::Animal;

use crate::support::{Host, PluginDir};

/// Reports its drop.
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
fn registrations_of_the_host_are_dropped_with_the_engine() {
    let plugins = PluginDir::of(&["echo"]);
    let (tell, reported) = channel();
    let extension = tell.clone();
    let builder = Engine::builder(plugins.path());
    let builder = builder.extension(move |_: Option<&Tells>| Tells("extension", extension.clone()));
    let engine = builder.build().unwrap();
    engine.load(()).unwrap();
    // Registrations of earlier generations have been dropped.
    let _ = reported.try_iter().count();
    let bear = Tells("bear", tell);
    engine.vault().extension().register::<dyn Animal, _>("bear", bear).unwrap();
    drop(engine);
    let mut reported: Vec<_> = reported.iter().collect();
    reported.sort_unstable();
    assert_eq!(reported, ["bear", "extension"]);
}

#[test]
fn a_registration_of_a_callback_lives_as_long_as_it_is_in_use() {
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder);
    let (tell, reported) = channel();
    let mut held = None;
    let mut bear = Some(Tells("bear", tell));
    let refused = host.engine.reload_with((), |new, _| {
        let extension = new.vault().extension();
        extension.register::<dyn Animal, _>("bear", bear.take().unwrap())?;
        held = extension.find::<dyn Animal>("bear")?;
        Err::<(), _>(Error::msg("not now"))
    });
    assert_eq!(refused.unwrap_err().to_string(), "callback: not now");
    // The values of the load are dropped with its last version.
    while !host.mapped().is_empty() {
        hotswap_engine::checkpoint();
        std::thread::yield_now();
    }
    assert_eq!(reported.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(held.as_ref().unwrap().speak(1), "");
    drop(held);
    assert_eq!(reported.recv(), Ok("bear"));
}
