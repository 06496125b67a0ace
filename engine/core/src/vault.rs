//! The Vault: named values and registrations, each with an owner.
//!
//! Published entries are in one [`VaultContents`] that outlives all generations, so the host and unchanged plugins
//! keep their entries. A load writes into an [`Overlay`] of its own. Publishing the load merges the overlay
//! into the published contents; undoing the load drops it. The entries of a replaced version move to an overlay of that
//! version only: its last calls still find them, and they are dropped with the version, before its image is
//! unmapped.

mod carry;
mod cell;
mod live;
mod migration;
mod table;
mod view;

pub(crate) use cell::{PREVIEW_BOUNDS, cut_to_wire};
pub(crate) use live::LiveCalls;
pub(crate) use view::View;

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_plugin::Error;
use hotswap_protocol::{DataBagEntry, ExtensionSlot, MAX_LISTED, ValueChange, ValueOutcome};
use rustc_hash::FxHashMap;

use crate::{
    EngineError,
    image::step_thread::StepThread,
    lock::Lock as _,
    version::{
        Owner, Version, expectations::Expectations, lease::Lease, registration::Registration,
    },
};
use carry::{Carry, Handover};
use cell::Cell;

/// The published values and registrations.
///
/// A writer holds the lock of the contents from choosing the place to write until it has written, so nothing
/// is published or retired meanwhile. No code of a plugin runs under that lock.
#[derive(Default)]
pub(crate) struct VaultContents {
    contents: Mutex<Contents>,
    /// What each version that has not ended sees. The lock is taken only for a moment, also under the lock
    /// above; changes are made only under that one.
    sights: Mutex<FxHashMap<VersionAddress, Sight>>,
    /// The live functions and types of the newest generation; `None` before the first load.
    live: Mutex<Option<Arc<dyn LiveCalls>>>,
    /// The expectations of the host for registrations.
    expectations: Arc<Expectations>,
}

/// The address of a version, which is only compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct VersionAddress(usize);

impl VersionAddress {
    fn of(version: *const Version) -> Self {
        Self(version.addr())
    }
}

/// The contents of a [`VaultContents`] or an [`Overlay`].
#[derive(Default)]
struct Contents {
    entries: BTreeMap<String, Arc<Cell>>,
    registrations: Vec<Arc<Registration>>,
}

/// The part of the Vault that only some versions see.
#[derive(Default)]
pub(crate) struct Overlay {
    contents: Mutex<Contents>,
    /// The values that this load takes over.
    carries: Mutex<Carries>,
    /// The versions that this load replaces. Their entries are hidden from it.
    replaced: HashSet<VersionAddress>,
    /// The live functions and types of the generation that is being loaded, once they are known.
    live: OnceLock<Arc<dyn LiveCalls>>,
    /// How the load ended; `None` while it is running.
    end: Mutex<Option<LoadEnd>>,
}

/// The values that a load takes over.
#[derive(Default)]
struct Carries {
    by_key: BTreeMap<String, Carry>,
    /// Whether the publish has begun, or the load was undone. No further values are taken over.
    is_closed: bool,
}

/// How the load of an overlay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadEnd {
    /// Its changes are in the published contents.
    Published,
    /// Its changes are dropped.
    Undone,
}

/// What a version sees of the Vault.
#[derive(Clone)]
enum Sight {
    /// It is being loaded: it sees the overlay of its load, and then the published contents.
    Loading(Arc<Overlay>),
    /// It serves: it sees the published contents.
    Published,
    /// It was replaced: it sees its own entries, and then the published contents.
    Retired(Arc<Overlay>),
    /// It has ended: its own entries are gone, and it must not leave new ones.
    Ended,
}

/// A cell that was taken out of the Vault, and the lease that keeps its owner mapped until the value is dropped.
struct Displaced {
    cell: Arc<Cell>,
    lease: Option<Lease>,
}

impl Overlay {
    /// The overlay of a load that replaces these versions.
    pub fn new(replaced: &[Arc<Version>]) -> Arc<Self> {
        let replaced = replaced.iter().map(|old| VersionAddress::of(Arc::as_ptr(old))).collect();
        Arc::new(Self { replaced, ..Self::default() })
    }

    /// Sets the live functions and types of the load.
    pub fn set_live(&self, live: Arc<dyn LiveCalls>) {
        let _ = self.live.set(live);
    }

    /// Notes that the load was undone: holders of the overlay cannot leave anything in it any more.
    pub fn undo(&self) {
        self.carries().is_closed = true;
        self.set_end(LoadEnd::Undone);
    }

    fn set_end(&self, end: LoadEnd) {
        let mut own = self.end.locked();
        own.get_or_insert(end);
    }

    fn end_of_load(&self) -> Option<LoadEnd> {
        *self.end.locked()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.locked()
    }

