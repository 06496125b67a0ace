use hotswap_plugin::Shared;

#[derive(Shared)]
union Either {
    a: u32,
    b: f32,
}

#[derive(Shared)]
struct Borrows<'a> {
    name: &'a str,
}

fn main() {}
