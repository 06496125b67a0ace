//! Values that a new version takes over from the one that it replaces.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::CarryTable, Error, abi::Answer};

use super::{
    Store,
    cell::{Cell, LockedCell, RETRY, Value},
    migration::Seen,
};
use crate::{
    EngineError, LoadCause, Step,
    error::flatten,
    event::after,
    image::step_thread::StepThread,
    lock::Lock as _,
    slots,
    version::lease::{Lease, LeaseKind},
    version::{Owner, Version},
};

/// A value that is to be taken over when its load is published.
#[derive(Clone)]
pub(super) struct Carry {
    /// The value, which is still the old version's.
    pub old: Arc<Cell>,
    /// The version that takes it over.
    pub new_owner: Owner,
    /// The new type.
    pub table: &'static CarryTable,
    /// With another type: the new value.
    pub migrated: Option<Migrated>,
}

/// A value of another type, which the new version reads until the publish.
#[derive(Clone)]
pub(super) struct Migrated {
    pub cell: Arc<Cell>,
    /// What of the old value is in it.
    pub seen: Arc<Mutex<Seen>>,
}

impl Carry {
    /// What the new version reads until the publish.
    pub fn visible(&self) -> &Arc<Cell> {
        self.migrated.as_ref().map_or(&self.old, |migrated| &migrated.cell)
    }

    /// Why it cannot be taken over any more.
    pub fn is_outdated(&self) -> EngineError {
        EngineError::publish(&Error::msg(format_args!(
            "`{}` was set anew or removed while the load that takes it over was under way; reload \
             again",
            self.old.key
        )))
    }

    /// Why it cannot be changed until the publish.
    pub fn read_only(&self) -> Error {
        let (key, old) = (&self.old.key, self.old.owner());
        Error::msg(format_args!(
            "`{key}` is still {old}'s; until the load is published it can only be read"
        ))
    }
}

/// How long the new version's calls wait, where they use a value whose type changed, for calls of the old
/// version that are under way: what those change meanwhile is migrated too. Later changes are errors.
const LAST_CALLS: Duration = Duration::from_millis(50);

/// Values that are locked, and ready to change hands. Dropping it leaves them as they were, unless they
/// were assigned.
pub(super) struct Handover<'a> {
    values: Vec<Passing<'a>>,
    store: &'a Store,
    steps: &'a StepThread,
}

/// A value on its way from one version to another.
struct Passing<'a> {
    carry: &'a Carry,
    /// The value that changes hands, or, with another type, the new one: nobody uses it until it has
    /// the last changes.
    locked: LockedCell<'a>,
    /// It may point into the new owner's image, and is still the old one's.
    is_rehomed: bool,
}

impl<'a> Handover<'a> {
    /// Locks the values, for as long as a step may take at most. Those of another type catch up with what
    /// changed since they were made, and the others are rehomed.
    ///
    /// A thread may use one value while it uses another, so none is held while one is waited for.
    pub fn prepare(
        store: &'a Store,
        carries: &'a BTreeMap<String, Carry>,
        steps: &'a StepThread,
    ) -> Result<Self, EngineError> {
        for carry in carries.values() {
            carry.catch_up_beside(steps)?;
        }
        let deadline = after(Instant::now(), steps.timeout());
        let values = loop {
            match Passing::lock_all(carries).map_err(|error| EngineError::publish(&error))? {
                Ok(values) => break values,
                Err(key) if Instant::now() >= deadline => {
                    let in_use = Error::msg(format_args!("`{key}` is in use, and stayed so"));
                    let cause = LoadCause::TimedOut { after: steps.timeout() };
                    return Err(EngineError::publish(&in_use).because(cause));
                }
                Err(_) => thread::sleep(RETRY),
            }
        };
        let mut handover = Self { values, store, steps };
        let shared = handover.values.iter_mut().filter(|value| value.carry.migrated.is_none());
        for value in shared {
            value.rehome(store, steps)?;
        }
        Ok(handover)
    }

