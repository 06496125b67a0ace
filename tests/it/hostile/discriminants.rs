//! A fingerprint contains values, and not the text of the source that stands for them.

use hotswap_plugin::{Shared, TypeSchema};

use crate::support::{Host, in_own_process};

/// The schemas of an enum of one name, `Msg`, whose source differs.
macro_rules! schema {
    ([$($setup:item)*] repr($($repr:tt)*) $($variants:tt)*) => {{
        $($setup)*
        #[allow(dead_code, reason = "only its shape is of interest")]
        #[repr($($repr)*)]
        #[derive(Shared)]
        enum Msg $($variants)*
        TypeSchema::of::<Msg>()
    }};
}

#[test]
fn a_discriminant_that_is_a_constant_is_described_by_its_value() {
    let one = schema!([const TAG: u8 = 1;] repr(u8) { A(u32) = TAG, B(String) });
    let three = schema!([const TAG: u8 = 3;] repr(u8) { A(u32) = TAG, B(String) });
    let sum = schema!([const ONE: u8 = 1;] repr(u8) { A(u32) = ONE + 2, B(String) });
    assert_eq!(three, sum);
    let what = one.difference(&three).unwrap();
    assert!(what.ends_with("found the variants A = 1, B = 2, expected A = 3, B = 4"), "{what}");
}

#[test]
fn discriminants_of_any_kind_are_described() {
    let below = schema!([const TAG: i64 = -9;] repr(i64) { A(u32) = TAG, B = 1 });
    let above = schema!([const TAG: i64 = 9;] repr(i64) { A(u32) = TAG, B = 1 });
    assert_ne!(below, above);
    let high = schema!([] repr(C, u64) { A { at: u32 } = u64::MAX, B() = 1 });
    let higher = schema!([] repr(C, u64) { A { at: u32 } = u64::MAX - 1, B() = 1 });
    assert_ne!(high, higher);
    let plain = schema!([const TAG: isize = -2;] repr(C) { A = TAG, B });
    let otherwise = schema!([const TAG: isize = -3;] repr(C) { A = TAG, B = -1 });
    assert_ne!(plain, otherwise);
    let counted = schema!([] repr(C) { A = -2, B = -1 });
    assert_eq!(plain, counted);
}

#[test]
fn a_layout_does_not_depend_on_the_order_of_its_attributes() {
    let one = schema!([] repr(u8, C) { A(u64), B });
    assert_eq!(one, schema!([] repr(C, u8) { A(u64), B }));
    assert_ne!(one, schema!([] repr(u8) { A(u64), B }));
}

#[test]
fn lengths_and_names_of_types_are_described_by_value() {
    macro_rules! schema {
        ($($setup:item)*) => {{
            $($setup)*
            #[allow(dead_code, reason = "only its shape is of interest")]
            #[derive(Shared)]
            struct Line {
                bytes: Bytes,
                unit: [(); LEN],
            }
            TypeSchema::of::<Line>()
        }};
    }
    let four = schema!(
        const LEN: usize = 4;
        type Bytes = [u8; 4];
    );
    assert_eq!(
        four,
        schema!(
            const LEN: usize = 2 + 2;
            type Bytes = [u8; LEN];
        )
    );
    assert_ne!(
        four,
        schema!(
            const LEN: usize = 5;
            type Bytes = [u8; 4];
        )
    );
    assert_ne!(
        four,
        schema!(
            const LEN: usize = 4;
            type Bytes = [i8; LEN];
        )
    );
}

/// The derive macro sees another discriminant than the compiler.
#[test]
fn an_attribute_that_changes_a_discriminant_afterwards_is_found() {
    #[derive(Shared)]
    #[repr(u8)]
    #[becomes::becomes(#[allow(dead_code)] #[repr(u8)] enum Msg { A(u32) = 3, B(String) = 2 })]
    enum Msg {
        A(u32) = 1,
        B(String) = 2,
    }
    std::panic::catch_unwind(TypeSchema::of::<Msg>)
        .expect_err("a schema that differs from the compiled type is refused");
}

/// The whole way: a plugin sets a value, and the host reads it as its own type.
#[test]
fn a_value_with_another_discriminant_is_refused() {
    let end = in_own_process(|| {
        let host = Host::with(&["tagged"]);
        let read = host.engine.vault().data_bag().read("msg", |msg: &tags_one::Msg| match msg {
            tags_one::Msg::A(number) => format!("A {number}"),
            tags_one::Msg::B(text) => format!("B {text}"),
        });
        println!("read: {:?}", read.map_err(|error| error.to_string()));
    });
    assert!(end.output.contains("read: Err"), "{:?} {}", end.status, end.output);
}
