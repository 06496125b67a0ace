//! Helpers of the tests: plugins that are built once, their directory, an engine for it, and the programs.

mod build_dir;
mod chat;
mod gate;
mod host;
pub mod many_hosts;
mod nats;
mod numbers;
mod own_process;
mod patching;
mod plugins;
mod process;
mod project;
mod samples;
mod seed;
mod session;
mod workspace;

pub use chat::{Ear, chat};
pub use gate::Gate;
pub use host::{Host, held_by, keep_reason, mapped_files};
pub use many_hosts::ManyHosts;
pub use nats::{NatsServer, program as nats_server};
pub use numbers::Numbers;
pub use own_process::{End, in_own_mounts, in_own_process};
pub use patching::{build_of, code_without_file, patch};
pub use plugins::{PluginDir, artifact, built_with, find, renamed, revision, with_revision};
pub use process::{
    Answer, PATIENCE, Place, Process, cargo, end, get, post, program, repository, succeed,
    target_dir,
};
pub use project::Project;
pub use samples::{host_command, sample, world};
pub use session::Session;
pub use workspace::Workspace;
