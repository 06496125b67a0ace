//! 12: a discriminant that is a constant is compared as text.

use hotswap_plugin::TypeSchema;

#[test]
fn types_with_other_discriminants_differ() {
    let (one, three) = (TypeSchema::of::<tags_one::Msg>(), TypeSchema::of::<tags_three::Msg>());
    assert_ne!(tags_one::TAG, tags_three::TAG);
    println!("{one:?}");
    assert_ne!(one, three);
}

/// The whole way: a plugin sets a value, and the host reads it as its own type.
#[test]
fn a_value_with_another_discriminant_is_refused() {
    use crate::support::{Host, in_own_process};
    let end = in_own_process(|| {
        let host = Host::with(&["tagged"]);
        let read = host.engine.vault().data_bag().read("msg", |msg: &tags_one::Msg| {
            // SAFETY: the tag of a `repr(u8)` enum is its first byte.
            println!("tag {}", unsafe { *(&raw const *msg).cast::<u8>() });
            match msg {
                tags_one::Msg::A(number) => format!("A {number}"),
                tags_one::Msg::B(text) => format!("B {text}"),
            }
        });
        println!("read: {:?}", read.map_err(|error| error.to_string()));
    });
    assert!(end.output.contains("read: Err"), "{:?} {}", end.status, end.output);
}
