//! The HTTP service; its answers come from plugins.

use std::fmt;

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use hotswap_engine::{Data, Engine, args, protocol::ErrorKind};
use sample_api::{Animal, function_for};
use serde::Deserialize;

use crate::jobs::Jobs;

/// An answer: a text, or an HTTP status and an error message.
type Answer = Result<String, (StatusCode, String)>;

/// The service's routes.
pub fn router(engine: Engine, jobs: Jobs) -> Router {
    let queue =
        Router::new().route("/jobs/{name}", post(add_job)).with_state((engine.clone(), jobs));
    Router::new()
        .route("/greet/{name}", get(greet))
        .route("/animals", get(animals))
        .with_state(engine)
        .merge(queue)
}

/// The number of greetings or sounds to make.
#[derive(Deserialize)]
struct Times {
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

async fn greet(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    Query(Times { times }): Query<Times>,
) -> Answer {
    let world = engine.plugin("world").map_err(unavailable)?;
    let greeting: String = world.invoke("greet", args![name, times]).map_err(|error| {
        let status = match error.kind() {
            ErrorKind::PluginError => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{error}\n"))
    })?;
    Ok(greeting + "\n")
}

async fn animals(State(engine): State<Engine>, Query(Times { times }): Query<Times>) -> Answer {
    let animals = engine.current().registered::<dyn Animal>().map_err(unavailable)?;
    let lines = animals.iter().map(|animal| {
        let sound = animal.object.speak(times);
        format!("{} ({}): {sound}\n", animal.name, animal.owner)
    });
    Ok(lines.collect())
}

/// Queues a job for a live function, or of a live type. Its data is the body of the request, JSON.
async fn add_job(
    State((engine, jobs)): State<(Engine, Jobs)>,
    Path(name): Path<String>,
    body: String,
) -> Answer {
    let refused = |error: &dyn fmt::Display| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let fields: serde_json::Value = serde_json::from_str(&body).map_err(|error| refused(&error))?;
    let is_type = name.starts_with(char::is_uppercase);
    let waiting = if is_type {
        // The plugin that has the type makes the job, and adds the fields that are left out.
        let job = engine.vault().live().renew(&Data::named(name, fields.into()));
        let job = job.map_err(|error| refused(&error))?;
        jobs.add(function_for(job.live_name()), job)
    } else {
        jobs.add(name, Data::named("job", fields.into()))
    };
    let full = || (StatusCode::SERVICE_UNAVAILABLE, "the queue is full\n".to_owned());
    Ok(format!("{} jobs wait\n", waiting.ok_or_else(full)?))
}

fn unavailable(error: hotswap_engine::EngineError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}
