use hotswap_plugin::prelude::*;

#[live]
trait NotLive {}

#[live(prefix = "job_")]
fn live_function() {}

#[live(suffix = "_job")]
mod jobs {}

#[live]
struct LiveGeneric<T>(T);

#[live(prefix = "job_")]
struct LiveOther;

fn main() {}
