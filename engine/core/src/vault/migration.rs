//! Makes a value of another type beside the calls that use the old value.
//!
//! Reading a large value as another type takes long, and nobody should have to wait for it. So a map or a
//! list is read a few parts at a time while it is in use. Parts that changed meanwhile, as their digests
//! show, are read again, until nobody has changed the value for as long as that took: then nothing is left to
//! do at the end. A value that changes all the time is compared once more at the end, under its lock. A value
//! of any other type is read as a whole, and once more at the end if it has changed.

use std::sync::Arc;

use hotswap_plugin::{
    __private::{CarryTable, Change, Digest, Kind, Parts, Wanted},
    Result,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::cell::{Cell, Value};
use crate::{error::flatten, version::Owner};

/// The smallest number of parts that are read at a time. Of a large value, one part in [`SLICES`] is read at
/// a time.
const SLICE: usize = 256;
const SLICES: usize = 64;

/// The largest number of times that changed parts are read again while the value is in use.
const ROUNDS: usize = 8;

/// The parts of an old value that the new value already has.
pub(super) struct Seen {
    /// How often the old value had been changed before it was read.
    changes: u64,
    /// How its parts are identified; `None` if it is read as a whole.
    kind: Option<Kind>,
    /// The digests of the entries of a map or a set that were read.
    keyed: Keyed,
    /// The digests of the elements that were read.
    by_place: Vec<u64>,
}

/// The digests of the entries of a map or a set that were read.
///
/// A map that is read again usually has its entries in the same order as before. So each entry is first compared
/// with the one that follows the last match, which takes a fraction of the time of a look-up by key.
#[derive(Default)]
struct Keyed {
    /// The digests of each entry's key and value, in the order in which the entries were first read; no value if
    /// the entry is gone.
    entries: Vec<(u64, Option<u64>)>,
    /// The index in `entries` of each key that is not gone.
    places: FxHashMap<u64, usize>,
}

/// The index in [`Keyed::entries`] at which the next entry is expected.
#[derive(Default)]
struct Expected(usize);

impl Keyed {
    /// The number of entries that are not gone.
    fn len(&self) -> usize {
        self.places.len()
    }

    /// The digest of the value that a key has.
    #[inline]
    fn value(&self, key: u64, expected: &mut Expected) -> Option<u64> {
        let place = match self.entries.get(expected.0) {
            Some((there, Some(value))) if *there == key => {
                expected.0 += 1;
                return Some(*value);
            }
            _ => *self.places.get(&key)?,
        };
        expected.0 = place + 1;
        self.entries.get(place)?.1
    }

    fn has(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }

    fn set(&mut self, key: u64, value: u64) {
        let place = *self.places.entry(key).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some((_, there)) => *there = Some(value),
            None => self.entries.push((key, Some(value))),
        }
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.places.keys().copied()
    }

    fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        let Self { entries, places } = self;
        places.retain(|key, place| {
            let stays = is_there(*key);
            if !stays && let Some((_, value)) = entries.get_mut(*place) {
                *value = None;
            }
            stays
        });
    }
}

/// The changes of an old value that the new value does not have yet.
struct Missing {
    /// The places, in the old value, of parts that changed or are new.
    places: Vec<usize>,
    /// The digests of the keys that the old value does not have any more.
    gone: FxHashSet<u64>,
    len: usize,
    is_shorter: bool,
}

/// The parts of an old value, read while nobody changed it.
struct OldParts {
    /// The digests of the keys; empty for a list.
    keys: Vec<u64>,
    len: usize,
}

/// Reads a value as another type while it is in use.
pub(super) fn make(old: &Cell, owner: &Owner, table: &CarryTable) -> Result<(Arc<Cell>, Seen)> {
    let kind = flatten((table.kind)())?;
    let mut seen =
        Seen { changes: old.changes(), kind, keyed: Keyed::default(), by_place: Vec::new() };
    let first = match kind {
        Some(_) => old.parts(&Wanted::Range(0..SLICE))?,
        None => None,
    };
    let json = match &first {
        Some(first) => first.json.clone(),
        None => old.whole()?,
    };
    let new = Arc::new(Cell::new(&old.key, owner.clone(), old.read_as(table, &json)?)?);
    let Some(first) = first else {
        seen.kind = None;
        return Ok((new, seen));
    };
    match seen.put_rest(old, &new, table, &first) {
        Ok(()) => Ok((new, seen)),
        Err(error) => {
            new.destroy();
            Err(error)
        }
    }
}

