//! The generation that serves, and the ways to call it: by name, by type, and `async`.

// The generation that serves.
pub(crate) mod current;
pub(crate) mod extension;
pub(crate) mod generation;
pub(crate) mod in_use;
pub(crate) mod live;

// The ways to call its functions.
pub(crate) mod asynchronous;
pub(crate) mod by_name;
pub(crate) mod error;
pub(crate) mod typed;
