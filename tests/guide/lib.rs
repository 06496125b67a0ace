#![doc = include_str!("../../GUIDE.md")]
#![forbid(unsafe_code)]
