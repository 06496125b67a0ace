//! The Vault as one owner sees it.

use std::sync::{Arc, Mutex, atomic::Ordering};

use hotswap_plugin::{
    __private::{CarryTable, RawObject, RawValue, ValueCallback},
    BoundObject, Carried, Data, Error, ErrorKind, InterfaceShape, Result, Value, Vault,
};

use super::{
    CHANGES, Contents, Displaced, LoadEnd, Overlay, Sight, VaultContents,
    carry::{Carry, Migrated},
    cell::{Cell, same_owner},
    live::{LiveCalls, newest},
    migration, table,
};
use crate::{
    error::{flatten, shortened},
    version::{Owner, Version, expectations::Expectations, registration::Registration},
};

/// The Vault as one owner sees it. A [`Vault`] refers to one.
pub(crate) struct View {
    published: Arc<VaultContents>,
    owner: Owner,
    /// The load whose callbacks this view is for. After the load, they see what everybody sees.
    load: Option<Arc<Overlay>>,
}

impl View {
    /// The view of the host.
    pub fn for_host(published: &Arc<VaultContents>) -> Arc<Self> {
        Arc::new(Self { published: published.clone(), owner: Owner::Host, load: None })
    }

    /// The view of the host in the callbacks of a load. Changes through it belong to the load.
    pub fn for_callbacks(published: &Arc<VaultContents>, load: &Arc<Overlay>) -> Arc<Self> {
        Arc::new(Self {
            published: published.clone(),
            owner: Owner::Host,
            load: Some(load.clone()),
        })
    }

    /// The view of a version that is being loaded. It writes into the overlay of its load until the load is
    /// published.
    pub fn for_version(
        published: &Arc<VaultContents>,
        version: &Arc<Version>,
        overlay: &Arc<Overlay>,
    ) -> Vault {
        published.admit(version, overlay);
        let owner = Owner::Version(Arc::downgrade(version));
        Arc::new(Self { published: published.clone(), owner, load: None }).vault()
    }

    /// A handle to this view for plugins and hosts.
    pub fn vault(self: &Arc<Self>) -> Vault {
        table::vault(self.clone())
    }

    /// The expectations of the host for registrations.
    pub fn expectations(&self) -> &Expectations {
        &self.published.expectations
    }

    /// What this owner sees of the Vault.
    fn sight(&self) -> Sight {
        match &self.owner {
            Owner::Host => match &self.load {
                Some(load) => match load.end_of_load() {
                    None => Sight::Loading(load.clone()),
                    Some(LoadEnd::Published) => Sight::Published,
                    Some(LoadEnd::Undone) => Sight::Ended,
                },
                None => Sight::Published,
            },
            Owner::Version(version) => {
                version.upgrade().map_or(Sight::Ended, |version| self.published.sight(&version))
            }
        }
    }

    /// The overlay that this owner sees besides the published contents; `None` if it sees none.
    fn overlay(&self) -> Option<Arc<Overlay>> {
        match self.sight() {
            Sight::Loading(overlay) | Sight::Retired(overlay) => Some(overlay),
            Sight::Published | Sight::Ended => None,
        }
    }

    /// Finds the entry that this owner sees.
    fn find(&self, key: &str) -> Option<Arc<Cell>> {
        let contents = self.published.contents();
        let overlay = self.overlay();
        let own = overlay.as_ref().and_then(|own| {
            let written = own.contents().entries.get(key).cloned();
            written.or_else(|| Some(own.carries().by_key.get(key)?.visible().clone()))
        });
        own.or_else(|| {
            let cell = contents.entries.get(key).cloned()?;
            let hidden = overlay.as_ref().is_some_and(|own| own.hides(&cell.owner()));
            (!hidden).then_some(cell)
        })
    }

    /// Refuses to change a value that this owner is about to take over.
    fn expect_writable(&self, key: &str) -> Result<()> {
        let Some(own) = self.overlay() else { return Ok(()) };
        own.expect_not_carried(key)
    }

    pub fn set(&self, key: &str, value: RawValue, replace: bool) -> Result<bool> {
        let cell = Arc::new(Cell::new(key, self.owner.clone(), value)?);
        match self.put(key, &cell, replace) {
            Ok(Put::Stored(displaced)) => {
                displaced.into_iter().for_each(Displaced::destroy);
                Ok(true)
            }
            Ok(Put::Assign(to)) => to.assign(&self.owner, &cell).map(|()| true),
            Ok(Put::Taken) => {
                cell.destroy();
                Ok(false)
            }
            Err(error) => {
                cell.destroy();
                Err(error)
            }
        }
    }

