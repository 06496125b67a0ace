//! The memory that the code of an image has mapped, and how much of it is still there.

use std::{fs, mem, ops::Range, sync::Mutex};

use super::mapping::{page_size, resident};
use crate::lock::Lock as _;

/// The address ranges that an image has mapped and not unmapped.
#[derive(Default)]
pub(super) struct LeftMapped(Mutex<Vec<Range<usize>>>);

impl LeftMapped {
    /// Notes that the image has mapped a range, in place of what it had there.
    pub fn add(&self, range: Range<usize>) {
        let mut all = self.0.locked();
        cut_out(&mut all, &range);
        all.push(range);
    }

    /// Notes that the image has unmapped a range.
    pub fn remove(&self, range: &Range<usize>) {
        cut_out(&mut self.0.locked(), range);
    }

    /// Whether one of the ranges has an address.
    pub fn has(&self, address: usize) -> bool {
        self.0.locked().iter().any(|range| range.contains(&address))
    }

    /// Takes all ranges out.
    pub fn take(&self) -> Vec<Range<usize>> {
        mem::take(&mut *self.0.locked())
    }

    /// The number of bytes in these ranges that are in memory now. Allocators reserve much more than they use.
    pub fn bytes(&self) -> u64 {
        let all = self.0.locked();
        if all.is_empty() {
            return 0;
        }
        // The image may also have unmapped something by a system call.
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let usable = maps.lines().filter_map(usable);
        let left = usable.flat_map(|usable| all.iter().map(move |range| common(range, &usable)));
        left.map(|range| resident(&range)).sum::<usize>() as u64
    }
}

/// The pages that have a byte of these: the system maps and unmaps whole pages.
pub(super) fn pages(start: usize, size: usize) -> Range<usize> {
    start..start.saturating_add(size.checked_next_multiple_of(page_size()).unwrap_or(size))
}

/// Takes a range out of others.
fn cut_out(all: &mut Vec<Range<usize>>, gone: &Range<usize>) {
    let parts = all.iter().flat_map(|range| {
        [range.start..range.end.min(gone.start), range.start.max(gone.end)..range.end]
    });
    *all = parts.filter(|part| !part.is_empty()).collect();
}

/// The range of a line of `/proc/PID/maps`; `None` if nobody can use it.
fn usable(line: &str) -> Option<Range<usize>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (!rest.starts_with("---")).then_some(address(start)?..address(end)?)
}

/// What two ranges have in common; it may be empty.
fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}
