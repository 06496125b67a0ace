//! The Vault as one owner sees it.

use std::sync::{Arc, Weak};

use hotswap_plugin::{
    __private::{CarryTable, RawObject, RawValue, ValueCallback},
    Carried, Error, Result, Vault,
};

use super::{
    Contents, Overlay, Sight, Slot, Store,
    carry::Carry,
    cell::{Cell, flatten},
    table,
};
use crate::version::{Owner, Version};

/// The Vault as one owner sees it; what a [`Vault`] refers to.
pub(crate) struct View {
    store: Arc<Store>,
    owner: Owner,
}

impl View {
    /// The Vault for the host.
    pub fn for_host(store: &Arc<Store>) -> Vault {
        Self { store: store.clone(), owner: Owner::Host }.into_vault()
    }

    /// The Vault for a version.
    pub fn for_version(store: &Arc<Store>, version: &Arc<Version>) -> Vault {
        Self { store: store.clone(), owner: Owner::Version(Arc::downgrade(version)) }.into_vault()
    }

    fn into_vault(self) -> Vault {
        table::vault(Arc::new(self))
    }

    /// What this owner sees beside the store.
    fn overlay(&self) -> Option<(Arc<Overlay>, bool)> {
        let Owner::Version(version) = &self.owner else { return None };
        match version.upgrade()?.bag.sight() {
            Sight::Loading(overlay) => Some((overlay, true)),
            Sight::Retired(overlay) => Some((overlay, false)),
            Sight::Published => None,
        }
    }

    /// Finds an entry where this owner would.
    fn find(&self, key: &str) -> Option<Arc<Cell>> {
        let overlay = self.overlay();
        let own = overlay.as_ref().and_then(|(own, _)| {
            let written = own.contents().entries.get(key).cloned();
            written.or_else(|| Some(own.carries().get(key)?.visible().clone()))
        });
        own.or_else(|| {
            let cell = self.store.contents().entries.get(key).cloned()?;
            let hidden = overlay.as_ref().is_some_and(|(own, _)| own.hides(&cell.owner()));
            (!hidden).then_some(cell)
        })
    }

    /// Runs `f` with the contents that this owner writes to.
    fn with_own<T>(&self, f: impl FnOnce(&mut Contents) -> T) -> T {
        match self.overlay() {
            Some((own, _)) => f(&mut own.contents()),
            None => f(&mut self.store.contents()),
        }
    }

    /// Refuses a change of a value that this owner is about to take over.
    fn expect_writable(&self, key: &str) -> Result<()> {
        let Some((own, _)) = self.overlay() else { return Ok(()) };
        own.carries().get(key).map_or(Ok(()), |carry| Err(carry.read_only()))
    }

    pub fn set(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        let cell = Arc::new(Cell::new(key, self.owner.clone(), value)?);
        if let Err(error) = self.expect_writable(key) {
            cell.destroy();
            return Err(error);
        }
        let old = self.find(key);
        if old.is_some() && !replace {
            cell.destroy();
            return Ok(false);
        }
        if let Some(Err(error)) = old.map(|old| old.expect_unlocked()) {
            cell.destroy();
            return Err(error);
        }
        let displaced = self.with_own(|contents| {
            if !replace && contents.entries.contains_key(key) {
                return Err(cell);
            }
            Ok(contents.entries.insert(key.to_owned(), cell))
        });
        match displaced {
            Ok(displaced) => {
                displaced.iter().for_each(|cell| cell.destroy_leased());
                Ok(true)
            }
            Err(second) => {
                second.destroy();
                Ok(false)
            }
        }
    }

    pub fn with(&self, key: &str, callback: &mut ValueCallback) -> Result<bool> {
        if callback.write {
            self.expect_writable(key)?;
        }
        match self.find(key) {
            Some(cell) => cell.with(&self.owner, callback),
            None => Ok(false),
        }
    }

    /// Takes a value over from a version that this load replaces, when it is published.
    pub fn carry(&self, key: &str, table: &'static CarryTable) -> Result<Carried> {
        let Some((own, true)) = self.overlay() else {
            return Err(Error::msg("`carry` is for `on_init`: nothing is being replaced now"));
        };
        if own.contents().entries.contains_key(key) || own.carries().contains_key(key) {
            return Err(Error::msg(format_args!(
                "`{key}` was set or carried by this load already"
            )));
        }
        let Some(old) = self.store.contents().entries.get(key).cloned() else {
            return Ok(Carried::New);
        };
        if !own.hides(&old.owner()) {
            return Ok(Carried::Kept);
        }
        let schema = flatten((table.value.schema)())?;
        let migrated = if schema == *old.schema() {
            None
        } else {
            let value = old.migrated(table)?;
            Some(Arc::new(Cell::new(key, self.owner.clone(), value)?))
        };
        let carried = if migrated.is_some() { Carried::Migrated } else { Carried::Shared };
        let carry = Carry { old, new_owner: self.owner.clone(), table, migrated };
        own.carries().insert(key.to_owned(), carry);
        Ok(carried)
    }

    pub fn remove(&self, key: &str) -> Result<bool> {
        self.expect_writable(key)?;
        let Some(cell) = self.find(key) else { return Ok(false) };
        if matches!(self.overlay(), Some((_, true))) && !self.owns(&cell.owner()) {
            return Err(Error::msg(format_args!(
                "`{key}` belongs to {}; a plugin removes only its own values while it is loaded, \
                 since the load may still be undone",
                cell.owner()
            )));
        }
        cell.expect_unlocked()?;
        let removed = self.with_own(|contents| contents.entries.remove(key));
        removed.iter().for_each(|cell| cell.destroy_leased());
        Ok(removed.is_some())
    }

    pub fn keys(&self) -> Vec<String> {
        let overlay = self.overlay();
        let mut keys: Vec<String> = {
            let contents = self.store.contents();
            let seen = contents.entries.iter().filter(|(_, cell)| {
                !overlay.as_ref().is_some_and(|(own, _)| own.hides(&cell.owner()))
            });
            seen.map(|(key, _)| key.clone()).collect()
        };
        if let Some((own, _)) = &overlay {
            keys.extend(own.contents().entries.keys().cloned());
            keys.extend(own.carries().keys().cloned());
        }
        keys.sort();
        keys.dedup();
        keys
    }

    pub fn register(&self, name: &str, object: RawObject) -> Result<()> {
        let slot = Slot::new(name, self.owner.clone(), object)?;
        let overlay = self.overlay();
        let taken = |contents: &Contents| {
            let same = |other: &&Arc<Slot>| {
                other.name == slot.name
                    && other.shape.name == slot.shape.name
                    && !overlay.as_ref().is_some_and(|(own, _)| own.hides(&other.owner))
            };
            contents.slots.iter().find(same).map(|other| other.owner.to_string())
        };
        let taken_by = taken(&self.store.contents()).or_else(|| self.with_own(|own| taken(own)));
        if let Some(owner) = taken_by {
            slot.destroy();
            let interface = &slot.shape.name;
            return Err(Error::msg(format_args!(
                "`{name}` of `{interface}` is registered by {owner} already"
            )));
        }
        self.with_own(|contents| contents.slots.push(Arc::new(slot)));
        Ok(())
    }

    fn owns(&self, owner: &Owner) -> bool {
        match (&self.owner, owner) {
            (Owner::Host, Owner::Host) => true,
            (Owner::Version(a), Owner::Version(b)) => Weak::ptr_eq(a, b),
            _ => false,
        }
    }
}
