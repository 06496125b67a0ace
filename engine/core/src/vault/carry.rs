//! Values that a new version takes over from the one that it replaces.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::CarryTable, Error, abi::Outcome};

use super::{
    Store,
    cell::{Cell, LockedCell, Value, flatten},
};
use crate::{EngineError, Step, lease::Lease, lifecycle::StepThread, version::Owner};

/// A value that is to be taken over when its load is published.
#[derive(Clone)]
pub(super) struct Carry {
    /// The value, which is still the old version's.
    pub old: Arc<Cell>,
    /// Who takes it over.
    pub new_owner: Owner,
    /// The new type.
    pub table: &'static CarryTable,
    /// With another type: a first migration, which the new version reads until the publish.
    pub migrated: Option<Arc<Cell>>,
}

impl Carry {
    /// What the new version reads until the publish.
    pub fn visible(&self) -> &Arc<Cell> {
        self.migrated.as_ref().unwrap_or(&self.old)
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

/// How long to wait between two attempts at locking what somebody is using.
const RETRY: Duration = Duration::from_millis(1);

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
    old: LockedCell<'a>,
    /// It may point into the new owner's image, and is still the old one's.
    is_rehomed: bool,
}

impl<'a> Handover<'a> {
    /// Locks the values, for as long as a step may take at most. Those of another type are migrated
    /// once more, as they are now, and the others rehomed.
    ///
    /// A thread may use one value while it uses another, so none is held while one is waited for.
    pub fn prepare(
        store: &'a Store,
        carries: &'a BTreeMap<String, Carry>,
        steps: &'a StepThread,
    ) -> Result<Self, EngineError> {
        let deadline = crate::event::after(Instant::now(), steps.timeout());
        let values = loop {
            match Passing::lock_all(carries).map_err(|error| EngineError::publish(&error))? {
                Ok(values) => break values,
                Err(key) if Instant::now() >= deadline => {
                    let in_use = Error::msg(format_args!("`{key}` is in use, and stayed so"));
                    return Err(EngineError::publish(&in_use));
                }
                Err(_) => thread::sleep(RETRY),
            }
        };
        let mut handover = Self { values, store, steps };
        for value in &mut handover.values {
            value.migrate_or_rehome(store, steps)?;
        }
        Ok(handover)
    }

    /// Lets the values change hands; returns the cells of those that have another type now. Nothing
    /// of a plugin runs.
    pub fn assign(&mut self) -> Vec<Arc<Cell>> {
        let mut migrated = Vec::new();
        for Passing { carry, old, is_rehomed } in &mut self.values {
            match &carry.migrated {
                Some(new) => {
                    old.supersede(&carry.new_owner);
                    migrated.push(new.clone());
                }
                None => old.hand_over(&carry.new_owner, carry.table),
            }
            *is_rehomed = false;
        }
        migrated
    }
}

impl Drop for Handover<'_> {
    /// Gives the old versions back what was not assigned.
    fn drop(&mut self) {
        let mut rehomed = self.values.iter_mut().filter(|value| value.is_rehomed).peekable();
        if rehomed.peek().is_none() {
            return;
        }
        // Not on the load's own thread, which may be stuck.
        let steps = self.steps.another();
        for value in rehomed {
            let steps = steps.as_ref().map_err(|error| error.to_string());
            let given_back = steps.and_then(|steps| {
                value.give_back(self.store, steps).map_err(|error| error.to_string())
            });
            if let Err(error) = given_back {
                tracing::error!("a value that a failed load was to take over: {error}");
                value.lose(self.store);
            }
        }
    }
}

impl<'a> Passing<'a> {
    /// Locks all values or none; the inner error is the key of one that somebody is using.
    fn lock_all(
        carries: &'a BTreeMap<String, Carry>,
    ) -> hotswap_plugin::Result<Result<Vec<Self>, &'a str>> {
        let mut locked = Vec::new();
        for (key, carry) in carries {
            match carry.old.try_lock()? {
                Some(old) => locked.push(Self { carry, old, is_rehomed: false }),
                None => return Ok(Err(key)),
            }
        }
        Ok(Ok(locked))
    }

    fn migrate_or_rehome(&mut self, store: &Store, steps: &StepThread) -> Result<(), EngineError> {
        let Carry { old, new_owner, migrated, .. } = self.carry;
        let table = self.carry.table;
        let new_version = lease(old, new_owner)?;
        let Some(new) = migrated.clone() else {
            self.is_rehomed = true;
            // SAFETY: the step leases the new owner, whose type has the same schema.
            let rehome = |value: &Value| flatten(unsafe { value.rehome_to(table) });
            return self.lend(store, steps, &new_version, rehome);
        };
        // SAFETY: the step leases the owner.
        let tell = |value: &Value| flatten(unsafe { value.to_json() });
        let json = self.lend(store, steps, &lease(old, &old.owner())?, tell)?;
        let cell = old.clone();
        let read = move || cell.read_as(table, &json).map(|value| new.replace(value));
        let read = steps.run(&new_version, Step::Publish, move |_| Outcome::Ok(read()));
        refused(&new_version, read.map_err(|error| error.about(format_args!("`{}`", old.key)))?)
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
        let value = self.old.take().ok_or_else(|| self.carry.is_outdated())?;
        let lent = steps.run(version, Step::Publish, move |_| {
            let answer = f(&value);
            drop(owner);
            Outcome::Ok((value, answer))
        });
        let (value, answer) = lent.map_err(|error| {
            self.lose(store);
            error.about(format_args!("`{}` is lost", cell.key))
        })?;
        self.old.put_back(value);
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
        drop(self.old.take());
        store.forget(&self.carry.old);
    }
}

/// What code of a version answered during the publish.
fn refused<T>(version: &Lease, answer: hotswap_plugin::Result<T>) -> Result<T, EngineError> {
    let outcome = Outcome::from_result(answer);
    EngineError::of_outcome(version.version().name(), Step::Publish, outcome)
}

/// A lease of the version that owns a value, or is about to.
fn lease(cell: &Cell, owner: &Owner) -> Result<Lease, EngineError> {
    let gone = || Error::msg(format_args!("`{}`: {owner} has ended meanwhile", cell.key));
    cell.lease_of(owner).ok_or_else(|| EngineError::publish(&gone()))
}
