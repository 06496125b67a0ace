//! What a version has allocated and nobody has freed: told where the host allocates with
//! [`Allocator`].
//!
//! What an image allocates is freed by whoever has it last, another version or the host, so each block
//! says whose it is: behind its end, where only its allocator looks.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::c_void,
    hint::black_box,
    io,
    mem::MaybeUninit,
    path::PathBuf,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

/// What a freed version has left on the heap is not told if it is less, in bytes: every version leaves as
/// much, since an image's own `std` has some words for each thread that was in it.
pub(crate) const MEANS_NOTHING: u64 = 1024;

/// An allocator for hosts that want to know what each version has on the heap.
///
/// A console then shows of every version how much of what its code allocated nobody has freed yet, the
/// version itself or whoever it was handed to: while it serves, and also after it was freed, when it is
/// mostly what its statics had.
///
/// Each block takes eight bytes more, and what plugins allocate and free is counted in a word of the
/// version, which all its threads write. A version leaves eight bytes for good.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();
/// # fn main() {}
/// ```
///
/// It hands on to the system's allocator, or to the one it is made [`over`](Self::over). In a program that has
/// Rust's standard library from a shared library, as one with a dependency of the crate type `dylib` has, it does
/// no more than that: that library allocates by itself, without telling whose a block is, and what it allocated
/// is freed here.
#[derive(Debug, Default)]
pub struct Allocator<A = System>(A);

impl Allocator {
    /// Allocates from the system.
    pub const fn new() -> Self {
        Self(System)
    }
}

impl<A> Allocator<A> {
    /// Allocates from another allocator.
    pub const fn over(allocator: A) -> Self {
        Self(allocator)
    }
}

/// How much of what a version allocated is there, in bytes. It stays for good: so may the last block.
#[derive(Debug, Default)]
pub(crate) struct HeapUse(AtomicUsize);

/// Whose a block is; none of the host's own. It lies behind the block's last byte.
type BlockOwner = Option<&'static HeapUse>;

thread_local! {
    /// Whose what this thread allocates is.
    static ALLOCATES_FOR: Cell<BlockOwner> = const { Cell::new(None) };
}

impl HeapUse {
    /// For another version; `None` if nobody would count.
    pub fn new() -> BlockOwner {
        static IS_COUNTED: OnceLock<bool> = OnceLock::new();
        let new: &'static Self = IS_COUNTED.get().is_none_or(|counted| *counted).then(leak)?;
        IS_COUNTED.get_or_init(|| new.sees_allocations()).then_some(new)
    }

    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs an allocation for its version.
    pub fn allocate<T>(&'static self, allocate: impl FnOnce() -> T) -> T {
        let before = ALLOCATES_FOR.replace(Some(self));
        let allocated = allocate();
        ALLOCATES_FOR.set(before);
        allocated
    }