    fn carries(&self) -> MutexGuard<'_, Carries> {
        self.carries.locked()
    }

    /// Refuses to change a value that this load is about to take over.
    fn expect_not_carried(&self, key: &str) -> hotswap_plugin::Result<()> {
        self.carries().by_key.get(key).map_or(Ok(()), |carry| Err(carry.read_only()))
    }

    /// The values of this load, and those that it takes over; an error if the value with this key is among them already.
    fn without(
        &self,
        key: &str,
    ) -> hotswap_plugin::Result<(MutexGuard<'_, Contents>, MutexGuard<'_, Carries>)> {
        let (contents, carries) = (self.contents(), self.carries());
        if contents.entries.contains_key(key) || carries.by_key.contains_key(key) {
            let why = format_args!("`{key}` was set or carried by this load already");
            return Err(Error::msg(why));
        }
        Ok((contents, carries))
    }

    /// Refuses to take over a value that this load has set or taken over already.
    fn expect_not_written(&self, key: &str) -> hotswap_plugin::Result<()> {
        self.without(key).map(drop)
    }

    /// Takes a value over when the load is published, or returns why not. Code of the plugin has run since `carry`
    /// was called, so other threads may have used the key, and the publish may have begun.
    fn add_carry(&self, carry: Carry) -> Result<(), (Error, Carry)> {
        let key = &carry.old.key;
        let (_contents, mut carries) = match self.without(key) {
            Ok(both) => both,
            Err(why) => return Err((why, carry)),
        };
        if carries.is_closed {
            let why = format_args!(
                "`{key}` cannot be taken over any more: the load is being published, or has ended; call `carry` in \
                 `on_init`, and let `on_init` wait for it"
            );
            return Err((Error::msg(why), carry));
        }
        carries.by_key.insert(key.clone(), carry);
        Ok(())
    }

    /// The values to take over. From now on, no more are accepted.
    fn close_carries(&self) -> BTreeMap<String, Carry> {
        let mut carries = self.carries();
        carries.is_closed = true;
        carries.by_key.clone()
    }

    /// Takes out the values that one version was about to take over.
    fn take_carries_of(&self, version: &Version) -> Vec<Carry> {
        let mut carries = self.carries();
        let (own, others): (BTreeMap<_, _>, BTreeMap<_, _>) = mem::take(&mut carries.by_key)
            .into_iter()
            .partition(|(_, it)| it.new_owner.is(version));
        carries.by_key = others;
        own.into_values().collect()
    }

    /// Whether the entries of `owner` are hidden from this load.
    fn hides(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Host => false,
            Owner::Version(version) => {
                self.replaced.contains(&VersionAddress::of(Weak::as_ptr(version)))
            }
        }
    }
}

impl Contents {
    fn take(&mut self) -> (BTreeMap<String, Arc<Cell>>, Vec<Arc<Registration>>) {
        (mem::take(&mut self.entries), mem::take(&mut self.registrations))
    }

    /// Takes out the entries of one version. The others stay where they are, because everybody waits meanwhile.
    fn take_owned_by(&mut self, version: &Version) -> Self {
        let entries = self.entries.extract_if(.., |_, cell| cell.is_owned_by(version)).collect();
        let registrations =
            self.registrations.extract_if(.., |object| object.owner.is(version)).collect();
        Self { entries, registrations }
    }

    /// Takes out the registration of an object of the host.
    fn take_of_host(&mut self, interface: &str, name: &str) -> Option<Arc<Registration>> {
        let at = self.registrations.iter().position(|object| {
            matches!(object.owner, Owner::Host)
                && (object.name.as_str(), object.shape.name.as_str()) == (name, interface)
        })?;
        CHANGES.fetch_add(1, Ordering::Relaxed);
        Some(self.registrations.swap_remove(at))
    }

    /// Puts a cell in. The owner of a displaced cell still exists.
    fn insert(&mut self, key: String, cell: Arc<Cell>) -> Option<Displaced> {
        CHANGES.fetch_add(1, Ordering::Relaxed);
        self.entries.insert(key, cell).map(Displaced::new)
    }

    fn remove(&mut self, key: &str) -> Option<Displaced> {
        CHANGES.fetch_add(1, Ordering::Relaxed);
        self.entries.remove(key).map(Displaced::new)
    }
}

impl Displaced {
    /// The caller holds the lock of the contents that had the cell, so its owner has not ended.
    fn new(cell: Arc<Cell>) -> Self {
        Self { lease: cell.lease_to_drop(), cell }
    }

    /// Drops the value, or lets its last user drop it. Must not be called under a lock, because this runs the
    /// owner's code.
    fn destroy(self) {
        self.cell.drop_when_unused(self.lease);
    }
}

