#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target has one of them")]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::calls(input));
