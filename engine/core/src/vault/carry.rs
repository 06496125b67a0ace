//! Values that a new version takes over from the version that it replaces.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::CarryTable, Error, abi::Answer};

use super::{
    VaultContents,
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

/// A value that is taken over when its load is published.
#[derive(Clone)]
pub(super) struct Carry {
    /// The value, which still belongs to the old version.
    pub old: Arc<Cell>,
    /// The version that takes it over.
    pub new_owner: Owner,
    /// The new type.
    pub table: &'static CarryTable,
    /// The new value, if the type is another one.
    pub migrated: Option<Migrated>,
}

/// The new value of another type, which the new version reads until the publish.
#[derive(Clone)]
pub(super) struct Migrated {
    pub cell: Arc<Cell>,
    /// The parts of the old value that the new value already has.
    pub seen: Arc<Mutex<Seen>>,
}

impl Carry {
    /// The cell that the new version reads until the publish.
    pub fn visible(&self) -> &Arc<Cell> {
        self.migrated.as_ref().map_or(&self.old, |migrated| &migrated.cell)
    }

    /// Drops the new value of another type, if there is one. Its owner's code runs, or the owner is ending.
    pub fn drop_migrated(&self) {
        self.migrated.iter().for_each(|migrated| migrated.cell.destroy());
    }

    /// Why it cannot be taken over any more.
    pub fn is_outdated(&self) -> EngineError {
        EngineError::publish(&Error::msg(format_args!(
            "`{}` was replaced or removed while the load that takes it over was running; reload \
             again",
            self.old.key
        )))
    }

    /// Why it cannot be changed before the publish.
    pub fn read_only(&self) -> Error {
        let (key, old) = (&self.old.key, self.old.owner());
        Error::msg(format_args!(
            "`{key}` still belongs to {old}; until the load is published it can only be read"
        ))
    }
}

/// How long calls of the new version that use a value with a new type wait for running calls of the old version.
/// Changes that the old calls make meanwhile are migrated, too. Later changes are errors.
const LAST_CALLS: Duration = Duration::from_millis(50);

/// Values that are locked and ready to be handed over. Dropping this leaves them as they were, unless they
/// were assigned.
pub(super) struct Handover<'a> {
    values: Vec<Passing<'a>>,
    published: &'a VaultContents,
    steps: &'a StepThread,
}

/// A value on its way from one version to another.
struct Passing<'a> {
    carry: &'a Carry,
    /// The value that is handed over; or, with another type, the new value, which nobody uses until it has
    /// the last changes.
    locked: LockedCell<'a>,
    /// Whether the value may point into the new owner's image although it still belongs to the old one.
    is_rehomed: bool,
}

impl<'a> Handover<'a> {
    /// Locks the values, for at most as long as a step may take. New values of another type get the changes that
    /// the old values had since the new ones were made; values of the same type are rehomed.
    ///
    /// A thread may use one value while it uses another. So no lock is held while this waits for another one.
    pub fn prepare(
        published: &'a VaultContents,
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
                    let in_use = Error::msg(format_args!(
                        "`{key}` stayed in use, so it could not be taken over"
                    ));
                    let cause = LoadCause::TimedOut { after: steps.timeout() };
                    return Err(EngineError::publish(&in_use).because(cause));
                }
                Err(_) => thread::sleep(RETRY),
            }
        };
        let mut handover = Self { values, published, steps };
        let shared = handover.values.iter_mut().filter(|value| value.carry.migrated.is_none());
        for value in shared {
            value.rehome(published, steps)?;
        }
        Ok(handover)
    }

    /// Hands the values over. Returns the cells of the values that have another type now. No code of a plugin
    /// runs.
    pub fn assign(&mut self) -> Vec<Arc<Cell>> {
        let mut migrated = Vec::new();
        for value in &mut self.values {
            match &value.carry.migrated {
                Some(new) => {
                    value.carry.old.mark_migrating();
                    migrated.push(new.cell.clone());
                }
                None => value.locked.hand_over(&value.carry.new_owner, value.carry.table),
            }
            value.is_rehomed = false;
        }
        migrated
    }

    /// Brings the last changes into the values with another type, after the new versions began to serve.
    /// Their calls wait for these values until then.
    pub fn finish(mut self, replaced: &[Arc<Version>], is_read: impl Fn() -> bool) {
        self.values.retain(|value| value.carry.migrated.is_some());
        if self.values.is_empty() {
            return;
        }
        wait_for_calls(replaced, is_read);
        // Each value is released as soon as it is ready, and none waits for code of another one.
        for mut value in mem::take(&mut self.values) {
            let steps = self.steps.another();
            if let Err(error) = steps.and_then(|steps| value.catch_up(self.published, &steps)) {
                let key = &value.carry.old.key;
                tracing::error!(
                    "`{key}` lacks the changes that were made last, while it was taken over: {error}"
                );
            }
        }
    }
}

