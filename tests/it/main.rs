//! What Hotswap does, seen through its public surface: real plugins, loaded by a real host.

mod support;

mod asynchronous;
mod calls;
mod carrying;
mod contract;
mod dependencies;
mod editing;
mod ending;
mod freeing;
mod live;
mod refused;
mod reloading;
mod rollback;
mod settings;
mod socket;
mod terminal;
mod typed;
mod vault;
