//! A heartbeat that goes to every plugin.

use std::time::Duration;

use hotswap_engine::{Engine, args};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// Calls `heartbeat(beat)` of every plugin that has it, every `period`.
pub fn start(engine: Engine, period: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for beat in 0_u64.. {
            ticks.tick().await;
            engine.current().invoke_each("heartbeat", args![beat]);
        }
    })
}
