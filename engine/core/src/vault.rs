//! The Vault: named values and registrations, each with an owner.
//!
//! What is published lies in one [`Store`], which outlives all generations, so an unchanged plugin
//! and the host keep what is theirs. A load writes into an [`Overlay`] of its own, which the publish
//! merges into the store and a rollback drops. What a replaced version owned moves to an overlay of
//! that version alone: its last calls still find it, and it is dropped with the version, before the
//! image is unmapped.

mod carry;
mod cell;
mod slot;
mod table;
mod view;

pub(crate) use slot::Slot;
pub(crate) use view::View;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use hotswap_plugin::Result;
use hotswap_protocol::{DataBagEntry, ExtensionSlot, ValueChange, ValueOutcome};

use crate::version::{Owner, Version};
use carry::{Carry, Handover};
use cell::Cell;

/// Named values and registrations.
#[derive(Default)]
pub(crate) struct Store {
    contents: Mutex<Contents>,
}

/// What a [`Store`] or an [`Overlay`] holds.
#[derive(Default)]
struct Contents {
    entries: BTreeMap<String, Arc<Cell>>,
    slots: Vec<Arc<Slot>>,
}

/// The part of the Vault that only some versions see.
#[derive(Default)]
pub(crate) struct Overlay {
    contents: Mutex<Contents>,
    /// The values that this load takes over, by key.
    carries: Mutex<BTreeMap<String, Carry>>,
    /// The versions that this load replaces, whose entries are hidden from it.
    replaced: HashSet<*const Version>,
}

// SAFETY: the addresses are compared only, never followed.
unsafe impl Send for Overlay {}
// SAFETY: as above.
unsafe impl Sync for Overlay {}

/// What a version sees of the Vault.
pub(crate) struct Bag(Mutex<Sight>);

#[derive(Clone)]
enum Sight {
    /// It is being loaded: its load's overlay, then the store.
    Loading(Arc<Overlay>),
    /// It serves: the store.
    Published,
    /// It was replaced: what was its own, then the store.
    Retired(Arc<Overlay>),
}

impl Overlay {
    /// The overlay of a load that replaces these versions.
    pub fn new(replaced: &[Arc<Version>]) -> Arc<Self> {
        let replaced = replaced.iter().map(Arc::as_ptr).collect();
        Arc::new(Self { replaced, ..Self::default() })
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carries(&self) -> MutexGuard<'_, BTreeMap<String, Carry>> {
        self.carries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this load does not see what `owner` owns.
    fn hides(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Host => false,
            Owner::Version(version) => self.replaced.contains(&Weak::as_ptr(version)),
        }
    }
}

impl Bag {
    /// The sight of a version that is being loaded.
    pub fn loading(overlay: Arc<Overlay>) -> Self {
        Self(Mutex::new(Sight::Loading(overlay)))
    }

    fn sight(&self) -> Sight {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, sight: Sight) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sight;
    }

    /// Drops what only this version sees, values and objects; the version's last lease has ended.
    pub fn destroy(&self) {
        let (Sight::Loading(overlay) | Sight::Retired(overlay)) = self.sight() else { return };
        // The versions of a failed load share its overlay; each drops what is its own.
        let own = |owner: &Owner| match owner {
            Owner::Version(version) => {
                version.upgrade().is_none_or(|version| std::ptr::eq(&version.bag, self))
            }
            Owner::Host => false,
        };
        let carries = std::mem::take(&mut *overlay.carries());
        carries
            .values()
            .filter_map(|carry| carry.migrated.as_ref())
            .for_each(|cell| cell.destroy());
        let mine = overlay.contents().take(own);
        mine.entries.values().for_each(|cell| cell.destroy());
        mine.slots.iter().for_each(|slot| slot.destroy());
    }
}

impl Contents {
    /// Takes out what the owners that `whose` accepts own.
    fn take(&mut self, whose: impl Fn(&Owner) -> bool) -> Self {
        let Self { entries, slots } = std::mem::take(self);
        let (mine, others) = entries.into_iter().partition(|(_, cell)| whose(&cell.owner()));
        let (my_slots, other_slots) = slots.into_iter().partition(|slot| whose(&slot.owner));
        *self = Self { entries: others, slots: other_slots };
        Self { entries: mine, slots: my_slots }
    }
}

