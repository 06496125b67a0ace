//! What a thread notes about itself, until its very end.

use std::{cell::RefCell, mem::ManuallyDrop};

/// Notes in a thread-local.
///
/// They have no destructor: a thread-local with a destructor can no longer be used when the destructors of other
/// thread-locals run, and these may still call plugins, use values, and drop an engine. So the memory of the notes is
/// freed when there are none.
pub struct Notes<T>(ManuallyDrop<RefCell<Stack<T>>>);

/// Most threads have at most one note at a time, for which they need no memory.
struct Stack<T> {
    first: Option<T>,
    more: Vec<T>,
}

impl<T> Notes<T> {
    /// No notes.
    #[allow(clippy::new_without_default, reason = "only for thread-locals")]
    pub const fn new() -> Self {
        Self(ManuallyDrop::new(RefCell::new(Stack { first: None, more: Vec::new() })))
    }

    /// Adds a note.
    pub fn add(&self, note: T) {
        let mut stack = self.0.borrow_mut();
        match stack.first {
            None => stack.first = Some(note),
            Some(_) => stack.more.push(note),
        }
    }

    /// All notes, in any order.
    pub fn all(&self) -> Vec<T>
    where
        T: Clone,
    {
        let stack = self.0.borrow();
        stack.first.iter().chain(&stack.more).cloned().collect()
    }

    /// Whether there is such a note.
    pub fn any(&self, is_it: impl FnMut(&T) -> bool) -> bool {
        let stack = self.0.borrow();
        stack.first.iter().chain(&stack.more).any(is_it)
    }

    /// The result of `find` for the last note for which it is not `None`.
    pub fn find_last<R>(&self, find: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let stack = self.0.borrow();
        stack.more.iter().rev().chain(&stack.first).find_map(find)
    }

    /// Removes the last such note.
    pub fn remove_last(&self, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let mut stack = self.0.borrow_mut();
        let Some(at) = stack.more.iter().rposition(&mut is_it) else {
            return stack.first.take_if(|note| is_it(note));
        };
        let note = stack.more.remove(at);
        if stack.more.is_empty() {
            stack.more = Vec::new();
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_found_until_they_are_removed() {
        let notes = Notes::new();
        assert_eq!(notes.remove_last(|_| true), None);
        (1..4).for_each(|note| notes.add(note));
        assert_eq!(notes.remove_last(|note| *note == 1), Some(1));
        notes.add(4);
        assert!([2, 3, 4].iter().all(|one| notes.any(|note| note == one)));
        assert!(!notes.any(|note| *note == 1));
        assert_eq!(notes.all(), [4, 2, 3]);
        assert_eq!(notes.find_last(|note| (*note < 4).then_some(note * 10)), Some(30));
        let mut left: Vec<_> = std::iter::from_fn(|| notes.remove_last(|_| true)).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3, 4]);
    }
}