impl VaultContents {
    pub fn new(expectations: Arc<Expectations>) -> Self {
        Self { expectations, ..Self::default() }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.locked()
    }

    fn sights(&self) -> MutexGuard<'_, FxHashMap<VersionAddress, Sight>> {
        self.sights.locked()
    }

    /// What a version sees.
    fn sight(&self, version: &Version) -> Sight {
        self.sights().get(&VersionAddress::of(version)).cloned().unwrap_or(Sight::Ended)
    }

    fn set_sight(&self, version: &Version, sight: Sight) {
        self.sights().insert(VersionAddress::of(version), sight);
    }

    /// Lets a version that is being loaded see the Vault, and write into the overlay of its load.
    pub fn admit(&self, version: &Version, overlay: &Arc<Overlay>) {
        self.set_sight(version, Sight::Loading(overlay.clone()));
    }

    /// The live functions and types of the newest generation.
    fn live(&self) -> Option<Arc<dyn LiveCalls>> {
        self.live.locked().clone()
    }

    pub fn set_live(&self, live: Arc<dyn LiveCalls>) {
        *self.live.locked() = Some(live);
    }

    /// Publishes a load. The entries of the new versions become visible to everybody. The entries of the
    /// replaced versions become visible only to those versions, except for the values that the new versions
    /// take over. `serve` makes the new versions serve, and returns a function that says whether a call is
    /// still reading the old generation.
    ///
    /// # Errors
    /// If a value that the load takes over does not fit any more, was replaced meanwhile, or is in use for as
    /// long as a step may take. Then nothing has changed. Also if code of a version does not give a value back;
    /// then that value is lost.
    pub fn publish<G: Fn() -> bool>(
        &self,
        overlay: &Overlay,
        loaded: &[Arc<Version>],
        replaced: &[Arc<Version>],
        steps: &StepThread,
        serve: impl FnOnce() -> G,
    ) -> Result<Published, EngineError> {
        let carries = overlay.close_carries();
        let mut handover = Handover::prepare(self, &carries, steps)?;
        let published = self.merge(overlay, loaded, replaced, (&carries, &mut handover))?;
        let is_read = serve();
        handover.finish(replaced, is_read);
        Ok(published)
    }

    /// Merges the changes of a load into what everybody sees.
    fn merge(
        &self,
        overlay: &Overlay,
        loaded: &[Arc<Version>],
        replaced: &[Arc<Version>],
        (carries, handover): (&BTreeMap<String, Carry>, &mut Handover<'_>),
    ) -> Result<Published, EngineError> {
        let mut contents = self.contents();
        for (key, carry) in carries {
            if !contents.entries.get(key).is_some_and(|now| Arc::ptr_eq(now, &carry.old)) {
                return Err(carry.is_outdated());
            }
        }
        overlay.carries().by_key.clear();
        let migrated = handover.assign();
        let mut changes = BTreeMap::new();
        for version in replaced {
            let gone = self.retire_locked(&mut contents, version);
            changes.extend(gone.into_iter().map(|key| (key, ValueChange::Dropped)));
        }
        let (entries, registrations) = overlay.contents().take();
        let migrated = migrated.into_iter().map(|cell| (cell.key.clone(), cell));
        let mut displaced = Vec::new();
        for (key, cell) in entries.into_iter().chain(migrated) {
            let old = contents.insert(key.clone(), cell);
            let was_there = old.is_some() || changes.contains_key(&key);
            let change = if was_there { ValueChange::Set } else { ValueChange::Added };
            changes.insert(key, change);
            displaced.extend(old);
        }
        contents.registrations.extend(registrations);
        overlay.set_end(LoadEnd::Published);
        for version in loaded {
            self.set_sight(version, Sight::Published);
        }
        for (key, carry) in carries {
            let is_migrated = carry.migrated.is_some();
            let change = if is_migrated { ValueChange::Migrated } else { ValueChange::Shared };
            changes.insert(key.clone(), change);
        }
        let values = contents.outcomes(&changes);
        Ok(Published { values, displaced })
    }

    /// Takes out a cell whose value is lost, so that the key can be set again.
    fn forget(&self, lost: &Arc<Cell>) {
        self.contents().entries.retain(|_, cell| !Arc::ptr_eq(cell, lost));
    }

    /// Hides the entries of a version from everybody else.
    pub fn retire(&self, version: &Version) {
        self.retire_locked(&mut self.contents(), version);
    }

    /// Drops the entries of a version, values and objects. From now on the version cannot leave any.
    ///
    /// The caller is the reaper. Only the version itself can reach the dropped entries.
    pub fn end(&self, version: &Version) {
        let ended = {
            let _writers = self.contents();
            match self.sights().remove(&VersionAddress::of(version)) {
                Some(Sight::Loading(overlay) | Sight::Retired(overlay)) => overlay,
                Some(Sight::Published | Sight::Ended) | None => return,
            }
        };
        // The versions of a failed load share its overlay. Each drops its own entries.
        let own = ended.take_carries_of(version);
        own.iter().for_each(Carry::drop_migrated);
        let mine = ended.contents().take_owned_by(version);
        mine.entries.values().for_each(|cell| cell.destroy());
        mine.registrations.iter().for_each(|object| object.destroy());
    }

    /// The named values in the form of the console protocol, with bounds on their number and size; and how
    /// many there are.
    pub fn data_bag_infos(&self) -> (Vec<DataBagEntry>, u64) {
        let (cells, count) = {
            let contents = self.contents();
            let cells: Vec<_> = contents.entries.values().take(MAX_LISTED).cloned().collect();
            (cells, contents.entries.len() as u64)
        };
        let mut left_bytes = MAX_PREVIEW_BYTES;
        (cells.iter().map(|cell| cell.info(&mut left_bytes)).collect(), count)
    }

    /// The registrations in the form of the console protocol, with a bound on their number; and how many
    /// there are.
    pub fn registration_infos(&self) -> (Vec<ExtensionSlot>, u64) {
        let mut all = self.contents().registrations.clone();
        let count = all.len() as u64;
        all.sort_by(|a, b| (&a.shape.name, &a.name).cmp(&(&b.shape.name, &b.name)));
        (all.iter().take(MAX_LISTED).map(|object| object.info()).collect(), count)
    }

    /// How often the results of the two functions above have changed.
    pub fn changes(&self) -> u64 {
        CHANGES.load(Ordering::Relaxed)
    }
}

