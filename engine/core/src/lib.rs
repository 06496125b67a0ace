//! What a host depends on: the engine that loads, serves, replaces and frees plugins.
//!
//! ```no_run
//! use hotswap_engine::{Engine, args};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder("plugins").build()?;
//! engine.load(())?;
//! let greeting: String = engine.current().plugin("world")?.invoke("greet", args!["Ada", 2])?;
//! println!("{greeting}");
//! // … `world` was edited and built …
//! println!("{}", engine.reload()?); // `world: ok`
//! # Ok(())
//! # }
//! ```
//!
//! The modules follow a plugin's way: an artifact is found, staged, inspected and opened; its
//! lifecycle steps run; it is published and called; it retires, and is freed.

// Everything that crosses is compiled by one compiler, which the gate makes sure of.
#![allow(improper_ctypes_definitions)]

mod engine;
mod error;
mod event;

pub mod artifact;
mod call;
mod dependency;
mod find;
mod func;
mod future;
mod history;
mod image;
mod lifecycle;
mod linked;
mod live;
mod manager;
pub mod probe;
mod reload;
mod stage;

mod counts;
mod current;
mod ending;
mod heap;
mod holders;
mod lease;
mod reaper;
mod slots;
mod sync;
mod thread;
mod version;

mod extension;
mod vault;

mod console;
mod host_table;
mod log;
mod runtime;

#[cfg(feature = "tokio")]
mod tokio_workers;

pub use call::CallError;
pub use console::ConsoleSocket;
pub use engine::{Engine, EngineBuilder, ShutdownReport, plugin_dir_from_env};
pub use error::{EngineError, Step};
pub use event::Events;
pub use func::{Func, LiveFuncs, Signature};
pub use heap::Allocator;
pub use history::store_dir_from_env;
pub use hotswap_plugin::{self as plugin, Data, Leased, StaticPlugin, Value, static_plugins};
pub use hotswap_protocol as protocol;
pub use log::{ConsoleLayer, console_layer};
pub use manager::{LoadedPlugin, PluginManager, Registered};
pub use thread::checkpoint;

/// The arguments of a dynamic call: `args!["Ada", 2]`.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        &[$($crate::Value::from($arg)),*] as &[$crate::Value]
    };
}