    /// Lets the values change hands; returns the cells of those that have another type now. Nothing
    /// of a plugin runs.
    pub fn assign(&mut self) -> Vec<Arc<Cell>> {
        let mut migrated = Vec::new();
        for value in &mut self.values {
            match &value.carry.migrated {
                Some(new) => {
                    value.carry.old.pass();
                    migrated.push(new.cell.clone());
                }
                None => value.locked.hand_over(&value.carry.new_owner, value.carry.table),
            }
            value.is_rehomed = false;
        }
        migrated
    }

    /// Brings the last changes into the values of another type, when the new versions serve. Their calls
    /// wait for these values until then.
    pub fn finish(mut self, replaced: &[Arc<Version>], is_read: impl Fn() -> bool) {
        self.values.retain(|value| value.carry.migrated.is_some());
        if self.values.is_empty() {
            return;
        }
        wait_for_calls(replaced, is_read);
        // Each is let go as soon as it is ready, and none waits for another's code.
        for mut value in mem::take(&mut self.values) {
            let steps = self.steps.another();
            if let Err(error) = steps.and_then(|steps| value.catch_up(self.store, &steps)) {
                let key = &value.carry.old.key;
                tracing::error!(
                    "`{key}` lacks what was changed last while it was taken over: {error}"
                );
            }
        }
    }
}

/// Waits until no call runs in these versions, or is about to, since it is reading the generation that
/// was replaced; but no longer than [`LAST_CALLS`].
fn wait_for_calls(versions: &[Arc<Version>], is_read: impl Fn() -> bool) {
    let deadline = Instant::now() + LAST_CALLS;
    let is_called = |version: &Arc<Version>| {
        slots::is_held(Arc::as_ptr(version)) || version.leases().count(LeaseKind::Call) > 0
    };
    while (is_read() || versions.iter().any(is_called)) && Instant::now() < deadline {
        thread::sleep(RETRY);
    }
}

impl Drop for Handover<'_> {
    /// Gives the old versions back what was not assigned.
    fn drop(&mut self) {
        for value in self.values.iter_mut().filter(|value| value.is_rehomed) {
            // Not on the load's own thread, or another value's, which may be stuck.
            let steps = self.steps.another();
            let given_back = steps.and_then(|steps| value.give_back(self.store, &steps));
            if let Err(error) = given_back {
                tracing::error!("a value that a failed load was to take over: {error}");
                value.lose(self.store);
            }
        }
    }
}

impl Carry {
    /// Lets a value of another type catch up with what changed, while the old one is in use.
    fn catch_up_beside(&self, steps: &StepThread) -> Result<(), EngineError> {
        let Some(Migrated { cell, seen }) = self.migrated.clone() else { return Ok(()) };
        let (old, table) = (self.old.clone(), self.table);
        let new_version = lease(&self.old, &self.new_owner)?;
        steps
            .run(&new_version, Step::Publish, move |_| {
                let mut seen = seen.locked();
                Answer::from_result(seen.catch_up_beside(&old, &cell, table))
            })
            .map_err(|error| error.about(format_args!("`{}`", self.old.key)))
    }
}

