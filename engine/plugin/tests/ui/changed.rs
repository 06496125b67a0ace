//! Attributes that change a type after the derive has seen it.

use becomes::becomes;
use hotswap_plugin::Shared;

#[derive(Shared)]
#[becomes(struct HasMore { number: u32, name: &'static str })]
struct HasMore {
    number: u32,
}

#[derive(Shared)]
#[becomes(struct HasOneMore(u32, &'static str);)]
struct HasOneMore(u32);

#[derive(Shared)]
#[becomes(struct HasOther { number: Box<u32> })]
struct HasOther {
    number: u32,
}

#[derive(Shared)]
#[becomes(enum MayBeMore { A(u32), B(&'static str) })]
enum MayBeMore {
    A(u32),
}

#[derive(Shared)]
#[becomes(enum HoldsMore { A { number: u32, name: &'static str } })]
enum HoldsMore {
    A { number: u32 },
}

#[derive(Shared)]
#[becomes(enum HoldsOther { A(Box<u32>) })]
enum HoldsOther {
    A(u32),
}

fn main() {}
