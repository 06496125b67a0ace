//! A crate without the prelude of std. This only has to compile.

#![allow(dead_code)]
#![no_implicit_prelude]

use ::hotswap_plugin::{Imports, Leased, Plugin, Shared, Vault, interface, invoke, live, plugin};

#[derive(::core::default::Default)]
struct World;

#[plugin]
impl Plugin for World {}

#[derive(Shared)]
enum Event {
    Won(u32),
    Lost { by: ::std::string::String },
    Ended,
}

#[derive(Shared)]
#[repr(u8)]
enum Tagged {
    Won(u32) = 3,
    Ended,
}

#[derive(Shared)]
struct Many<Item, const LEN: usize>(Item, [u8; LEN]);

#[interface]
trait Cat {
    fn meow(&self, to: &dyn Cat, other: ::std::boxed::Box<dyn Cat>) -> ::std::boxed::Box<dyn Cat>;
    async fn sleep(&self, hours: u32) -> u32;
    fn lives(&self) -> u32 {
        9
    }
}

#[invoke]
fn count(_vault: &Vault, _world: &World, of: u32) -> ::hotswap_plugin::Result<u32> {
    ::core::result::Result::Ok(of)
}

#[invoke]
async fn wait(cat: ::std::boxed::Box<dyn Cat>) -> u32 {
    cat.lives()
}

#[live]
fn tick() {}

#[derive(Imports)]
#[import(after = "clock")]
struct Needs {
    cat: Leased<dyn Cat>,
    dog: ::core::option::Option<Leased<dyn Cat>>,
}
