//! What hostile or careless code tries; each test stands for a kind of fault.

mod c11_threads;
mod clock_set_back;
mod console_path;
mod discriminants;
mod durations;
mod end_of_a_failed_load;
mod fini_array;
mod foreign_library;
mod growing;
mod host_registration;
mod import_target;
mod looking;
mod modify_moves_out;
mod panicking_waker;
mod pthread_exit;
mod publish_waits;
mod readers;
mod reentrant;
mod reload_in_step;
mod retired_set;
mod rollback_unchecked;
mod runtime_dir;
mod staging_dir;
