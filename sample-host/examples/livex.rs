//! A host with a queue of jobs that outlives reloads, and the host itself: a plugin hands jobs to it, and the
//! newest code does each.
//!
//! Try: run it with the commands below and press Enter several times: each time the plugin `guardian` queues a
//! job. Queue one yourself, by the name of its type: `LiveRollCall {"name": "Ada"}`. Change what `live_fire`
//! says in `sample-plugins/guardian/src/lib.rs`, run the first command again in another terminal, and type `go`:
//! the new code does the jobs that were queued before the reload. Or end the host with Ctrl-D or Ctrl-C before
//! that, and run it again: the jobs are there.
//!
//! `cargo run -p hotswap-console --bin hotswap -- build sample-plugins/guardian target/hotswap/plugins/livex`
//! `cargo run -p sample-host --example livex`

use std::{
    fs,
    io::stdin,
    mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eyre::{OptionExt, Result, WrapErr, eyre};
use hotswap_engine::{Data, Engine, Value, args};
use sample_api::{JobQueue, function_for};

/// The file with the saved queue.
const SAVED: &str = "target/hotswap/livex.json";

/// The queued jobs.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<Vec<Data>>>);

impl JobQueue for Queue {
    fn add(&self, job: Data) {
        self.jobs().push(job);
    }
}

impl Queue {
    /// Reads the saved queue.
    fn restore() -> Result<Self> {
        if !Path::new(SAVED).exists() {
            return Ok(Self::default());
        }
        let jobs: Vec<Data> = serde_json::from_str(&fs::read_to_string(SAVED)?).wrap_err(SAVED)?;
        Ok(Self(Arc::new(Mutex::new(jobs))))
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&*self.jobs())?;
        // A host that dies meanwhile leaves the old file.
        let new = format!("{SAVED}.new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, SAVED)).wrap_err(SAVED)
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Data>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<()> {
    let engine = Engine::builder("target/hotswap/plugins/livex").only(["guardian"]).build()?;
    let queue = Queue::restore()?;
    let registered = engine.vault().extension().register::<dyn JobQueue, _>("jobs", queue.clone());
    registered.map_err(|error| eyre!("{error}"))?;
    println!("{}", engine.load(())?);
    loop {
        let waiting = queue.jobs().len();
        println!("jobs that wait: {waiting}; Enter queues one, `go` reloads and does them");
        let mut line = String::new();
        if stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim() {
            "go" => reload_and_work(&engine, &queue),
            "" => engine.invoke("guardian", "order", args![waiting + 1])?,
            job => match construct(&engine, job) {
                Ok(job) => queue.add(job),
                Err(error) => println!("no job: {error}"),
            },
        }
        queue.save()?;
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
fn reload_and_work(engine: &Engine, queue: &Queue) {
    match engine.reload() {
        Ok(report) => println!("{report}"),
        Err(error) => println!("refused: {error}"),
    }
    let jobs = mem::take(&mut *queue.jobs());
    for job in jobs {
        // The name of the job's type decides which function does it.
        let function = function_for(job.live_name());
        match engine.vault().live().call(&function, &[job.value().clone()]) {
            Ok(answer) => println!("{}", answer.to::<String>().unwrap_or_default()),
            Err(error) => println!("failed: {error:?}"),
        }
    }
}
