//! Models of how versions are published, entered, retired, drained and freed: the engine's own
//! protocol (`engine/core/src/slots/protocol.rs`), run in every order that the memory model allows.
//!
//! Loom knows no barrier that one thread makes on all others, so a `SeqCst` fence stands for either
//! side of the pair. The last model leaves them out, and must fail.

#[path = "../../../engine/core/src/slots/protocol.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod protocol;

/// What `engine/core/src/sync.rs` is to the engine.
mod sync {
    use std::cell::Cell;

    use loom::sync::atomic::fence;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

    thread_local! {
        /// Whether the barriers are left out, in the models of this test.
        pub static WITHOUT_BARRIERS: Cell<bool> = const { Cell::new(false) };
    }

    pub fn light_barrier(must_fence: bool) {
        if must_fence && !WITHOUT_BARRIERS.get() {
            fence(Ordering::SeqCst);
        }
    }

    pub fn heavy_barrier() {
        light_barrier(true);
    }
}

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::{
    model::Builder,
    sync::{Arc, Mutex, Notify},
    thread,
};
use protocol::{ThreadSlots, is_held};
use sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, WITHOUT_BARRIERS};

/// A generation that holds one version, and a version that may be freed. Neither is really freed, so
/// that a model sees who uses what is gone.
struct World {
    threads: [ThreadSlots; 2],
    published: AtomicPtr<Generation>,
    /// The number of the published generation, changed after the pointer.
    number: AtomicUsize,
    generations: [Generation; 2],
    /// How many leases of each version there are: its generation's first of all.
    entries: [AtomicUsize; 2],
    /// Whether the first version drains: nobody can enter it, and destructors may run.
    is_draining: AtomicBool,
    /// How many threads have destructors of the first version to run.
    pinned: Mutex<usize>,
    /// Told when a thread that was asked for attention left a slot, or ran its last destructor.
    attended: Notify,
}

struct Generation {
    number: usize,
    is_freed: AtomicBool,
    /// Its version, by number.
    version: Version,
}

struct Version {
    is_freed: AtomicBool,
    calls: AtomicUsize,
}

impl Generation {
    fn new(number: usize) -> Self {
        let version = Version { is_freed: AtomicBool::new(false), calls: AtomicUsize::new(0) };
        Self { number, is_freed: AtomicBool::new(false), version }
    }
}

impl World {
    fn new() -> Arc<Self> {
        let world = Arc::new(Self {
            threads: [ThreadSlots::new(), ThreadSlots::new()],
            published: AtomicPtr::new(std::ptr::null_mut()),
            number: AtomicUsize::new(1),
            generations: [Generation::new(0), Generation::new(1)],
            entries: [AtomicUsize::new(1), AtomicUsize::new(1)],
            is_draining: AtomicBool::new(false),
            pinned: Mutex::new(0),
            attended: Notify::new(),
        });
        world.published.store(world.address(0), Ordering::SeqCst);
        world
    }

    fn address(&self, generation: usize) -> *mut Generation {
        std::ptr::from_ref(&self.generations[generation]).cast_mut()
    }

    fn version(&self, number: usize) -> &Version {
        &self.generations[number].version
    }

    fn address_of_version(&self, number: usize) -> usize {
        std::ptr::from_ref(self.version(number)) as usize
    }

    /// A call through the generation that is published, as `Current::enter` makes it.
    fn call(&self, thread: usize, slot: usize, within: impl FnOnce()) {
        let slots = &self.threads[thread];
        let generation = slots.protect(slot, &self.published);
        let number = usize::from(generation == self.address(1));
        let generation = &self.generations[number];
        assert!(!generation.is_freed.load(Ordering::Relaxed), "a freed generation was entered");
        assert_eq!(generation.number, number);
        slots.hold(slot, self.address_of_version(number), 0);
        self.run(number);
        within();
        self.run(number);
        if slots.leave(slot) && slots.take_attention() {
            self.attended.notify();
        }
    }

    /// A call of a version that was found in the first generation before, as `Known::enter` makes it;
    /// says whether the generation still served.
    fn call_known(&self, thread: usize) -> bool {
        let slots = &self.threads[thread];
        slots.try_hold(0, self.address_of_version(0), 0);
        let still_serves = self.number.load(Ordering::Acquire) == 1;
        if still_serves {
            self.run(0);
        }
        if slots.leave(0) && slots.take_attention() {
            self.attended.notify();
        }
        still_serves
    }

