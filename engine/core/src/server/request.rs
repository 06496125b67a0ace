//! Answers requests.

use std::sync::Arc;

use hotswap_protocol::{ErrorKind, Request, WireError};
use serde::Serialize;
use serde_json::Value as Json;

use super::calls::{self, Call};
use super::served::Served;
use crate::EngineError;

/// Carries out a request.
pub(super) fn answer(
    engine: &Arc<dyn Served>,
    request: Request,
    call: &Arc<Call>,
) -> Result<Json, WireError> {
    match request {
        Request::Snapshot => json(&engine.snapshot()),
        Request::Reloads => json(&engine.reloads()),
        Request::Vault => json(&engine.vault_snapshot()),
        Request::Live => json(&engine.live_snapshot()),
        Request::Reload => json(&engine.reload(false).map_err(refused)?),
        Request::ReloadLatest => json(&engine.reload(true).map_err(refused)?),
        Request::Prune(prune) => json(&engine.prune(prune).map_err(refused)?),
        Request::Plan(plan) => json(&engine.plan(plan).map_err(refused)?),
        Request::Apply(apply) => json(&engine.apply(apply).map_err(refused)?),
        Request::Patch(patch) => json(&engine.patch(patch).map_err(refused)?),
        Request::Offer(offer) => json(&engine.offer(&offer)),
        Request::Rollback(to) => json(&engine.rollback(&to.target).map_err(refused)?),
        Request::Invoke(params) => json(&calls::invoke(&**engine, &params, call)?),
        Request::Pin(params) => json(&engine.pins().add(engine, params, call)?),
        Request::Unpin(params) => json(&engine.pins().remove(&**engine, &params)?),
        Request::Pins => json(&engine.pins().list()),
        Request::Free(free) => json(&engine.free(&free.target).map_err(refused)?),
        Request::Hello(_)
        | Request::Agent(_)
        | Request::Subscribe(_)
        | Request::Cancel(_)
        | Request::Hold(_)
        | Request::Release(_) => {
            Err(WireError::new(ErrorKind::BadRequest, "the host does not expect this request here"))
        }
        _ => Err(WireError::new(ErrorKind::BadRequest, "this host does not know the request")),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Json, WireError> {
    serde_json::to_value(value)
        .map_err(|error| WireError::new(ErrorKind::Internal, error.to_string()))
}

fn refused(error: EngineError) -> WireError {
    error.to_wire()
}
