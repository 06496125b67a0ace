//! Tests of Hotswap through its public interface: a real host loads real plugins.

/// The host has its own allocator. Values that cross in these tests are allocated on one side and freed on the
/// other. The allocator also counts the heap of each version.
#[cfg(not(asan))]
#[global_allocator]
static ALLOCATOR: hotswap_engine::Allocator<Counting<mimalloc::MiMalloc>> =
    hotswap_engine::Allocator::over(Counting(mimalloc::MiMalloc));

/// AddressSanitizer checks only the system's allocator.
#[cfg(asan)]
#[global_allocator]
static ALLOCATOR: hotswap_engine::Allocator<Counting<std::alloc::System>> =
    hotswap_engine::Allocator::over(Counting(std::alloc::System));

mod allocations;
mod support;

mod asynchronous;
mod bytes;
mod calls;
mod carried_sockets;
mod carrying;
mod compatibility;
mod contract;
mod dependencies;
mod editing;
mod ending;
mod examples;
mod expectations;
mod facts;
mod fleet;
mod foreign_ways;
mod freeing;
mod fuzzed;
mod guard;
mod handing_over;
mod hostile;
mod keeping;
mod left_open;
mod linked;
mod live;
mod load;
mod objects;
#[cfg(target_arch = "x86_64")]
mod patched_saves;
#[cfg(target_arch = "x86_64")]
mod patches;
mod pins;
mod places;
mod probe;
mod projects;
mod real_crates;
mod refused;
mod reloading;
mod rollback;
mod scaffold;
mod settings;
mod socket;
mod steps;
mod stress;
mod terminal;
mod tidy;
mod trial;
mod typed;
mod unhooked;
mod vault;
mod workspaces;

use allocations::Counting;
