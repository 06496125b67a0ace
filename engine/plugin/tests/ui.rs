//! Sources that must not compile. The expected messages of the compiler are in the files beside them.

#[test]
fn mistakes_are_reported_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