    /// Whether the program's allocator is ours.
    fn sees_allocations(&'static self) -> bool {
        let block = self.allocate(|| black_box(Box::new(0_u64)));
        let sees = self.bytes() > 0;
        drop(block);
        sees
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn leak() -> &'static HeapUse {
    Box::leak(Box::default())
}

/// Whether all that the program allocates has an owner: whether its standard library is a part of it.
fn has_owners() -> bool {
    /// 0 as long as nobody has looked.
    static ANSWER: AtomicU8 = AtomicU8::new(0);
    const YES: u8 = 1;
    const NO: u8 = 2;
    match ANSWER.load(Ordering::Relaxed) {
        0 => {
            let of_std = std::env::current_dir as fn() -> io::Result<PathBuf> as *const c_void;
            let ours = has_owners as fn() -> bool as *const c_void;
            // The first look is that of the first allocation, which nothing comes before.
            let answer = if base(of_std) == base(ours) { YES } else { NO };
            ANSWER.store(answer, Ordering::Relaxed);
            answer == YES
        }
        answer => answer == YES,
    }
}

/// Where the program or library is mapped that has this address. It allocates nothing.
fn base(address: *const c_void) -> usize {
    let mut found: MaybeUninit<libc::Dl_info> = MaybeUninit::zeroed();
    // SAFETY: the place is that of a `Dl_info`, for which zeroes are a value.
    unsafe {
        libc::dladdr(address, found.as_mut_ptr());
        found.assume_init().dli_fbase as usize
    }
}

// SAFETY: each request goes to the allocator that upholds the contract, for a block that is longer by
// an owner, if blocks have owners; what the caller sees of it is as long as it asked for.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !has_owners() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.alloc(layout) };
        }
        let Some(longer) = with_owner(layout) else { return ptr::null_mut() };
        // SAFETY: the layout is that of the caller, and longer.
        let block = unsafe { self.0.alloc(longer) };
        // SAFETY: the block was just allocated with a place for the owner.
        unsafe { own(block, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !has_owners() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.alloc_zeroed(layout) };
        }
        let Some(longer) = with_owner(layout) else { return ptr::null_mut() };
        // SAFETY: as for `alloc`.
        let block = unsafe { self.0.alloc_zeroed(longer) };
        // SAFETY: as for `alloc`.
        unsafe { own(block, layout.size()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !has_owners() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.realloc(block, layout, new_size) };
        }
        let new_layout = Layout::from_size_align(new_size, layout.align()).ok();
        let new_longer = new_layout.and_then(with_owner);
        let (Some(longer), Some(new_longer)) = (with_owner(layout), new_longer) else {
            return ptr::null_mut();
        };
        // SAFETY: by the caller's promise `alloc` made the block, with an owner behind its last byte.
        let owner = unsafe { owner_place(block, layout.size()).read_unaligned() };
        // SAFETY: the caller's promise; the block is longer by an owner, before and after.
        let moved = unsafe { self.0.realloc(block, longer, new_longer.size()) };
        if !moved.is_null() {
            // SAFETY: the block has a place for the owner there now.
            unsafe { owner_place(moved, new_size).write_unaligned(owner) };
            if let Some(owner) = owner {
                owner.add(new_size);
                owner.sub(layout.size());
            }
        }
        moved
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !has_owners() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.dealloc(block, layout) };
        }
        // SAFETY: as for `realloc`.
        if let Some(owner) = unsafe { owner_place(block, layout.size()).read_unaligned() } {
            owner.sub(layout.size());
        }
        // SAFETY: a layout that was made longer once can be again; the block is of that length.
        unsafe { self.0.dealloc(block, with_owner(layout).unwrap_unchecked()) };
    }
}

/// The layout of a block with its owner; `None` if it is too large.
fn with_owner(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_add(size_of::<BlockOwner>())?;
    Layout::from_size_align(size, layout.align()).ok()
}

/// Where the owner of a block of a size is.
///
/// # Safety
/// The block is longer than its size by an owner.
unsafe fn owner_place(block: *mut u8, size: usize) -> *mut BlockOwner {
    // SAFETY: the caller's promise.
    unsafe { block.add(size).cast() }
}

/// Makes a new block this thread's version's.
///
/// # Safety
/// As for [`owner_place`], where the block is not null.
unsafe fn own(block: *mut u8, size: usize) -> *mut u8 {
    if !block.is_null() {
        let owner = ALLOCATES_FOR.get();
        owner.into_iter().for_each(|owner| owner.add(size));
        // SAFETY: the caller's promise.
        unsafe { owner_place(block, size).write_unaligned(owner) };
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_with_its_owner_is_refused() {
        let allocator = Allocator::new();
        let most = isize::MAX as usize;
        let aligned = |size| Layout::from_size_align(size, 32).unwrap();
        // SAFETY: the layouts are no longer than a layout may be, and the block is of the first.
        unsafe {
            assert!(allocator.alloc(aligned(most - 31)).is_null());
            assert!(allocator.alloc_zeroed(aligned(most - 31)).is_null());
            let block = allocator.alloc(aligned(32));
            assert!(allocator.realloc(block, aligned(32), most - 31).is_null());
            allocator.dealloc(block, aligned(32));
        }
    }
}
