//! What hostile or careless code tries; each test stands for a kind of fault.

mod clock_set_back;
mod console_path;
mod constructors;
mod discriminants;
mod durations;
mod end_of_a_failed_load;
mod environment;
mod finalisers;
mod foreign_library;
mod growing;
mod host_registration;
mod import_target;
mod looking;
mod modify_moves_out;
mod opened_libraries;
mod panicking_waker;
mod readers;
mod reentrant;
mod rollback_unchecked;
mod runtime_dir;
mod shared_runtime;
mod signals;
mod staging_dir;
mod thread_ends;
mod unseen_ways;
mod writes;