impl Seen {
    /// Puts all parts after the first ones into the new value.
    fn put_rest(
        &mut self,
        old: &Cell,
        new: &Cell,
        table: &CarryTable,
        first: &Parts,
    ) -> Result<()> {
        self.note(0, &first.digests);
        let (mut from, mut len) = (first.digests.len(), first.len);
        while from < len {
            let slice = from..from + SLICE.max(len / SLICES);
            let Some(parts) = old.parts(&Wanted::Range(slice))? else { break };
            if parts.digests.is_empty() {
                // The value has become shorter.
                break;
            }
            let to = from + parts.digests.len();
            let places: Vec<usize> = (from..to).collect();
            let change = Change::Put { places: &places, len: to };
            new.put_parts(table, Some(old.read_as(table, &parts.json)?), &change)?;
            self.note(from, &parts.digests);
            (from, len) = (to, parts.len);
        }
        if self.kind != Some(Kind::List) && !self.has_same_keys_as(new)? {
            // The new type writes keys in another form, so they cannot be compared.
            self.kind = None;
        }
        Ok(())
    }

    /// Reads changed parts again while the value is in use, until a whole pass finds no
    /// change, at most [`ROUNDS`] times.
    pub fn catch_up_beside(&mut self, old: &Cell, new: &Cell, table: &CarryTable) -> Result<()> {
        if self.kind.is_none() {
            return self.read_whole_again(old, new, table);
        }
        for _ in 0..ROUNDS {
            let changes = old.changes();
            if changes == self.changes {
                return Ok(());
            }
            let Some(there) = self.read_changed_parts(old, new, table)? else { return Ok(()) };
            if old.changes() == changes {
                self.remove_missing(&there, old, new, table)?;
                self.changes = changes;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads changed parts again, a few at a time. Returns the parts that the old value has; `None` if it has
    /// no parts any more.
    fn read_changed_parts(
        &mut self,
        old: &Cell,
        new: &Cell,
        table: &CarryTable,
    ) -> Result<Option<OldParts>> {
        let (mut from, mut there) = (0, OldParts { keys: Vec::new(), len: 1 });
        let mut expected = Expected::default();
        while from < there.len {
            let to = from + SLICE.max(there.len / SLICES);
            let Some(now) = old.parts(&Wanted::Digests(from..to))? else { return Ok(None) };
            there.len = now.len;
            if self.kind != Some(Kind::List) {
                there.keys.extend(now.digests.iter().map(|digest| self.key(digest)));
            }
            let places = self.differing(from, &now, &mut expected).0;
            if !places.is_empty() {
                self.read_again(places, old, new, table)?;
            }
            from = to;
        }
        Ok(Some(there))
    }

    /// Removes from the new value the parts that the old value does not have any more.
    fn remove_missing(
        &mut self,
        there: &OldParts,
        old: &Cell,
        new: &Cell,
        table: &CarryTable,
    ) -> Result<()> {
        if self.kind == Some(Kind::List) {
            if there.len < self.by_place.len() {
                let none = old.parts(&Wanted::At(Vec::new()))?.unwrap_or_default();
                let change = Change::Put { places: &[], len: there.len };
                new.put_parts(table, Some(old.read_as(table, &none.json)?), &change)?;
                self.by_place.truncate(there.len);
            }
            return Ok(());
        }
        if there.keys.len() < self.keyed.len() {
            let there: FxHashSet<u64> = there.keys.iter().copied().collect();
            let all = new.parts(&Wanted::Keys)?.unwrap_or_default();
            let keys = all.digests.iter().map(|digest| self.key(digest));
            let gone = keys.enumerate().filter(|(_, key)| !there.contains(key));
            let places: Vec<usize> = gone.map(|(place, _)| place).collect();
            new.put_parts(table, None, &Change::Remove(&places))?;
            self.keyed.retain(|key| there.contains(&key));
        }
        Ok(())
    }

    /// Reads a value as a whole again if it changed. So most values that do not fit are found while the load can
    /// still be undone.
    fn read_whole_again(&mut self, old: &Cell, new: &Cell, table: &CarryTable) -> Result<()> {
        let changes = old.changes();
        if changes != self.changes {
            new.put_whole(old.read_as(table, &old.whole()?)?)?;
            self.changes = changes;
        }
        Ok(())
    }

    /// Reads the parts that are at these places now. In a map, these may be other parts than a moment ago.
    fn read_again(
        &mut self,
        mut places: Vec<usize>,
        old: &Cell,
        new: &Cell,
        table: &CarryTable,
    ) -> Result<()> {
        if self.kind == Some(Kind::List) {
            // Only elements that follow on existing ones are added: the list may have been shorter in
            // between.
            let mut len = self.by_place.len();
            places.retain(|place| {
                len += usize::from(*place == len);
                *place < len
            });
        }
        let Some(parts) = old.parts(&Wanted::At(places.clone()))? else { return Ok(()) };
        places.truncate(parts.digests.len());
        let Some(last) = places.last() else { return Ok(()) };
        let change = Change::Put { places: &places, len: self.by_place.len().max(last + 1) };
        new.put_parts(table, Some(old.read_as(table, &parts.json)?), &change)?;
        self.note_at(&places, &parts.digests);
        Ok(())
    }

    /// Puts the missing parts into the new value.
    ///
    /// # Safety
    /// The versions of both values are mapped, and only the caller uses the values.
    pub unsafe fn catch_up(
        &mut self,
        (old, changes): (&Value, u64),
        new: &mut Value,
        table: &CarryTable,
    ) -> Result<()> {
        if changes == self.changes {
            return Ok(());
        }
        let now = match self.kind {
            // SAFETY: the caller's promise. The same goes for the blocks below.
            Some(_) => flatten(unsafe { old.parts(&Wanted::ALL) })?,
            None => None,
        };
        let Some(now) = now else {
            // SAFETY: see above.
            let json = flatten(unsafe { old.to_json() })?;
            new.replace(flatten((table.from_json)(&json))?);
            return Ok(());
        };
        let Missing { places, gone, len, is_shorter } = self.missing(&now);
        let mut done = Ok(());
        if !places.is_empty() || is_shorter {
            // SAFETY: see above.
            done = unsafe { put(old, new, table, (&places, len)) };
            if done.is_err() {
                // One of the parts does not fit; the others can still get their changes.
                for place in &places {
                    let len = len.min(place + 1).max(self.by_place.len());
                    // SAFETY: see above.
                    let put = unsafe { put(old, new, table, (&[*place], len)) };
                    if put.is_err()
                        && self.kind == Some(Kind::List)
                        && *place >= self.by_place.len()
                    {
                        break;
                    }
                }
            }
        }
        if !gone.is_empty() {
            // SAFETY: see above.
            let there = flatten(unsafe { new.parts(&Wanted::Keys) })?.unwrap_or_default();
            let keys = there.digests.iter().map(|digest| self.key(digest)).enumerate();
            let places: Vec<usize> =
                keys.filter(|(_, key)| gone.contains(key)).map(|(place, _)| place).collect();
            // SAFETY: see above.
            flatten(unsafe { new.change(table, None, &Change::Remove(&places)) })?;
        }
        done
    }

    /// The parts that the old value has now, and the new value lacks.
    fn missing(&self, now: &Parts) -> Missing {
        let (places, known) = self.differing(0, now, &mut Expected::default());
        let mut missing =
            Missing { places, gone: FxHashSet::default(), len: now.len, is_shorter: false };
        if self.kind == Some(Kind::List) {
            missing.is_shorter = now.len < self.by_place.len();
            return missing;
        }
        if known < self.keyed.len() {
            let there: FxHashSet<u64> = now.digests.iter().map(|digest| self.key(digest)).collect();
            missing.gone = self.keyed.keys().filter(|key| !there.contains(key)).collect();
        }
        missing
    }

    /// The places of the parts that the new value lacks or has with another content, and the number of parts
    /// whose keys it has. `from` is the place of the first part in `now`.
    fn differing(&self, from: usize, now: &Parts, expected: &mut Expected) -> (Vec<usize>, usize) {
        let (mut places, mut known) = (Vec::new(), 0);
        for (place, digest) in (from..).zip(&now.digests) {
            let value = match self.kind {
                Some(Kind::List) => self.by_place.get(place).copied(),
                _ => self.keyed.value(self.key(digest), expected),
            };
            known += usize::from(value.is_some());
            if value != Some(digest.value) {
                places.push(place);
            }
        }
        (places, known)
    }

    fn has_same_keys_as(&self, new: &Cell) -> Result<bool> {
        let Some(there) = new.parts(&Wanted::Keys)? else { return Ok(false) };
        let is_known = |digest: &Digest| self.keyed.has(self.key(digest));
        Ok(there.len == self.keyed.len() && there.digests.iter().all(is_known))
    }

    /// The digest that identifies a part.
    fn key(&self, digest: &Digest) -> u64 {
        if self.kind == Some(Kind::Set) { digest.value } else { digest.key }
    }

    fn note(&mut self, from: usize, digests: &[Digest]) {
        let places: Vec<usize> = (from..from + digests.len()).collect();
        self.note_at(&places, digests);
    }

    fn note_at(&mut self, places: &[usize], digests: &[Digest]) {
        for (place, digest) in places.iter().zip(digests) {
            if self.kind != Some(Kind::List) {
                self.keyed.set(self.key(digest), digest.value);
                continue;
            }
            if self.by_place.len() <= *place {
                self.by_place.resize(place + 1, 0);
            }
            self.by_place[*place] = digest.value;
        }
    }
}

/// Puts the parts at some places of one value into another value.
///
/// # Safety
/// The versions of both values are mapped, and only the caller uses the values.
unsafe fn put(
    old: &Value,
    new: &Value,
    table: &CarryTable,
    (places, len): (&[usize], usize),
) -> Result<()> {
    // SAFETY: the caller's promise. The same goes for the block below.
    let parts = flatten(unsafe { old.parts(&Wanted::At(places.to_vec())) })?.unwrap_or_default();
    let parts = flatten((table.from_json)(&parts.json))?;
    // SAFETY: see above.
    flatten(unsafe { new.change(table, Some(parts), &Change::Put { places, len }) })
}
