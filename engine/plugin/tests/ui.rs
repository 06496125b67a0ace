//! What must not compile, and what is said of it: the texts lie beside the sources.

#[test]
fn mistakes_are_told_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
