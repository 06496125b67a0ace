//! A queue of jobs. Each is done by the code that is newest when its turn comes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hotswap_engine::{Data, Engine};
use tokio::{task::JoinHandle, time::interval};

/// The largest number of queued jobs.
const CAPACITY: usize = 1000;

/// The queued jobs: for each the name of a live function, and its data.
#[derive(Clone, Default)]
pub struct Jobs(Arc<Mutex<VecDeque<(String, Data)>>>);

impl Jobs {
    /// Adds a job. Returns the number of queued jobs, or `None` if the queue is full.
    pub fn add(&self, function: String, data: Data) -> Option<usize> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= CAPACITY {
            return None;
        }
        jobs.push_back((function, data));
        Some(jobs.len())
    }

    /// Does one job every `period`.
    pub fn start(self, engine: Engine, period: Duration) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut ticks = interval(period);
            loop {
                ticks.tick().await;
                if let Some((function, data)) = self.next() {
                    do_job(&engine, &function, &data);
                }
            }
        })
    }

    fn next(&self) -> Option<(String, Data)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn do_job(engine: &Engine, function: &str, data: &Data) {
    match engine.vault().live().call(function, &[data.value().clone()]) {
        Ok(answer) => {
            tracing::info!(function, "job done: {}", answer.to::<String>().unwrap_or_default())
        }
        Err(error) => tracing::error!(function, "job failed: {error:?}"),
    }
}
