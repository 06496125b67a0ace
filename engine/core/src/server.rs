//! The socket through which a console reaches the engine; see `hotswap_protocol` for what is said.

mod calls;
mod connection;
mod held;
mod listener;
mod outbox;
mod pins;
mod request;
mod served;

pub(crate) use calls::{Call, invoke};
pub use listener::ConsoleSocket;
pub(crate) use listener::{Listener, listen};
pub(crate) use pins::{Given, Pins};
pub(crate) use served::Served;
