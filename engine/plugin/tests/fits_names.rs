//! Names of the author's that generated code might use for something else. This only has to compile.

#![allow(dead_code, non_snake_case)]

use hotswap_plugin::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Shared, Serialize, Deserialize, JsonSchema)]
struct T {
    x: u32,
}

#[interface]
trait TakesT {
    fn take(&self, t: T) -> T;
    fn lend(&self, t: &T);
    async fn wait(&self, t: T) -> T;
}

mod generic {
    use hotswap_plugin::prelude::*;

    #[interface]
    pub trait T {
        fn clone(&self) -> u32;
        fn drop(&self, object: u32, args: u32, out: u32);
        fn r#move(&self, r#type: u32) -> u32;
        async fn poll(&self) {}
    }
}

#[live]
#[derive(Serialize, Deserialize)]
struct HttpJob {
    x: u32,
}

#[live]
#[derive(Serialize, Deserialize)]
struct HTTPJob {
    x: u32,
}

#[invoke]
fn call() {}

#[invoke]
fn Call() {}

#[invoke]
fn result(r#fn: u32, result: u32, call: u32, args: u32) -> u32 {
    r#fn + result + call + args
}
