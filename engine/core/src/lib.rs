//! Reloads native Rust code in a running program. A host depends on this crate.
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
//! An **artifact** is the shared library that `hotswap build` makes of a plugin. One load of a plugin is a
//! **version** (`world v3`). A consistent set of versions is a **generation**; one of them serves. A
//! **target** names a plugin or one of its versions: see [`PluginName`](protocol::PluginName).
//!
//! | to | see |
//! |---|---|
//! | load, reload, roll back, free, shut down | [`Engine`] |
//! | run under a console without any setting | [`Engine::from_env`] |
//! | set up directories, timeouts, callbacks, a runtime, a console | [`EngineBuilder`] |
//! | call a function by name, and hold a consistent set of versions | [`Generation`], [`LoadedPlugin`], [`args!`] |
//! | call a function with Rust types, at nearly the cost of a plain call | [`Engine::func`], [`Func`] |
//! | call an `async` function with Rust types | [`Engine::async_func`], [`AsyncFunc`] |
//! | run queued jobs with the newest code | [`Engine::live_funcs`], [`LiveFuncs`] |
//! | share values and objects with plugins | [`Engine::vault`], [`Vault`](plugin::Vault) |
//! | provide objects that plugins import by name | [`EngineBuilder::provide`] |
//! | hand an object, or a stream, to a plugin | [`Leased::new`], [`LeasedStream`](plugin::LeasedStream) |
//! | go back from a version that fails again and again | [`EngineBuilder::guard`], [`Guard`] |
//! | publish a load that breaks the host's own calls | [`EngineBuilder::publish_breaking`] |
//! | give plugins an object of the host's | [`EngineBuilder::extension`], [`Generation::extension`] |
//! | link plugins into the program, for a debugger | [`Engine::builder_static`] |
//! | see what happens | [`Engine::subscribe`], [`Engine::snapshot`] |
//! | let a console attach, and show it the log | [`EngineBuilder::console`], [`console_layer`] |
//! | see what a version leaves on the heap | [`Allocator`] |
//! | free versions whose thread-locals idle threads still have | [`checkpoint`], [`EngineBuilder::wake_threads`] |
//! | read an artifact without loading it | [`artifact`], [`probe`] |
//! | know what went wrong | [`EngineError`], [`CallError`] |

#![cfg_attr(docsrs, feature(doc_cfg))]
// One compiler has compiled everything that crosses: the inspection of artifacts makes sure of that.
#![allow(improper_ctypes_definitions)]

// From the top floor down. Each floor imports only floors below it.

// The facade for hosts.
mod engine;
pub mod probe;

// The socket for consoles.
mod server;

// A load or reload, from the plugin directory to the published generation.
mod load;

// The generation that serves, and the ways to call its functions.
mod serve;

// The end of versions that nothing uses any more.
mod reclaim;

// What plugins and the host share.
mod vault;

// The log that plugins write to, and consoles read.
mod log;

// One load of a plugin, and what keeps it in use.
mod version;

// A library that is open in this process.
mod image;

// The calls under way, by thread.
mod slots;

// What every floor needs.
mod error;
mod event;
mod lock;
mod os;
mod runtime_dir;
mod sync;

pub use engine::{Engine, EngineBuilder, Leftover, ShutdownReport, plugin_dir_from_env};
pub use error::{EngineError, LoadCause, Step};
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
    typed::{AsyncFunc, Func, FuncCall, LiveFuncs, Signature},
};
pub use server::ConsoleSocket;
pub use version::{guard::Guard, threads::checkpoint};

/// What the Go project calls a [`Generation`].
pub type PluginManager = Generation;

/// The arguments of a dynamic call: `args!["Ada", 2]`.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        &[$($crate::Value::from($arg)),*] as &[$crate::Value]
    };
}
