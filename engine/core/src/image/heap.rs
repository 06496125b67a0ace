//! The memory that a version has allocated and that is not freed yet. It is counted if the host allocates
//! with [`Allocator`].
//!
//! Memory that an image allocates is freed by its last owner, which may be another version or the host. So
//! each block names the version that allocated it, behind its end, where only the allocator reads.

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

/// The smallest number of bytes that is reported as left on the heap by a freed version. Every version leaves
/// less than this, since the `std` of an image keeps some words for each thread that was in it.
pub(crate) const MEANS_NOTHING: u64 = 1024;

/// An allocator for hosts that want to know how much memory each version has on the heap.
///
/// A console then shows, for every version, how much of the memory that its code allocated is not freed yet, by
/// the version itself or by whoever took it over. It shows this while the version serves, and also after it was
/// freed, when the rest is mostly memory that its statics owned.
///
/// Each block takes eight bytes more. Each allocation of a plugin changes one counter of its version, which
/// all threads of the version share. A version leaves eight bytes that are never freed.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: hotswap_engine::Allocator = hotswap_engine::Allocator::new();
/// # fn main() {}
/// ```
///
/// It forwards to the system's allocator, or to the one that is passed to [`over`](Self::over). In a program
/// that uses Rust's standard library as a shared library, for example because of a dependency of the crate
/// type `dylib`, it only forwards: the shared library allocates without naming an owner, and its blocks are
/// freed here.
#[derive(Debug, Default)]
pub struct Allocator<A = System>(A);

impl Allocator {
    /// Allocates with the system's allocator.
    pub const fn new() -> Self {
        Self(System)
    }
}

impl<A> Allocator<A> {
    /// Allocates with another allocator.
    pub const fn over(allocator: A) -> Self {
        Self(allocator)
    }
}

/// How many bytes a version has allocated that are not freed. It is never freed itself, since the last block
/// may never be.
#[derive(Debug, Default)]
pub(crate) struct HeapUse(AtomicUsize);

/// The version to which a block belongs; `None` for blocks of the host. It is stored behind the block's last
/// byte.
type BlockOwner = Option<&'static HeapUse>;

thread_local! {
    /// The version for which this thread allocates.
    static ALLOCATES_FOR: Cell<BlockOwner> = const { Cell::new(None) };
}

impl HeapUse {
    /// A counter for another version; `None` if nothing would be counted.
    pub fn new() -> BlockOwner {
        static IS_COUNTED: OnceLock<bool> = OnceLock::new();
        let new: &'static Self = IS_COUNTED.get().is_none_or(|counted| *counted).then(leak)?;
        IS_COUNTED.get_or_init(|| new.sees_allocations()).then_some(new)
    }

    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs an allocation in the name of this version.
    pub fn allocate<T>(&'static self, allocate: impl FnOnce() -> T) -> T {
        let before = ALLOCATES_FOR.replace(Some(self));
        let allocated = allocate();
        ALLOCATES_FOR.set(before);
        allocated
    }

    /// Whether the program's allocator is an [`Allocator`].
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

/// Whether every block that the program allocates has an owner, that is, whether the standard library is
/// linked into the program.
fn has_owners() -> bool {
    /// 0 until the question was asked.
    static ANSWER: AtomicU8 = AtomicU8::new(0);
    const YES: u8 = 1;
    const NO: u8 = 2;
    match ANSWER.load(Ordering::Relaxed) {
        0 => {
            let of_std = std::env::current_dir as fn() -> io::Result<PathBuf> as *const c_void;
            let ours = has_owners as fn() -> bool as *const c_void;
            // The first question comes with the first allocation of the program.
            let answer = if base(of_std) == base(ours) { YES } else { NO };
            ANSWER.store(answer, Ordering::Relaxed);
            answer == YES
        }
        answer => answer == YES,
    }
}

/// The start of the mapping of the program or library that contains this address. It allocates nothing.
fn base(address: *const c_void) -> usize {
    let mut found: MaybeUninit<libc::Dl_info> = MaybeUninit::zeroed();
    // SAFETY: the place is for a `Dl_info`, for which zeros are a valid value.
    unsafe {
        libc::dladdr(address, found.as_mut_ptr());
        found.assume_init().dli_fbase as usize
    }
}

// SAFETY: each request is forwarded to an allocator that upholds the contract. If blocks have owners, the
// block is longer by an owner; the caller sees the length that it requested.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !has_owners() {
            // SAFETY: the caller's promise.
            return unsafe { self.0.alloc(layout) };
        }
        let Some(longer) = with_owner(layout) else { return ptr::null_mut() };
        // SAFETY: the layout is that of the caller, made longer.
        let block = unsafe { self.0.alloc(longer) };
        // SAFETY: the block was just allocated with room for the owner.
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
        // SAFETY: by the caller's promise, `alloc` made the block, with an owner behind its last byte.
        let owner = unsafe { owner_place(block, layout.size()).read_unaligned() };
        // SAFETY: by the caller's promise. The block is longer by an owner, before and after.
        let moved = unsafe { self.0.realloc(block, longer, new_longer.size()) };
        if !moved.is_null() {
            // SAFETY: the block now has room for the owner there.
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
        // SAFETY: a layout that was made longer once can be made longer again, and the block has that length.
        unsafe { self.0.dealloc(block, with_owner(layout).unwrap_unchecked()) };
    }
}

/// The layout of a block with its owner; `None` if it is too large.
fn with_owner(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_add(size_of::<BlockOwner>())?;
    Layout::from_size_align(size, layout.align()).ok()
}

/// The place of the owner of a block with `size` bytes.
///
/// # Safety
/// The block is longer than its size by an owner.
unsafe fn owner_place(block: *mut u8, size: usize) -> *mut BlockOwner {
    // SAFETY: the caller's promise.
    unsafe { block.add(size).cast() }
}

/// Sets the owner of a new block to the version for which this thread allocates.
///
/// # Safety
/// As for [`owner_place`], unless the block is null.
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
    fn an_allocation_that_is_too_large_with_its_header_is_refused() {
        let allocator = Allocator::new();
        let most = isize::MAX as usize;
        let aligned = |size| Layout::from_size_align(size, 32).unwrap();
        // SAFETY: both layouts have allowed sizes, and the block has the first layout.
        unsafe {
            assert!(allocator.alloc(aligned(most - 31)).is_null());
            assert!(allocator.alloc_zeroed(aligned(most - 31)).is_null());
            let block = allocator.alloc(aligned(32));
            assert!(allocator.realloc(block, aligned(32), most - 31).is_null());
            allocator.dealloc(block, aligned(32));
        }
    }
}
