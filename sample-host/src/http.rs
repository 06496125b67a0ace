//! The HTTP service; its answers come from plugins.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
};
use hotswap_engine::{Engine, args, protocol::ErrorKind};
use sample_api::Animal;
use serde::Deserialize;

/// An answer: text, or a status and what went wrong.
type Answer = Result<String, (StatusCode, String)>;

/// The service's routes.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route("/greet/{name}", get(greet))
        .route("/animals", get(animals))
        .with_state(engine)
}

/// How often to greet.
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

fn unavailable(error: hotswap_engine::EngineError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}
