//! Types that look like plain values, and may not cross.

use hotswap_plugin::Shared;

struct Hasher;

#[derive(Shared)]
struct Hashed {
    map: std::collections::HashMap<u32, u32, Hasher>,
}

#[derive(Shared)]
struct Locked {
    mutex: std::sync::Mutex<std::collections::HashMap<u32, u32>>,
    lock: std::sync::RwLock<u32>,
    once: std::sync::OnceLock<u32>,
    atomic: std::sync::atomic::AtomicU32,
}

#[derive(Shared)]
enum Counted {
    Text(std::sync::Arc<str>),
    Number(std::sync::Arc<u32>),
}

#[derive(Shared)]
struct Points {
    call: fn(u32) -> u32,
    name: std::borrow::Cow<'static, str>,
    object: Box<dyn Send + Sync>,
    text: Box<str>,
}

fn main() {}
