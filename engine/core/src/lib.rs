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

// From the top floor down: each imports only what stands below it.

// The facade: what a host holds.
mod engine;
pub mod probe;

// What consoles ask for.
mod server;

// A load or reload, from the plugin directory to the published generation.
mod load;

// The generation that serves, and the ways to call it.
mod serve;

// What nothing uses any more ends.
mod reclaim;

// What plugins and host share.
mod vault;

// The log that plugins write to, and consoles read.
mod log;

// One load of a plugin, and what keeps it in use.
mod version;

// A library, open in this process.
mod image;

// The calls that are under way, by thread.
mod slots;

// What every floor needs.
mod error;
mod event;
mod runtime_dir;
mod sync;

pub use engine::{Engine, EngineBuilder, ShutdownReport, plugin_dir_from_env};
pub use error::{EngineError, Step};
pub use event::Events;
pub use hotswap_artifact as artifact;
pub use hotswap_plugin::{self as plugin, Data, Leased, StaticPlugin, Value, static_plugins};
pub use hotswap_protocol as protocol;
pub use image::heap::Allocator;
pub use load::earlier::store_dir_from_env;
pub use log::{ConsoleLayer, console_layer};
pub use serve::{
    error::CallError,
    generation::{Generation, LoadedPlugin, Registered},
    typed::{Func, LiveFuncs, Signature},
};
pub use server::ConsoleSocket;
pub use version::threads::checkpoint;

/// What the Go project calls a [`Generation`].
pub type PluginManager = Generation;

/// The arguments of a dynamic call: `args!["Ada", 2]`.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        &[$($crate::Value::from($arg)),*] as &[$crate::Value]
    };
}
