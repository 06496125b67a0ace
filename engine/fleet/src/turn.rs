//! Takes the steps of a rollout; any program that may write to the fleet can do so.

use crate::{
    AuditEntry, Channel, Effect, FleetError, HostReport, Id, Input, Order, Phase, Reason, Rollout,
    Store,
};

/// How many times the fleet is read again after another program has changed it.
const ATTEMPTS: usize = 20;

/// Takes all steps that the rollout of a channel can take now, and returns the new state; `None` if the channel
/// has had no rollout. Appends what the audit log lacks about the channel. Any number of programs may call this at
/// once: only one of them can write each state.
///
/// # Errors
/// If something cannot be read or written, or other programs change the fleet all the time.
pub fn turn(
    store: &Store,
    channel: &Id,
    order: Option<Order>,
    by: &str,
) -> Result<Option<Rollout>, FleetError> {
    let turned = take_steps(store, channel, order, by)?;
    // An audit log that cannot be written does not stop a rollout.
    store.say_missing(channel)?;
    Ok(turned)
}

fn take_steps(
    store: &Store,
    channel: &Id,
    mut order: Option<Order>,
    by: &str,
) -> Result<Option<Rollout>, FleetError> {
    let mut last =
        FleetError::new(format!("the rollout still changes after {ATTEMPTS} looks; try again"));
    for _ in 0..ATTEMPTS {
        let Some(rollout) = store.rollout(channel)? else { return Ok(None) };
        let time = store.time()?;
        if rollout.phase.is_over() && rollout.phase != Phase::Superseded {
            return Ok(Some(rollout));
        }
        let hosts = store.hosts(channel);
        let declared = store.channel(channel)?;
        let (hosts, _) = hosts?;
        let mut input = Input {
            time,
            hosts: &hosts,
            channel: &declared,
            sound: None,
            order: order.map(|order| (order, by)),
        };
        if rollout.phase == Phase::Checking && order.is_none() {
            input.sound = Some(check(store, &rollout, &input)?);
        }
        let (next, effects) = rollout.clone().step(&input);
        if next == rollout && effects.is_empty() {
            return Ok(Some(rollout));
        }
        // In a large fleet, some hosts have new results at each look. They are written, but no further step
        // follows from them.
        let is_all = effects.is_empty() && (next.phase, next.step) == (rollout.phase, rollout.step);
        match write(store, (&declared, &hosts), &rollout, &next, effects, by, time.now_ms) {
            Ok(()) if is_all => return Ok(Some(next)),
            Ok(()) => order = None,
            Err(error) if error.is_changed() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Verifies a release for the hosts of the rollout. If the server does not answer, the result is unknown.
fn check(
    store: &Store,
    rollout: &Rollout,
    input: &Input<'_>,
) -> Result<Result<(), Reason>, FleetError> {
    let verified = store.keys().and_then(|keys| store.verify(&rollout.release, keys.as_ref()));
    Ok(match verified {
        Ok(release) => rollout.uncovered(&release, input).map_or(Ok(()), Err),
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => Err(Reason::Unsound { message: error.to_string() }),
    })
}

/// Writes the state, and then does what follows from it. If this program dies in between, another one does that,
/// since it follows from the state. If this program stops in between and goes on much later, its write is refused:
/// a rollout ends only after its channel was changed, so the channel is not the one that was read any more.
fn write(
    store: &Store,
    (declared, hosts): (&Channel, &[HostReport]),
    rollout: &Rollout,
    next: &Rollout,
    effects: Vec<Effect>,
    by: &str,
    now_ms: u64,
) -> Result<(), FleetError> {
    let mut next = next.clone();
    let mut declares = Vec::new();
    for effect in effects {
        match effect {
            Effect::Declare(desired) => declares.push(desired),
            Effect::Audit { phase, reason } => {
                let entry = AuditEntry {
                    at_ms: now_ms,
                    by: by.to_owned(),
                    what: phase.as_str().to_owned(),
                    channel: Some(next.channel.clone()),
                    release: Some(next.release.clone()),
                    host: None,
                    reason,
                };
                entry.add_to(&mut next.memory.unsaid);
            }
        }
    }
    store.write_rollout(Some(rollout), &next)?;
    for desired in declares {
        let mut new = declared.clone();
        desired.declare(&mut new, hosts);
        store.write_channel(declared, &new)?;
    }
    Ok(())
}
