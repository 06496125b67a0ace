//! One look at a rollout of a fleet, by whoever may write there.

use crate::{
    AuditEntry, Channel, Effect, FleetError, HostReport, Id, Input, Order, Phase, Rollout, Store,
};

/// How often what somebody else has written meanwhile is read again.
const ATTEMPTS: usize = 20;

/// Takes the steps that the rollout of a channel can take now, and returns where it is then; `None` if the channel
/// had no rollout. Any number of programs may do this at once: each state is written only by one of them.
///
/// # Errors
/// If something cannot be read or written, or others write all the time.
pub fn turn(
    store: &Store,
    channel: &Id,
    mut order: Option<Order>,
    by: &str,
    now_ms: u64,
) -> Result<Option<Rollout>, FleetError> {
    let mut last = FleetError::new("the rollout does not come to rest");
    for _ in 0..ATTEMPTS {
        let Some(rollout) = store.rollout(channel)? else { return Ok(None) };
        if rollout.phase.is_over() {
            return Ok(Some(rollout));
        }
        let declared = store.channel(channel)?;
        let (hosts, _) = store.hosts(channel)?;
        let sound = (rollout.phase == Phase::Checking && order.is_none())
            .then(|| store.verify(&rollout.release, store.keys()?.as_ref()).map(drop));
        let input = Input {
            now_ms,
            hosts: &hosts,
            channel: &declared,
            sound: sound.map(|sound| sound.map_err(|error| error.to_string())),
            order: order.map(|order| (order, by)),
        };
        let (next, effects) = rollout.clone().step(&input);
        if next == rollout && effects.is_empty() {
            return Ok(Some(rollout));
        }
        match write(store, (&declared, &hosts), &rollout, &next, effects, by, now_ms) {
            Ok(()) => order = None,
            Err(error) if error.is_changed() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Writes the state, and then what follows from it. Whoever dies in between leaves that to the next one: it
/// follows from the state. Whoever stops in between and goes on late writes nothing: the channel is then another
/// one than was read before the state was written, since a rollout ends only when the channel says so.
fn write(
    store: &Store,
    (declared, hosts): (&Channel, &[HostReport]),
    rollout: &Rollout,
    next: &Rollout,
    effects: Vec<Effect>,
    by: &str,
    now_ms: u64,
) -> Result<(), FleetError> {
    store.write_rollout(Some(rollout), next)?;
    for effect in effects {
        match effect {
            Effect::Declare(desired) => {
                let mut new = declared.clone();
                desired.declare(&mut new, hosts);
                store.write_channel(declared, &new)?;
            }
            Effect::Audit { phase, reason } => store.audit(&AuditEntry {
                at_ms: now_ms,
                by: by.to_owned(),
                what: phase.as_str().to_owned(),
                channel: Some(next.channel.clone()),
                release: Some(next.release.clone()),
                host: None,
                reason,
            })?,
        }
    }
    Ok(())
}