    /// The code of a version.
    fn run(&self, number: usize) {
        let version = self.version(number);
        assert!(!version.is_freed.load(Ordering::Relaxed), "a freed version was running");
        version.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn is_held(&self, address: usize) -> bool {
        is_held(|| &self.threads[..], address)
    }

    /// Publishes the second generation, and frees the first and its version as the reaper does.
    fn replace(&self) {
        self.published.swap(self.address(1), Ordering::AcqRel);
        self.number.store(2, Ordering::Release);
        self.wait_until_left(self.address(0) as usize);
        self.generations[0].is_freed.store(true, Ordering::Relaxed);
        // With the generation its lease of the version ends.
        self.entries[0].fetch_sub(1, Ordering::Release);
        self.free_version();
    }

    fn free_version(&self) {
        if self.entries[0].load(Ordering::Acquire) != 0 {
            return;
        }
        self.wait_until_left(self.address_of_version(0));
        self.version(0).is_freed.store(true, Ordering::Relaxed);
    }

    /// Leaves a destructor on a thread that is in a call, as `with_entry` in `thread.rs` does.
    fn pin(&self, thread: usize) {
        *self.pinned.lock().unwrap() += 1;
        if self.is_draining.load(Ordering::Acquire) {
            self.threads[thread].ask_for_attention();
        }
    }

    /// Runs the destructor, which is code of the version, and tells if it was the last.
    fn unpin(&self) {
        assert!(!self.version(0).is_freed.load(Ordering::Relaxed), "a destructor was gone");
        *self.pinned.lock().unwrap() -= 1;
        if self.is_draining.load(Ordering::Acquire) {
            self.attended.notify();
        }
    }

    /// Lets the destructors of the first version run, and frees it then, as the reaper does.
    fn drain_and_free(&self) {
        self.is_draining.swap(true, Ordering::AcqRel);
        self.threads.iter().for_each(ThreadSlots::ask_for_attention);
        while *self.pinned.lock().unwrap() > 0 {
            self.attended.wait();
        }
        self.version(0).is_freed.store(true, Ordering::Relaxed);
    }

    fn wait_until_left(&self, address: usize) {
        while self.is_held(address) {
            self.attended.wait();
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_call_beside_a_reload_runs_what_is_mapped_and_the_version_is_freed() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || caller.call(0, 0, || ()));
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn a_nested_call_holds_its_own_slot_and_the_outer_one_its() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || caller.call(0, 0, || caller.call(0, 1, || ())));
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn a_call_of_a_function_that_is_known_runs_only_while_its_generation_serves() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || {
            if !caller.call_known(0) {
                caller.call(0, 0, || ());
            }
        });
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn two_threads_that_call_both_end_before_the_version_is_freed() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let world = World::new();
        let callers = [0, 1].map(|number| {
            let world = world.clone();
            thread::spawn(move || world.call(number, 0, || ()))
        });
        world.replace();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn a_lease_taken_in_a_call_keeps_the_version_until_it_ends() {
    check(|| {
        let world = World::new();
        let leased = Arc::new(Mutex::new(false));
        let (caller, taken) = (world.clone(), leased.clone());
        let caller = thread::spawn(move || {
            caller.call(0, 0, || {
                // Only the first version is of interest; the other is never freed here.
                if caller.published.load(Ordering::Relaxed) == caller.address(0) {
                    caller.entries[0].fetch_add(1, Ordering::Relaxed);
                    *taken.lock().unwrap() = true;
                }
            });
            if *taken.lock().unwrap() {
                assert!(!caller.version(0).is_freed.load(Ordering::Relaxed), "freed while leased");
                if caller.entries[0].fetch_sub(1, Ordering::Release) == 1 {
                    caller.free_version();
                }
            }
        });
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn a_destructor_runs_on_its_thread_before_the_version_is_freed() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || {
            let mut has_destructor = false;
            caller.call(0, 0, || {
                if caller.published.load(Ordering::Relaxed) == caller.address(0) {
                    caller.pin(0);
                    has_destructor = true;
                }
            });
            // A checkpoint, and then the thread's end.
            for is_end in [false, true] {
                let may_run = is_end || caller.is_draining.load(Ordering::Acquire);
                if has_destructor && may_run {
                    caller.unpin();
                    has_destructor = false;
                }
            }
        });
        world.published.swap(world.address(1), Ordering::AcqRel);
        world.wait_until_left(world.address(0) as usize);
        world.wait_until_left(world.address_of_version(0));
        world.drain_and_free();
        caller.join().unwrap();
        assert!(world.version(0).is_freed.load(Ordering::Relaxed));
    });
}

#[test]
fn without_the_barriers_a_freed_version_is_entered() {
    WITHOUT_BARRIERS.set(true);
    let failed = catch_unwind(AssertUnwindSafe(|| {
        check(|| {
            let world = World::new();
            let caller = world.clone();
            let caller = thread::spawn(move || caller.call(0, 0, || ()));
            world.published.swap(world.address(1), Ordering::AcqRel);
            if !world.is_held(world.address(0) as usize) {
                world.generations[0].is_freed.store(true, Ordering::Relaxed);
                if !world.is_held(world.address_of_version(0)) {
                    world.version(0).is_freed.store(true, Ordering::Relaxed);
                }
            }
            caller.join().unwrap();
        });
    }));
    WITHOUT_BARRIERS.set(false);
    let failure = failed.expect_err("the model did not see what the barriers are for");
    let message = failure.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(message.contains("a freed"), "it failed otherwise: {message}");
}
