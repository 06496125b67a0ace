//! A host with a queue of jobs that outlives reloads: a plugin hands jobs to it, and the newest code does each.
//!
//! Try: run it and press Enter several times: each time the plugin `guardian` queues a job. Queue one
//! yourself, by the name of its type: `LiveRollCall {"name": "Ada"}`. Change what `live_fire` says in
//! `sample-plugins/guardian/src/lib.rs`, run the first command below in another terminal, and type `go`: the
//! new code does the jobs that were queued before the reload.
//!
//! `cargo run -p hotswap-console --bin hotswap -- build sample-plugins/guardian target/hotswap/plugins/livex`
//! `cargo run -p sample-host --example livex`

use std::{
    io::stdin,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use color_eyre::eyre::{OptionExt, Result, eyre};
use hotswap_engine::{Data, Engine, Value, args};
use sample_api::JobQueue;

/// The jobs that wait.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<Vec<Data>>>);

impl JobQueue for Queue {
    fn add(&self, job: Data) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(job);
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Vec<Data> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn main() -> Result<()> {
    let engine = Engine::builder("target/hotswap/plugins/livex").only(["guardian"]).build()?;
    let queue = Queue::default();
    let registered = engine.vault().extension().register::<dyn JobQueue, _>("jobs", queue.clone());
    registered.map_err(|error| eyre!("{error}"))?;
    println!("{}", engine.load(())?);
    loop {
        println!("jobs that wait: {}; Enter queues one, `go` reloads and does them", queue.len());
        let mut line = String::new();
        if stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim() {
            "go" => go(&engine, &queue),
            "" => engine.invoke("guardian", "order", args![queue.len() + 1])?,
            job => match construct(&engine, job) {
                Ok(job) => queue.add(job),
                Err(error) => println!("no job: {error}"),
            },
        }
    }
}

/// Makes a job of the name of a live type and its fields. The host knows no such type: the plugin that does
/// reads the fields, and adds those that are left out.
fn construct(engine: &Engine, line: &str) -> Result<Data> {
    let (name, fields) = line.split_once(' ').ok_or_eyre("expected a type and its fields")?;
    let fields: Value = serde_json::from_str(fields)?;
    let job = Data::named(name, fields);
    engine.vault().live().renew(&job).map_err(|error| eyre!("{error}"))
}

/// Reloads, and lets the newest code do all jobs.
fn go(engine: &Engine, queue: &Queue) {
    match engine.reload() {
        Ok(report) => println!("{report}"),
        Err(error) => println!("refused: {error}"),
    }
    for job in queue.take() {
        let function = function_for(job.live_name());
        match engine.vault().live().call(&function, &[job.value().clone()]) {
            Ok(answer) => println!("{}", answer.to::<String>().unwrap_or_default()),
            Err(error) => println!("failed: {error:?}"),
        }
    }
}

/// The live function that does jobs of a type: `live_fire` does a `LiveFire`.
fn function_for(type_name: &str) -> String {
    let mut name = String::new();
    for letter in type_name.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
