//! Listeners for the plugin `chats`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use chat_api::{Chat, Listener};
use hotswap_engine::Leased;

use super::Host;

/// A listener that is counted while it lives.
#[derive(Clone)]
pub struct Ear {
    name: &'static str,
    heard: Arc<Mutex<Vec<String>>>,
    alive: Arc<AtomicUsize>,
}

impl Ear {
    /// The first listener with this name.
    pub fn new(name: &'static str) -> Self {
        let alive = Arc::new(AtomicUsize::new(1));
        Self { name, heard: Arc::default(), alive }
    }

    /// Another listener with the same name, which records into the same text.
    pub fn another(&self) -> Self {
        self.alive.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    /// The number of living listeners.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// What any of them has heard.
    pub fn heard(&self) -> String {
        self.heard.lock().unwrap().join(", ")
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener for Ear {
    fn hear(&self, line: String) {
        assert_ne!(line, "Ada: bad words", "not listened to");
        self.heard.lock().unwrap().push(line);
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }
}

/// The export of `chats`.
pub fn chat(host: &Host) -> Leased<dyn Chat> {
    host.engine.plugin("chats").unwrap().export::<dyn Chat>().unwrap().unwrap()
}