    fn put(&self, key: &str, cell: &Arc<Cell>, replace: bool) -> Result<Put> {
        expect_short(key)?;
        self.expect_writable(key)?;
        if let Some(old) = self.find(key) {
            if !replace {
                return Ok(Put::Taken);
            }
            old.expect_unlocked()?;
        }
        let mut contents = self.published.contents();
        let own = match self.sight() {
            Sight::Published => None,
            Sight::Loading(own) => Some(own),
            Sight::Retired(own) => return put_retired(&contents, &own, key, cell, replace),
            Sight::Ended => return Err(has_ended()),
        };
        let mut overlay = own.as_ref().map(|own| own.contents());
        // Another thread may have taken the value over meanwhile.
        own.as_ref().map_or(Ok(()), |own| own.expect_not_carried(key))?;
        let contents = overlay.as_deref_mut().unwrap_or(&mut contents);
        if !replace && contents.entries.contains_key(key) {
            return Ok(Put::Taken);
        }
        Ok(Put::Stored(contents.insert(key.to_owned(), cell.clone())))
    }

    pub fn with(&self, key: &str, callback: &mut ValueCallback) -> Result<bool> {
        if callback.write {
            self.expect_writable(key)?;
        }
        let Some(cell) = self.find(key) else { return Ok(false) };
        if callback.write {
            self.expect_undoable(&cell)?;
        }
        cell.with(&self.owner, callback)
    }

    /// Refuses a change of a value that would remain if the load is undone.
    fn expect_undoable(&self, cell: &Arc<Cell>) -> Result<()> {
        let Sight::Loading(own) = self.sight() else { return Ok(()) };
        if own.contents().entries.get(&cell.key).is_some_and(|it| Arc::ptr_eq(it, cell)) {
            return Ok(());
        }
        let (key, owner) = (&cell.key, cell.owner());
        Err(Error::msg(format_args!(
            "`{key}` belongs to {owner}: a load can read it or replace it, but not change it in its \
             place, since a load that fails must leave nothing behind; change it after the load is published"
        )))
    }

    /// Takes a value over from a version that this load replaces. This happens when the load is published.
    pub fn carry(&self, key: &str, table: &'static CarryTable) -> Result<Carried> {
        let (Sight::Loading(own), Owner::Version(_)) = (self.sight(), &self.owner) else {
            return Err(Error::msg(
                "`carry` can only be called in `on_init`: no version is being replaced now",
            ));
        };
        own.expect_not_written(key)?;
        let Some(old) = self.published.contents().entries.get(key).cloned() else {
            return Ok(Carried::New);
        };
        if !own.hides(&old.owner()) {
            return Ok(Carried::Kept);
        }
        let schema = flatten((table.value.schema)())?;
        let migrated = if schema == *old.schema() {
            None
        } else {
            let (cell, seen) = migration::make(&old, &self.owner, table)?;
            Some(Migrated { cell, seen: Arc::new(Mutex::new(seen)) })
        };
        let carried = if migrated.is_some() { Carried::Migrated } else { Carried::Shared };
        let carry = Carry { old, new_owner: self.owner.clone(), table, migrated };
        match own.add_carry(carry) {
            Ok(()) => Ok(carried),
            Err((refused, carry)) => {
                carry.drop_migrated();
                Err(refused)
            }
        }
    }

    pub fn remove(&self, key: &str) -> Result<bool> {
        self.expect_writable(key)?;
        let Some(cell) = self.find(key) else { return Ok(false) };
        if matches!(self.sight(), Sight::Loading(_)) && !same_owner(&self.owner, &cell.owner()) {
            return Err(belongs_to(&cell, LOADING));
        }
        cell.expect_unlocked()?;
        let removed = {
            let mut contents = self.published.contents();
            match self.sight() {
                Sight::Published => contents.remove(key),
                Sight::Loading(own) => {
                    let mut own = own.contents();
                    if !own.entries.contains_key(key) {
                        return Err(belongs_to(&cell, LOADING));
                    }
                    own.remove(key)
                }
                Sight::Retired(own) => {
                    let mut own = own.contents();
                    if !own.entries.contains_key(key) {
                        return Err(belongs_to(&cell, "a version that was replaced"));
                    }
                    cell.expect_current()?;
                    if cell.is_migrating() {
                        return Err(belongs_to(&cell, "a version that is being replaced"));
                    }
                    own.remove(key)
                }
                Sight::Ended => return Err(has_ended()),
            }
        };
        let was_there = removed.is_some();
        removed.into_iter().for_each(Displaced::destroy);
        Ok(was_there)
    }

    pub fn live_call(&self, name: &str, args: &[Value]) -> Result<Value> {
        self.with_live(name, |live| live.call(name, args))
    }

