use hotswap_plugin::prelude::*;

#[plugin]
impl Type {}

struct Type;

#[derive(Default)]
struct Generic<T>(T);

#[plugin]
impl<T: Default + Send + Sync + 'static> Plugin for Generic<T> {}

#[derive(Default)]
struct WithArguments;

#[plugin(fast)]
impl Plugin for WithArguments {}

fn main() {}
