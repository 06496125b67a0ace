//! The console as users see it: the programs, the client, and the screens.

mod cli;
mod client;
mod config;
mod crash;
mod differences;
mod fleet;
mod invoke;
mod json;
mod keys;
mod logs;
mod memory;
mod mouse;
mod pins;
mod plugins;
mod screens;
mod session;
mod support;
mod terminal;
mod timeline;
