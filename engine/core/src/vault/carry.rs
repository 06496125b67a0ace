//! Values that a new version takes over from the one that it replaces.

use std::sync::Arc;

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

/// Values that are locked, and ready to change hands. Dropping it leaves them as they were.
pub(super) struct Handover<'a>(Vec<(&'a Carry, LockedCell<'a>)>);

impl<'a> Handover<'a> {
    /// Locks the values and migrates those of another type once more, as they are now.
    ///
    /// The keys are in order, and nobody else locks two values at once, so this cannot deadlock.
    pub fn prepare(carries: impl Iterator<Item = &'a Carry>) -> Result<Self> {
        let mut locked = Vec::new();
        for carry in carries {
            let old = carry.old.lock()?;
            if let Some(new) = &carry.migrated {
                let new = new.lock()?;
                new.replace(old.migrated(carry.table)?);
            }
            locked.push((carry, old));
        }
        Ok(Self(locked))
    }

    /// Lets the values change hands; returns the cells of those that have another type now.
    pub fn complete(self) -> Vec<Arc<Cell>> {
        let mut migrated = Vec::new();
        for (carry, old) in self.0 {
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
}