/// Waits until no call runs in these versions, or is still reading the replaced generation, but for at most
/// [`LAST_CALLS`].
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
    /// Gives the values that were not assigned back to the old versions.
    fn drop(&mut self) {
        for value in self.values.iter_mut().filter(|value| value.is_rehomed) {
            // The thread of the load, or the thread of another value, may be stuck.
            let steps = self.steps.another();
            let given_back =
                steps.and_then(|steps| value.rehome_to_old_version(self.published, &steps));
            if let Err(error) = given_back {
                tracing::error!("a failed load could not give a value back: {error}");
                value.abandon(self.published);
            }
        }
    }
}

impl Carry {
    /// Brings changes into a value with another type, while the old value is in use.
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
    /// Locks all values or none. The inner error is the key of a value that is in use.
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

    /// Rehomes a value of the same type wholly to the new version.
    fn rehome(&mut self, published: &VaultContents, steps: &StepThread) -> Result<(), EngineError> {
        let table = self.carry.table;
        let new_version = lease(&self.carry.old, &self.carry.new_owner)?;
        // A value that was removed meanwhile need not be given back.
        self.is_rehomed = self.locked.has_value();
        // SAFETY: the step leases the new owner, whose type has the same schema.
        let rehome = |value: &Value| flatten(unsafe { value.rehome_to(table) });
        self.lend(published, steps, &new_version, rehome)
    }

    /// Brings the last changes into a value with another type. Afterwards the old value is superseded.
    fn catch_up(
        &mut self,
        published: &VaultContents,
        steps: &StepThread,
    ) -> Result<(), EngineError> {
        let Carry { old, new_owner, table, migrated } = self.carry.clone();
        let Some(Migrated { cell, seen }) = migrated else { return Ok(()) };
        let new_version = lease(&old, &new_owner)?;
        let mut new = self.locked.take().ok_or_else(|| self.carry.is_outdated())?;
        let caught_up = steps.run(&new_version, Step::Publish, move |_| {
            let mut seen = seen.locked();
            let done = old.with_final_value(&new_owner, LAST_CALLS, |old, changes| {
                // SAFETY: both versions are leased; nobody changes the old value, and the new one was taken
                // out of its cell.
                unsafe { seen.catch_up((old, changes), &mut new, table) }
            });
            Answer::Ok((new, done))
        });
        let (new, done) = caught_up.inspect_err(|_| {
            // The new version's code has not returned, and still has the value. So the value is lost, and the key
            // can be set again.
            published.forget(&cell);
        })?;
        self.locked.put_back(new);
        step_result(&new_version, done)
    }

    /// Rehomes a value wholly to the old version again.
    fn rehome_to_old_version(
        &mut self,
        published: &VaultContents,
        steps: &StepThread,
    ) -> Result<(), EngineError> {
        let old_version = lease(&self.carry.old, &self.carry.old.owner())?;
        // SAFETY: the step leases the owner.
        let rehome = |value: &Value| flatten(unsafe { value.rehome() });
        self.lend(published, steps, &old_version, rehome)
    }

    /// Runs code of a version with the value. If the code does not return, the value is lost.
    fn lend<T: Send + 'static>(
        &mut self,
        published: &VaultContents,
        steps: &StepThread,
        version: &Lease,
        f: impl FnOnce(&Value) -> hotswap_plugin::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let cell = &self.carry.old;
        // The value may point into its owner's image, whatever happens to the load.
        let owner = cell.lease_of_owner();
        let value = self.locked.take().ok_or_else(|| self.carry.is_outdated())?;
        let lent = steps.run(version, Step::Publish, move |_| {
            let answer = f(&value);
            drop(owner);
            Answer::Ok((value, answer))
        });
        let (value, answer) = lent.map_err(|error| {
            self.abandon(published);
            error.about(format_args!("`{}` is lost", cell.key))
        })?;
        self.locked.put_back(value);
        let answer = answer.map_err(|error| {
            let old = cell.schema().name();
            error.context(format_args!(
                "`{}`: the value, a `{old}`, cannot be handed over",
                cell.key
            ))
        });
        step_result(version, answer)
    }

    /// Abandons a value that must not be used any more, as if it had never been set.
    fn abandon(&mut self, published: &VaultContents) {
        self.is_rehomed = false;
        // Dropping it logs that it was left behind.
        drop(self.locked.take());
        published.forget(&self.carry.old);
    }
}

/// The answer of a version whose code ran during the publish, as the result of this step.
fn step_result<T>(version: &Lease, answer: hotswap_plugin::Result<T>) -> Result<T, EngineError> {
    let answer = Answer::from_result(answer);
    EngineError::of_answer(version.version().name(), Step::Publish, answer)
}

/// A lease of the version that owns a value, or is about to own it.
fn lease(cell: &Cell, owner: &Owner) -> Result<Lease, EngineError> {
    let gone = || Error::msg(format_args!("`{}`: {owner} has ended meanwhile", cell.key));
    cell.lease_of(owner).ok_or_else(|| EngineError::publish(&gone()))
}
