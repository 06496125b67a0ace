use hotswap_plugin::prelude::*;

#[derive(Default)]
struct First;

#[plugin]
impl Plugin for First {}

#[invoke]
fn add(a: i32, b: i32) -> i32 {
    a + b
}

mod more {
    use hotswap_plugin::prelude::*;

    #[derive(Default)]
    struct Second;

    #[plugin]
    impl Plugin for Second {}

    #[live]
    fn add(a: i32) -> i32 {
        a
    }
}

#[live]
mod jobs {
    pub fn live_one() {}

    pub mod others {
        use hotswap_plugin::prelude::*;

        #[live]
        pub fn live_one() {}
    }
}

fn main() {}