impl Store {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a load: what the new versions wrote is there for all, what the replaced ones owned
    /// is theirs alone, but for what the new ones take over. Says what became of each value.
    ///
    /// # Errors
    /// When a value that is to be taken over does not fit any more; then nothing has changed.
    pub fn publish(
        &self,
        overlay: &Overlay,
        loaded: &[Arc<Version>],
        replaced: &[Arc<Version>],
    ) -> Result<Vec<ValueOutcome>> {
        let before: Vec<String> = self.contents().entries.keys().cloned().collect();
        let carries = std::mem::take(&mut *overlay.carries());
        let handover = match Handover::prepare(carries.values()) {
            Ok(handover) => handover,
            Err(error) => {
                // The versions of the failed load drop what they have of it.
                *overlay.carries() = carries.clone();
                return Err(error);
            }
        };
        let migrated = handover.complete();
        for version in replaced {
            self.retire(version);
        }
        let mut displaced = Vec::new();
        let mut added = Vec::new();
        {
            let mut contents = self.contents();
            let mut new = std::mem::take(&mut *overlay.contents());
            added.extend(new.entries.keys().cloned());
            new.entries.extend(migrated.iter().map(|cell| (cell.key.clone(), cell.clone())));
            for (key, cell) in new.entries {
                displaced.extend(contents.entries.insert(key, cell));
            }
            contents.slots.extend(new.slots);
        }
        for version in loaded {
            version.bag.set(Sight::Published);
        }
        // A new version set a key that the host or another plugin had.
        displaced.iter().for_each(|cell| cell.destroy_leased());
        Ok(self.outcomes(&before, &added, &carries))
    }

    fn outcomes(
        &self,
        before: &[String],
        added: &[String],
        carries: &BTreeMap<String, Carry>,
    ) -> Vec<ValueOutcome> {
        let contents = self.contents();
        let mut keys: Vec<&String> = before.iter().chain(contents.entries.keys()).collect();
        keys.sort();
        keys.dedup();
        let change = |key: &String| match carries.get(key) {
            Some(carry) if carry.migrated.is_some() => ValueChange::Migrated,
            Some(_) => ValueChange::Shared,
            None if added.contains(key) => ValueChange::Added,
            None if contents.entries.contains_key(key) => ValueChange::Kept,
            None => ValueChange::Dropped,
        };
        keys.into_iter().map(|key| ValueOutcome { key: key.clone(), change: change(key) }).collect()
    }

    /// Moves what a version owns out of everybody's sight but its own.
    pub fn retire(&self, version: &Arc<Version>) {
        let owned_by = |owner: &Owner| match owner {
            Owner::Version(owner) => std::ptr::eq(Weak::as_ptr(owner), Arc::as_ptr(version)),
            Owner::Host => false,
        };
        let own = Overlay::default();
        *own.contents() = self.contents().take(owned_by);
        version.bag.set(Sight::Retired(Arc::new(own)));
    }

    /// The registrations of an interface, sorted by name.
    pub fn slots(&self, interface: &str) -> Vec<Arc<Slot>> {
        let contents = self.contents();
        let slots = contents.slots.iter().filter(|slot| slot.shape.name == interface);
        let mut slots: Vec<_> = slots.cloned().collect();
        slots.sort_by(|a, b| a.name.cmp(&b.name));
        slots
    }

    /// The named values as a console shows them.
    pub fn data_bag_infos(&self) -> Vec<DataBagEntry> {
        let cells: Vec<_> = self.contents().entries.values().cloned().collect();
        cells.iter().map(|cell| cell.info()).collect()
    }

    /// The registrations as a console shows them.
    pub fn slot_infos(&self) -> Vec<ExtensionSlot> {
        let contents = self.contents();
        let mut infos: Vec<_> = contents.slots.iter().map(|slot| slot.info()).collect();
        infos.sort_by(|a, b| (&a.interface, &a.name).cmp(&(&b.interface, &b.name)));
        infos
    }
}