    pub fn live_renew(&self, data: &Data) -> Result<Data> {
        self.with_live(data.live_name(), |live| live.renew(data))
    }

    /// Asks the live functions and types that this owner sees: those of its load, or the newest ones.
    fn with_live<T>(
        &self,
        name: &str,
        ask: impl Fn(&dyn LiveCalls) -> Option<Result<T>>,
    ) -> Result<T> {
        if let Sight::Loading(own) = self.sight()
            && let Some(live) = own.live.get()
        {
            let undone = || Err(Error::msg("the load was undone"));
            return ask(live.as_ref()).unwrap_or_else(undone);
        }
        newest(|| match self.published.live() {
            Some(live) => ask(live.as_ref()),
            None => Some(Err(Error::new(ErrorKind::UnknownFunction, no_live(name)))),
        })
    }

    pub fn keys(&self) -> Vec<String> {
        let contents = self.published.contents();
        let overlay = self.overlay();
        let hidden = |cell: &Cell| overlay.as_ref().is_some_and(|own| own.hides(&cell.owner()));
        let seen = contents.entries.iter().filter(|(_, cell)| !hidden(cell));
        let mut keys: Vec<String> = seen.map(|(key, _)| key.clone()).collect();
        if let Some(own) = &overlay {
            keys.extend(own.contents().entries.keys().cloned());
            keys.extend(own.carries().by_key.keys().cloned());
        }
        keys.sort();
        keys.dedup();
        keys
    }

    pub fn register(&self, name: &str, object: RawObject, replace: bool) -> Result<()> {
        let object = Arc::new(Registration::new(name, self.owner.clone(), object)?);
        match self.add(&object, replace) {
            // The lock is released, because the last user of the object drops it.
            Ok(replaced) => {
                drop(replaced);
                Ok(())
            }
            Err(refused) => {
                object.destroy();
                Err(refused)
            }
        }
    }

    /// Ends the registration of an object of the host.
    pub fn unregister(&self, interface: &str, name: &str) -> Result<bool> {
        self.expect_host()?;
        let removed = {
            let mut contents = self.published.contents();
            match self.overlay() {
                None => contents.take_of_host(interface, name),
                Some(own) => own.contents().take_of_host(interface, name),
            }
        };
        if removed.is_none()
            && let Some(other) =
                self.registrations(interface).into_iter().find(|other| other.name == name)
        {
            return Err(match &other.owner {
                Owner::Host => is_published(name, interface, "unregister"),
                owner => Error::msg(format_args!("`{name}` of `{interface}` belongs to {owner}")),
            });
        }
        Ok(removed.is_some())
    }

    fn expect_host(&self) -> Result<()> {
        match self.owner {
            Owner::Host => Ok(()),
            Owner::Version(_) => Err(Error::msg(
                "only the host may replace or unregister an object: a plugin's registrations end with its \
                 version",
            )),
        }
    }

    /// The registrations of an interface that this owner sees, sorted by name.
    pub fn registrations(&self, interface: &str) -> Vec<Arc<Registration>> {
        let contents = self.published.contents();
        let own = self.overlay();
        let hidden =
            |object: &Registration| own.as_ref().is_some_and(|own| own.hides(&object.owner));
        let mut objects: Vec<_> =
            contents.registrations.iter().filter(|object| !hidden(object)).cloned().collect();
        if let Some(own) = &own {
            objects.extend(own.contents().registrations.iter().cloned());
        }
        objects.retain(|object| object.shape.name == interface);
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects
    }

    /// Lends the object that is registered under a name; `None` if there is none.
    pub fn registered(&self, shape: &InterfaceShape, name: &str) -> Result<Option<BoundObject>> {
        if let Owner::Version(version) = &self.owner
            && version.upgrade().is_none_or(|version| version.outside().is_closing())
        {
            return Err(Error::msg(
                "the plugin's image is being unmapped, so it cannot use an object any more",
            ));
        }
        let objects = self.registrations(&shape.name);
        let Some(object) = objects.into_iter().find(|object| object.name == name) else {
            return Ok(None);
        };
        if let Some(what) = object.shape.difference(shape) {
            let owner = &object.owner;
            let sides = (self.owner.version(), owner.version());
            let advice = match &sides {
                (Some(version), None) | (None, Some(version)) => version.advice(),
                _ => "build both against the same source",
            };
            return Err(Error::msg(format_args!(
                "`{name}` of {owner} does not fit: {what}; {advice}"
            )));
        }
        if matches!(self.owner, Owner::Host) {
            self.expectations().of_interface(None, shape);
        }
        Ok(object.lend_raw())
    }

