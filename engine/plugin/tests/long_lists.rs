//! Values that contain values of their own type, as deeply as memory allows.

use std::sync::atomic::{AtomicU32, Ordering};

use hotswap_plugin::{SchemaBuilder, Shape, Shared};

#[derive(Shared)]
struct Node {
    next: Option<Box<Node>>,
    side: Side,
}

#[derive(Shared)]
enum Side {
    None,
    Of(Vec<Node>),
}

impl Drop for Node {
    /// Drops the nodes one after another.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

#[test]
fn a_list_without_pointers_home_is_not_visited() {
    let mut list = Node { next: None, side: Side::Of(Vec::new()) };
    for _ in 0..1_000_000 {
        list = Node { next: Some(Box::new(list)), side: Side::None };
    }
    list.rehome();
    assert!(list.next.is_some());
}

#[derive(Shared)]
struct Outer {
    inner: Option<Box<Inner>>,
}

#[derive(Shared)]
struct Inner {
    outer: Vec<Outer>,
    words: Box<Word>,
}

/// Counts how often it is rehomed.
#[derive(Default)]
struct Word(u32);

static REHOMED: AtomicU32 = AtomicU32::new(0);

// SAFETY: it is a number.
unsafe impl Shared for Word {
    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| {
            let offset = Some(std::mem::offset_of!(Self, 0));
            Shape::Struct(vec![schema.field::<u32>("0", offset)])
        })
    }

    fn rehome(&mut self) {
        REHOMED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_pointer_home_is_replaced_in_whatever_part_it_is() {
    let inner = Inner { outer: Vec::new(), words: Box::default() };
    let mut outer = (8_u8, [Some(Outer { inner: Some(Box::new(inner)) })]);
    outer.rehome();
    assert_eq!(REHOMED.load(Ordering::Relaxed), 1);
}
