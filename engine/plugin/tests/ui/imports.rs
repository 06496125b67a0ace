use hotswap_plugin::prelude::*;

#[derive(Imports)]
enum Either {
    A,
}

#[derive(Imports)]
struct NoNames(u32);

#[derive(Imports)]
struct Generic<T> {
    alpha: T,
}

fn main() {}