impl<'a> Passing<'a> {
    /// Locks all values or none; the inner error is the key of one that somebody is using.
    fn lock_all(
        carries: &'a BTreeMap<String, Carry>,
    ) -> hotswap_plugin::Result<Result<Vec<Self>, &'a str>> {
        let mut all = Vec::new();
        for (key, carry) in carries {
            carry.old.expect_unlocked()?;
            match carry.visible().try_lock()? {
                Some(locked) => all.push(Self { carry, locked, is_rehomed: false }),
                None => return Ok(Err(key)),
            }
        }
        Ok(Ok(all))
    }

    /// Makes a value of the same type the new version's as a whole.
    fn rehome(&mut self, store: &Store, steps: &StepThread) -> Result<(), EngineError> {
        let table = self.carry.table;
        let new_version = lease(&self.carry.old, &self.carry.new_owner)?;
        self.is_rehomed = true;
        // SAFETY: the step leases the new owner, whose type has the same schema.
        let rehome = |value: &Value| flatten(unsafe { value.rehome_to(table) });
        self.lend(store, steps, &new_version, rehome)
    }

    /// Brings what changed last into a value of another type; then the old one is superseded.
    fn catch_up(&mut self, store: &Store, steps: &StepThread) -> Result<(), EngineError> {
        let Carry { old, new_owner, table, migrated } = self.carry.clone();
        let Some(Migrated { cell, seen }) = migrated else { return Ok(()) };
        let new_version = lease(&old, &new_owner)?;
        let mut new = self.locked.take().ok_or_else(|| self.carry.is_outdated())?;
        let caught_up = steps.run(&new_version, Step::Publish, move |_| {
            let mut seen = seen.locked();
            let done = old.last_look(&new_owner, LAST_CALLS, |old, changes| {
                // SAFETY: both versions are leased; nobody changes the old value, and the new one was
                // taken out of its cell.
                unsafe { seen.catch_up((old, changes), &mut new, table) }
            });
            Answer::Ok((new, done))
        });
        let (new, done) = caught_up.inspect_err(|_| {
            // Its code has not come back, and has the value: the key can be set anew.
            store.forget(&cell);
        })?;
        self.locked.put_back(new);
        refused(&new_version, done)
    }

    /// Makes the value the old version's as a whole again.
    fn give_back(&mut self, store: &Store, steps: &StepThread) -> Result<(), EngineError> {
        let old_version = lease(&self.carry.old, &self.carry.old.owner())?;
        // SAFETY: the step leases the owner.
        let rehome = |value: &Value| flatten(unsafe { value.rehome() });
        self.lend(store, steps, &old_version, rehome)
    }

    /// Runs code of a version with the value, which is lost where that does not return.
    fn lend<T: Send + 'static>(
        &mut self,
        store: &Store,
        steps: &StepThread,
        version: &Lease,
        f: impl FnOnce(&Value) -> hotswap_plugin::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let cell = &self.carry.old;
        // The value may point into its owner's image, whatever becomes of the load.
        let owner = cell.lease_of_owner();
        let value = self.locked.take().ok_or_else(|| self.carry.is_outdated())?;
        let lent = steps.run(version, Step::Publish, move |_| {
            let answer = f(&value);
            drop(owner);
            Answer::Ok((value, answer))
        });
        let (value, answer) = lent.map_err(|error| {
            self.lose(store);
            error.about(format_args!("`{}` is lost", cell.key))
        })?;
        self.locked.put_back(value);
        let answer = answer.map_err(|error| {
            let old = cell.schema().name();
            error.context(format_args!("`{}`: the value, a `{old}`, cannot change hands", cell.key))
        });
        refused(version, answer)
    }

    /// Lets go of a value that nobody may use any more, as if it had never been set.
    fn lose(&mut self, store: &Store) {
        self.is_rehomed = false;
        // It says in the log that it is left behind.
        drop(self.locked.take());
        store.forget(&self.carry.old);
    }
}

/// What code of a version answered during the publish.
fn refused<T>(version: &Lease, answer: hotswap_plugin::Result<T>) -> Result<T, EngineError> {
    let outcome = Answer::from_result(answer);
    EngineError::of_outcome(version.version().name(), Step::Publish, outcome)
}

/// A lease of the version that owns a value, or is about to.
fn lease(cell: &Cell, owner: &Owner) -> Result<Lease, EngineError> {
    let gone = || Error::msg(format_args!("`{}`: {owner} has ended meanwhile", cell.key));
    cell.lease_of(owner).ok_or_else(|| EngineError::publish(&gone()))
}
