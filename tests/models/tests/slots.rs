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

    pub use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering, fence};

    thread_local! {
        /// Whether the barriers are left out, in the models of this test.
        pub static WITHOUT_BARRIERS: Cell<bool> = const { Cell::new(false) };
    }

    pub fn light_barrier(must_fence: bool) {
        if must_fence && !WITHOUT_BARRIERS.get() {
            fence(Ordering::SeqCst);
        }
    }

    pub fn heavy_barrier() -> bool {
        light_barrier(true);
        true
    }
}

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::{
    cell::UnsafeCell,
    model::Builder,
    sync::{Arc, Mutex, Notify},
    thread,
};
use protocol::{ThreadSlots, is_held};
use sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, WITHOUT_BARRIERS, fence};

/// The flag in the count of entries that closes a version, as in `LeaseCounts`: nobody can enter it any more.
const CLOSED: usize = 1 << 20;

/// Two generations, each with a version of its own. Nothing is really freed: freeing writes a cell that using
/// reads. So loom finds a use after the free, and a free that is not ordered after all uses.
struct World {
    threads: [ThreadSlots; 2],
    published: AtomicPtr<Generation>,
    /// The number of the published generation, changed before the pointer.
    number: AtomicUsize,
    known: Known,
    generations: [Generation; 2],
    /// The number of leases of each version. The first lease is that of its generation.
    entries: [AtomicUsize; 2],
    /// Whether the first version drains: nobody can enter it, and destructors may run.
    is_draining: AtomicBool,
    /// How many threads have destructors of the first version to run.
    pinned: Mutex<usize>,
    /// Notified when a thread leaves a slot for which another one waits, when the last lease ends, and when the
    /// last destructor has run.
    changed: Notify,
}

/// What `Known` of the engine remembers of a function, each field with the index of its generation. The first
/// generation has been remembered.
struct Known {
    /// The number of the generation, which is its index plus one.
    generation: AtomicUsize,
    version: AtomicUsize,
    note: AtomicUsize,
}

struct Generation {
    number: usize,
    memory: Memory,
    version: Memory,
}

/// Memory that may be freed.
struct Memory(UnsafeCell<bool>);

impl Memory {
    fn new() -> Self {
        Self(UnsafeCell::new(false))
    }

    /// Uses it. Loom reports a free at the same time.
    fn read(&self) {
        self.0.with(|is_freed| {
            // SAFETY: loom checks that nobody writes meanwhile.
            let is_freed = unsafe { *is_freed };
            assert!(!is_freed, "the value was used after it was freed");
        });
    }

    /// Frees it. Loom reports a use at the same time.
    fn free(&self) {
        // SAFETY: loom checks that nobody reads or writes meanwhile.
        self.0.with_mut(|is_freed| unsafe { *is_freed = true });
    }

    /// Whether it was freed, as seen when all threads have ended.
    fn is_freed(&self) -> bool {
        // SAFETY: all threads that write have ended.
        self.0.with(|is_freed| unsafe { *is_freed })
    }
}

impl Generation {
    fn new(number: usize) -> Self {
        Self { number, memory: Memory::new(), version: Memory::new() }
    }
}

impl World {
    fn new() -> Arc<Self> {
        let world = Arc::new(Self {
            threads: [ThreadSlots::new(), ThreadSlots::new()],
            published: AtomicPtr::new(std::ptr::null_mut()),
            number: AtomicUsize::new(1),
            known: Known {
                generation: AtomicUsize::new(1),
                version: AtomicUsize::new(0),
                note: AtomicUsize::new(0),
            },
            generations: [Generation::new(0), Generation::new(1)],
            entries: [AtomicUsize::new(1), AtomicUsize::new(1)],
            is_draining: AtomicBool::new(false),
            pinned: Mutex::new(0),
            changed: Notify::new(),
        });
        world.published.store(world.address(0), Ordering::SeqCst);
        world
    }

    fn address(&self, generation: usize) -> *mut Generation {
        std::ptr::from_ref(&self.generations[generation]).cast_mut()
    }

    fn version(&self, number: usize) -> &Memory {
        &self.generations[number].version
    }

    fn address_of_version(&self, number: usize) -> usize {
        std::ptr::from_ref(self.version(number)) as usize
    }

    /// A call through the generation that is published, as `Current::enter` makes it.
    fn call(&self, thread: usize, depth: usize, within: impl FnOnce(usize)) {
        let slots = &self.threads[thread];
        let slot = slots.slot(depth);
        let generation = slots.protect(slot, &self.published);
        let number = usize::from(generation == self.address(1));
        let generation = &self.generations[number];
        generation.memory.read();
        assert_eq!(generation.number, number);
        slot.hold(self.address_of_version(number), 0);
        self.version(number).read();
        within(number);
        self.version(number).read();
        self.leave(thread, depth);
    }

    fn leave(&self, thread: usize, depth: usize) {
        let slots = &self.threads[thread];
        let slot = slots.slot(depth);
        if slots.leave(slot) && slots.take_wake_request(slot) {
            self.changed.notify();
        }
    }

    /// A call of a version that was found earlier, as `Known::enter` makes it. Returns whether its generation
    /// still served.
    fn call_known(&self, thread: usize) -> bool {
        let slots = &self.threads[thread];
        let generation = self.known.generation.load(Ordering::Acquire);
        let version = self.known.version.load(Ordering::Relaxed);
        let note = self.known.note.load(Ordering::Relaxed);
        slots.slot(0).try_hold(self.address_of_version(version), note, slots.must_fence());
        fence(Ordering::Acquire);
        let still_serves = generation == self.number.load(Ordering::Acquire);
        if still_serves {
            assert_eq!(
                (version, note),
                (generation - 1, generation - 1),
                "fields of two generations"
            );
            self.version(version).read();
        }
        self.leave(thread, 0);
        still_serves
    }

