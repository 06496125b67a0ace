//! An object of an interface, and its owner: an export of a plugin, or a registration in the Extension.

use std::sync::{Arc, Mutex};

use hotswap_plugin::{
    __private::{Lease as RawLease, RawObject},
    BoundObject, Error, Interface, InterfaceShape, Leased,
    abi::Answer,
};
use hotswap_protocol::{Activity, ExtensionSlot};

use super::{
    Owner, Version,
    lease::{Lease, LeaseKind, LeaseName},
};
use crate::error::flatten;
use crate::lock::Lock as _;

/// A registration.
pub(crate) struct Registration {
    /// Its name in the Extension; empty if it is an export.
    pub name: String,
    is_export: bool,
    pub owner: Owner,
    pub shape: InterfaceShape,
    object: Mutex<Option<Object>>,
}

/// The object itself. Dropping this drops the object.
struct Object(RawObject);

// SAFETY: objects are made of `T: Send + Sync`.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Registration {
    /// A registration in the Extension. `owner`, whose image is mapped, has just made the object.
    pub fn new(name: &str, owner: Owner, object: RawObject) -> hotswap_plugin::Result<Self> {
        Self::of(name, false, owner, object)
    }

    /// The export of `owner`, whose image is mapped.
    pub fn export(owner: Owner, object: RawObject) -> hotswap_plugin::Result<Self> {
        Self::of("", true, owner, object)
    }

    /// An object that the host provides under a name.
    pub fn service(name: &str, object: RawObject) -> hotswap_plugin::Result<Self> {
        Self::of(name, false, Owner::Host, object)
    }

    fn of(
        name: &str,
        is_export: bool,
        owner: Owner,
        object: RawObject,
    ) -> hotswap_plugin::Result<Self> {
        let object = Object(object);
        // SAFETY: the table lies in the owner's image.
        let shape = match flatten(unsafe { ((*object.0.table).shape)() }) {
            // The host's own copy, like everything that an image declares.
            Ok(shape) => shape.clone(),
            Err(error) => {
                object.destroy();
                return Err(error);
            }
        };
        let object = Mutex::new(Some(object));
        Ok(Self { name: name.to_owned(), is_export, owner, shape, object })
    }

    /// Lends the object as an `I`; `None` if its owner is gone.
    ///
    /// The caller has checked that the shape is that of `I`.
    pub fn lend<I: Interface + ?Sized>(self: &Arc<Self>) -> Option<Leased<I>> {
        // SAFETY: the caller's check.
        self.lend_raw().map(|object| unsafe { object.into_leased_unchecked() })
    }

    /// Lends the object; `None` if its owner is gone.
    pub fn lend_raw(self: &Arc<Self>) -> Option<BoundObject> {
        let lease = match &self.owner {
            Owner::Host => None,
            Owner::Version(version) => {
                let lease = Lease::try_new(&version.upgrade()?, LeaseKind::Value)?;
                let interface = self.shape.name.as_str().into();
                Some(lease.named(if self.is_export {
                    LeaseName::Export(interface)
                } else {
                    LeaseName::Registration { name: self.name.as_str().into(), interface }
                }))
            }
        };
        let object = {
            let object = self.object.locked();
            let Object(RawObject { data, table }) = object.as_ref()?;
            RawObject { data: *data, table: *table }
        };
        // The hold keeps the object's image mapped, and the reaper drops the object only when no lease is
        // left.
        let hold = Arc::new(Hold { _registration: self.clone(), _lease: lease });
        // SAFETY: both functions count references to the `Arc` from which the pointer was made; the owner
        // made the object, and the hold keeps it.
        Some(unsafe {
            BoundObject::new(object, RawLease::new(Arc::into_raw(hold).cast(), retain, release))
        })
    }

    /// Drops the object.
    ///
    /// The caller is the reaper, for which the owner's image is still mapped.
    pub fn destroy(&self) {
        let object = self.object.locked().take();
        object.into_iter().for_each(Object::destroy);
    }

    pub fn info(&self) -> ExtensionSlot {
        let owner = self.owner.to_wire();
        ExtensionSlot {
            interface: self.shape.name.clone(),
            name: self.name.clone(),
            owner: owner.to_string(),
            owned_by: Some(owner),
        }
    }
}

impl Drop for Registration {
    /// Nobody uses the object any more. The host's own code is always there to drop it.
    fn drop(&mut self) {
        if matches!(self.owner, Owner::Host) {
            self.destroy();
        }
    }
}

/// Takes ownership of an object that a version's code has just made, and lends it. The object is dropped with
/// the last lease, which keeps the version in use until then.
pub(crate) fn lend(
    version: &Arc<Version>,
    object: RawObject,
    interface: &str,
) -> hotswap_plugin::Result<RawLease> {
    let object = Object(object);
    let lease = Lease::try_new(version, LeaseKind::Value);
    let Some(lease) = lease.filter(|_| !version.outside().is_closing()) else {
        object.destroy();
        return Err(Error::msg(format_args!(
            "{version} is ending, and must not give out an object of `{interface}` any more"
        )));
    };
    let lease = lease.named(LeaseName::Object(interface.into()));
    let lent = Arc::into_raw(Arc::new(Lent { object: Some(object), lease }));
    // SAFETY: both functions count references to the `Arc` from which the pointer was made.
    Ok(unsafe { RawLease::new(lent.cast(), retain_lent, release_lent) })
}

/// An object that a version has given out.
struct Lent {
    object: Option<Object>,
    // Dropped last: afterwards the image may be unmapped.
    lease: Lease,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let _noted = self.lease.version().note(Activity::DropValue);
        self.object.take().into_iter().for_each(Object::destroy);
    }
}

unsafe extern "C" fn retain_lent(lent: *const ()) {
    // SAFETY: the pointer came from `Arc::into_raw` in `lend`.
    unsafe { Arc::increment_strong_count(lent.cast::<Lent>()) };
}

unsafe extern "C" fn release_lent(lent: *const ()) {
    // SAFETY: as above; each lease is released once.
    unsafe { Arc::decrement_strong_count(lent.cast::<Lent>()) };
}

/// What a [`Leased`] keeps alive.
struct Hold {
    _registration: Arc<Registration>,
    _lease: Option<Lease>,
}

unsafe extern "C" fn retain(hold: *const ()) {
    // SAFETY: the pointer came from `Arc::into_raw` in `lend`.
    unsafe { Arc::increment_strong_count(hold.cast::<Hold>()) };
}

unsafe extern "C" fn release(hold: *const ()) {
    // SAFETY: as above; each lease is released once.
    unsafe { Arc::decrement_strong_count(hold.cast::<Hold>()) };
}

impl Object {
    /// Drops the object. The image that made it is mapped, as `Registration::destroy` says.
    fn destroy(self) {
        // SAFETY: the owner's image is mapped; the object is forgotten below, and so dropped once.
        let dropped = unsafe { ((*self.0.table).drop)(self.0.data) };
        std::mem::forget(self);
        if let Answer::Panic(report) = dropped {
            let (location, message) = (report.location, report.message);
            tracing::error!("dropping a registration panicked at {location}: {message}");
        }
    }
}

impl Drop for Object {
    /// It is not known that the owner's image is still mapped, so the object is leaked.
    fn drop(&mut self) {
        tracing::error!("an object was left behind by its owner, and leaks");
    }
}
