//! Releases of Hotswap plugins for many hosts: declare a release, try it on a few hosts, judge it, and promote it
//! or roll it back.
//!
//! A **release** is the whole set of plugins of a host. A **channel** declares which release its hosts run: a
//! base, and during a **rollout** a candidate for some of them. Each host follows the declaration by itself
//! ([`Channel::wants`]), so nothing has to reach all hosts. A rollout is a pure function of its state and of the
//! reports of hosts ([`Rollout::step`]). [`turn`] takes the steps that a rollout in a [`Store`] can take now; any
//! program with access to the store may call it.
//!
//! ```
//! use hotswap_fleet::{Arm, Verdict, judge};
//!
//! let before = Arm { calls: 1000, errors: 1, panics: 0 };
//! assert_eq!(judge(&Arm { calls: 200, errors: 0, panics: 0 }, &before), Verdict::Good);
//! assert_eq!(judge(&Arm { calls: 200, errors: 20, panics: 0 }, &before), Verdict::MoreErrors);
//! assert_eq!(judge(&Arm { calls: 200, errors: 0, panics: 1 }, &before), Verdict::Panics);
//! ```

#![forbid(unsafe_code)]

mod error;
// Documents: declarations and reports.
mod data;
// Rollouts.
mod choice;
mod clock;
mod judgement;
#[cfg(test)]
mod numbers;
mod rollout;
// Storage.
mod backend;
mod directory;
#[cfg(feature = "nats")]
mod nats;
mod signature;
mod store;
mod trust;
mod turn;

pub use backend::{Attachable, Change, Declaration, Glance, OnChange};

pub use choice::{Place, threshold};
pub use clock::Time;
pub use data::{
    Artifact, AuditEntry, Channel, Digest, Fleet, HostReport, HostState, Id, Mark, MoreOfHost,
    Problem, ProblemKind, Release, ReleasePlugin, stratum,
};
pub use directory::{atomic_write, read_document, write_document, write_note};
pub use error::FleetError;
pub use judgement::{Arm, Histogram, Verdict, is_slower, judge};
#[cfg(feature = "nats")]
pub use nats::Server;
pub use rollout::{Before, Desired, Effect, Input, Memory, Order, Pace, Phase, Reason, Rollout};
pub use signature::SecretKey;
pub use store::{Location, Pushed, Store};
pub use trust::{Distrust, Keys};
pub use turn::turn;