    pub fn names(&self, interface: &str) -> Vec<String> {
        self.registrations(interface).iter().map(|object| object.name.clone()).collect()
    }

    /// Adds a registration. Returns the one that it replaces, if it may replace one.
    fn add(&self, object: &Arc<Registration>, replace: bool) -> Result<Option<Arc<Registration>>> {
        expect_short(&object.name)?;
        if replace {
            self.expect_host()?;
        }
        let mut contents = self.published.contents();
        let sight = self.sight();
        let own = match &sight {
            Sight::Loading(own) | Sight::Retired(own) => Some(own),
            Sight::Published => None,
            Sight::Ended => return Err(has_ended()),
        };
        let taken = |contents: &Contents| {
            let same = |other: &&Arc<Registration>| {
                (&other.name, &other.shape.name) == (&object.name, &object.shape.name)
                    && !own.is_some_and(|own| own.hides(&other.owner))
            };
            contents.registrations.iter().find(same).map(|other| other.owner.clone())
        };
        let replaced = match own {
            _ if !replace => None,
            None => contents.take_of_host(&object.shape.name, &object.name),
            Some(own) => own.contents().take_of_host(&object.shape.name, &object.name),
        };
        let taken_by = taken(&contents).or_else(|| taken(&own?.contents()));
        if let Some(owner) = taken_by {
            let (name, interface) = (&object.name, &object.shape.name);
            if replace && own.is_some() && matches!(owner, Owner::Host) {
                return Err(is_published(name, interface, "replace"));
            }
            return Err(Error::msg(format_args!(
                "{owner} has already registered `{name}` of `{interface}`"
            )));
        }
        CHANGES.fetch_add(1, Ordering::Relaxed);
        match own {
            Some(own) => own.contents().registrations.push(object.clone()),
            None => contents.registrations.push(object.clone()),
        }
        Ok(replaced)
    }
}

/// The longest key of a value, and the longest name of a registration, in bytes. Consoles list them.
const MAX_NAME: usize = 1024;

/// Refuses a key or a name that is too long.
fn expect_short(name: &str) -> Result<()> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    let name = shortened(name, 32);
    Err(Error::msg(format_args!("a name can have at most {MAX_NAME} bytes: `{name}`")))
}

/// The result of putting a cell somewhere.
enum Put {
    /// The cell is stored, and the one before it is displaced.
    Stored(Option<Displaced>),
    /// This cell takes the value.
    Assign(Arc<Cell>),
    /// Another cell is there, and stays.
    Taken,
}

/// Sets a value for a version that was replaced, so that everybody who reads the key afterwards finds the value.
/// If others have the key, the value replaces theirs. A key that only the version has belongs to it.
fn put_retired(
    contents: &Contents,
    own: &Overlay,
    key: &str,
    cell: &Arc<Cell>,
    replace: bool,
) -> Result<Put> {
    let mut own = own.contents();
    let (there, is_own) = match (own.entries.get(key), contents.entries.get(key)) {
        (Some(there), _) => (there.clone(), true),
        (None, Some(there)) => (there.clone(), false),
        (None, None) => {
            // Nobody else has the key, so it belongs to the version, and is dropped with it.
            return Ok(Put::Stored(own.insert(key.to_owned(), cell.clone())));
        }
    };
    if !replace {
        return Ok(Put::Taken);
    }
    there.expect_current()?;
    if is_own && !there.is_migrating() {
        return Ok(Put::Stored(own.insert(key.to_owned(), cell.clone())));
    }
    if let Some(what) = there.schema().difference(cell.schema()) {
        let owner = there.owner();
        return Err(Error::msg(format_args!("`{key}` of {owner} has another type: {what}")));
    }
    Ok(Put::Assign(there))
}

/// The error for a load that would change an object which was registered before the load.
fn is_published(name: &str, interface: &str, action: &str) -> Error {
    Error::msg(format_args!(
        "`{name}` of `{interface}` is published: {action} it after this load, since a load that fails \
         must change nothing"
    ))
}

/// The name of a load in the error of [`belongs_to`].
const LOADING: &str = "a load that is under way";

/// The error for `who`, which must not remove a value that others see: its load may be undone, or it was
/// replaced.
fn belongs_to(cell: &Cell, who: &str) -> Error {
    let (key, owner) = (&cell.key, cell.owner());
    Error::msg(format_args!("`{key}` belongs to {owner}; {who} can remove only its own values"))
}

fn has_ended() -> Error {
    Error::msg("the version has ended, or its load was undone, so it cannot leave anything behind")
}

fn no_live(name: &str) -> String {
    format!("no live function or type is named `{name}`: nothing serves yet")
}
