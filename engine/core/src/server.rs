//! The socket through which consoles reach the engine; see `hotswap_protocol` for the messages.

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
pub(crate) use listener::Listener;
pub(crate) use pins::{Given, Pins};
pub(crate) use served::Served;
