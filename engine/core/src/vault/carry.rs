//! Values that a new version takes over from the one that it replaces.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hotswap_plugin::{__private::CarryTable, Error, Result};

use super::cell::{Cell, LockedCell};
use crate::version::Owner;

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

/// Values that are locked, and ready to change hands. Dropping it leaves them as they were.
pub(super) struct Handover<'a>(Vec<(&'a Carry, LockedCell<'a>)>);

impl<'a> Handover<'a> {
    /// Locks the values, until `deadline` at most, and migrates those of another type once more, as
    /// they are now.
    ///
    /// A thread may use one value while it uses another, so none is held while one is waited for.
    pub fn prepare(carries: &'a BTreeMap<String, Carry>, deadline: Instant) -> Result<Self> {
        let locked = loop {
            match Self::lock_all(carries)? {
                Ok(locked) => break locked,
                Err(key) if Instant::now() >= deadline => {
                    return Err(Error::msg(format_args!("`{key}` is in use, and stayed so")));
                }
                Err(_) => thread::sleep(RETRY),
            }
        };
        for (carry, old) in &locked {
            if let Some(new) = &carry.migrated {
                let value = old.migrated(carry.table)?;
                new.replace(value);
            }
        }
        Ok(Self(locked))
    }

    /// Locks all values or none; the inner error is the key of one that somebody is using.
    fn lock_all(
        carries: &'a BTreeMap<String, Carry>,
    ) -> Result<std::result::Result<Vec<(&'a Carry, LockedCell<'a>)>, &'a str>> {
        let mut locked = Vec::new();
        for (key, carry) in carries {
            match carry.old.try_lock()? {
                Some(old) => locked.push((carry, old)),
                None => return Ok(Err(key)),
            }
        }
        Ok(Ok(locked))
    }

    /// Lets the values change hands; returns the cells of those that have another type now. Nothing
    /// of a plugin runs.
    pub fn assign(&mut self) -> Vec<Arc<Cell>> {
        let mut migrated = Vec::new();
        for (carry, old) in &mut self.0 {
            match &carry.migrated {
                Some(new) => {
                    old.supersede(&carry.new_owner);
                    migrated.push(new.clone());
                }
                None => old.hand_over(&carry.new_owner, carry.table),
            }
        }
        migrated
    }

    /// Rehomes what was handed over, and unlocks it.
    pub fn finish(self) {
        for (carry, old) in self.0 {
            if carry.migrated.is_none() {
                old.rehome();
            }
        }
    }
}