    /// Remembers the version of the second generation, as `Known::set` does.
    fn remember(&self) {
        fence(Ordering::Release);
        self.known.version.store(1, Ordering::Relaxed);
        self.known.note.store(1, Ordering::Relaxed);
        self.known.generation.store(2, Ordering::Release);
    }

    fn is_held(&self, address: usize) -> bool {
        is_held(|| &self.threads[..], address)
    }

    /// Publishes the second generation, and frees the first and its version as the reaper does.
    fn replace(&self) {
        self.number.store(2, Ordering::Release);
        self.published.swap(self.address(1), Ordering::AcqRel);
        self.wait_until_left(self.address(0) as usize);
        self.generations[0].memory.free();
        // The generation's lease of the version ends with the generation.
        self.entries[0].fetch_sub(1, Ordering::Release);
        while !self.try_free_version() {
            self.changed.wait();
        }
    }

    /// Checks in the same order as `Reaper::advance`: no lease, no slot, closed.
    fn try_free_version(&self) -> bool {
        let entries = &self.entries[0];
        if entries.load(Ordering::Acquire) != 0 || self.is_held(self.address_of_version(0)) {
            return false;
        }
        let closed = entries.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        if closed.is_ok() {
            self.version(0).free();
        }
        closed.is_ok()
    }

    /// Leaves a destructor on a thread that is in a call, as `with_entry` in `thread.rs` does.
    fn pin(&self, thread: usize) {
        *self.pinned.lock().unwrap() += 1;
        if self.is_draining.load(Ordering::Acquire) {
            self.threads[thread].request_checkpoint();
        }
    }

    /// Runs the destructor, which is code of the version, and notifies if it was the last.
    fn unpin(&self) {
        self.version(0).read();
        *self.pinned.lock().unwrap() -= 1;
        if self.is_draining.load(Ordering::Acquire) {
            self.changed.notify();
        }
    }

    /// Lets the destructors of the first version run, and frees it then, as the reaper does.
    fn drain_and_free(&self) {
        self.is_draining.swap(true, Ordering::AcqRel);
        self.threads.iter().for_each(ThreadSlots::request_checkpoint);
        while *self.pinned.lock().unwrap() > 0 {
            self.changed.wait();
        }
        self.version(0).free();
    }

    fn wait_until_left(&self, address: usize) {
        while self.is_held(address) {
            self.changed.wait();
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_call_during_a_reload_runs_mapped_code_and_the_version_is_freed() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || caller.call(0, 0, |_| ()));
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn a_nested_call_and_the_outer_call_each_hold_their_own_slot() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || caller.call(0, 0, |_| caller.call(0, 1, |_| ())));
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn a_call_of_a_known_function_runs_only_while_its_generation_serves() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || {
            if !caller.call_known(0) {
                caller.call(0, 0, |_| ());
            }
        });
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn a_call_of_a_known_function_never_mixes_what_two_generations_have_noted() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let world = World::new();
        let (caller, setter) = (world.clone(), world.clone());
        let caller = thread::spawn(move || caller.call_known(0));
        let setter = thread::spawn(move || {
            setter.call(1, 0, |number| {
                if number == 1 {
                    setter.remember();
                }
            });
        });
        world.replace();
        caller.join().unwrap();
        setter.join().unwrap();
        assert!(world.version(0).is_freed());
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
            thread::spawn(move || world.call(number, 0, |_| ()))
        });
        world.replace();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn a_lease_taken_in_a_call_keeps_the_version_until_it_ends() {
    check(|| {
        let world = World::new();
        let leased = Arc::new(Mutex::new(false));
        let (caller, taken) = (world.clone(), leased.clone());
        let caller = thread::spawn(move || {
            caller.call(0, 0, |number| {
                // Only the first version is modelled here; the other one is never freed.
                if number == 0 {
                    caller.entries[0].fetch_add(1, Ordering::Relaxed);
                    *taken.lock().unwrap() = true;
                }
            });
            if *taken.lock().unwrap() {
                caller.version(0).read();
                if caller.entries[0].fetch_sub(1, Ordering::Release) == 1 {
                    caller.changed.notify();
                }
            }
        });
        world.replace();
        caller.join().unwrap();
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn a_destructor_runs_on_its_thread_before_the_version_is_freed() {
    check(|| {
        let world = World::new();
        let caller = world.clone();
        let caller = thread::spawn(move || {
            let mut has_destructor = false;
            caller.call(0, 0, |number| {
                if number == 0 {
                    caller.pin(0);
                    has_destructor = true;
                }
            });
            // The thread reaches a checkpoint, and then ends.
            for is_end in [false, true] {
                let may_run = is_end || caller.threads[0].take_checkpoint_request();
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
        assert!(world.version(0).is_freed());
    });
}

#[test]
fn without_the_barriers_a_freed_version_is_entered() {
    WITHOUT_BARRIERS.set(true);
    let failed = catch_unwind(AssertUnwindSafe(|| {
        check(|| {
            let world = World::new();
            let caller = world.clone();
            let caller = thread::spawn(move || caller.call(0, 0, |_| ()));
            world.published.swap(world.address(1), Ordering::AcqRel);
            if !world.is_held(world.address(0) as usize) {
                world.generations[0].memory.free();
                if !world.is_held(world.address_of_version(0)) {
                    world.version(0).free();
                }
            }
            caller.join().unwrap();
        });
    }));
    WITHOUT_BARRIERS.set(false);
    assert!(failed.is_err(), "the models do not find the fault that missing barriers cause");
}