/// The largest size of all values in one answer, in bytes. It is not exact.
const MAX_PREVIEW_BYTES: usize = 512 << 10;

/// Counts the changes to all Vaults of the process, so that a reader can tell whether to read again.
static CHANGES: AtomicU64 = AtomicU64::new(0);

impl Drop for Contents {
    /// The remaining entries belong to the host: entries of versions were dropped with the versions.
    /// Registrations of the host are dropped by their last holder.
    fn drop(&mut self) {
        let is_host = |owner: &Owner| matches!(owner, Owner::Host);
        let cells = self.entries.values().filter(|cell| is_host(&cell.owner()));
        cells.for_each(|cell| cell.destroy());
    }
}

impl VaultContents {
    /// Moves the entries of a version into an overlay that only the version sees. Returns the keys of its values.
    fn retire_locked(&self, contents: &mut Contents, version: &Version) -> Vec<String> {
        CHANGES.fetch_add(1, Ordering::Relaxed);
        let own = Overlay::default();
        let entries = contents.take_owned_by(version);
        let keys = entries.entries.keys().cloned().collect();
        *own.contents() = entries;
        self.set_sight(version, Sight::Retired(Arc::new(own)));
        keys
    }
}

/// The largest size of the keys in the report of a reload, in bytes. A host keeps many reports, and a console reads
/// all of them at once.
const MAX_REPORTED_BYTES: usize = 16 << 10;

impl Contents {
    /// The outcome of each value, given those that changed. If there are too many, some are left out.
    fn outcomes(&self, changes: &BTreeMap<String, ValueChange>) -> ValueOutcomes {
        let kept = self.entries.keys().filter(|key| !changes.contains_key(*key));
        let changed = changes.iter().map(|(key, change)| (key, *change));
        let all = changed.chain(kept.map(|key| (key, ValueChange::Kept)));
        let mut left = MAX_REPORTED_BYTES;
        let listed = all.map_while(|(key, change)| {
            left = left.checked_sub(size_of::<ValueOutcome>() + key.len())?;
            Some(ValueOutcome { key: key.clone(), change })
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        let gone = changes.keys().filter(|key| !self.entries.contains_key(*key)).count();
        let omitted = (self.entries.len() + gone - listed.len()) as u64;
        ValueOutcomes { listed, omitted }
    }
}

/// What a reload did with the values of the DataBag.
#[derive(Default)]
pub(crate) struct ValueOutcomes {
    /// The values that fit into a report, sorted by key.
    pub listed: Vec<ValueOutcome>,
    /// The number of the other values.
    pub omitted: u64,
}

/// The result of publishing, and the work that is left to do.
#[must_use]
pub(crate) struct Published {
    pub values: ValueOutcomes,
    displaced: Vec<Displaced>,
}

impl Published {
    /// A function that drops the displaced values, which runs code of their owners.
    pub fn into_drops(self) -> Option<impl FnOnce() + Send + 'static> {
        let displaced = self.displaced;
        let is_any = !displaced.is_empty();
        is_any.then_some(|| displaced.into_iter().for_each(Displaced::destroy))
    }
}
