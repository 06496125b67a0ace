//! The objects that plugins export and import.

use std::{fmt, ops::Deref, sync::OnceLock};

use crate::{
    Error, Interface, Leased, ObjectOf, Result,
    abi::Answer,
    interface::raw::{Lease, RawObject},
};

/// What a plugin exports: one object of an interface, or nothing.
///
/// Other plugins import the object by the plugin's name; see [`ImportSet`].
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[interface]
/// pub trait Greeter {
///     fn greet(&self, name: &str) -> String;
/// }
///
/// struct Polite;
///
/// impl Greeter for Polite {
///     fn greet(&self, name: &str) -> String {
///         format!("Good evening, {name}.")
///     }
/// }
///
/// #[derive(Default)]
/// struct Greetings;
///
/// #[plugin]
/// impl Plugin for Greetings {
///     fn export(&self) -> Result<Export> {
///         Ok(Export::new::<dyn Greeter, _>(Polite))
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Default)]
pub struct Export(Option<RawObject>);

impl Export {
    /// Exports nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Exports an object of an interface.
    pub fn new<I, T>(object: T) -> Self
    where
        I: ObjectOf<T> + ?Sized,
        T: Send + Sync + 'static,
    {
        Self(Some(RawObject::new::<I, T>(object)))
    }

    /// Takes the object out, to hand it to the engine.
    pub(crate) fn into_raw(mut self) -> Option<RawObject> {
        self.0.take()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            // SAFETY: this image made the object, and has not handed it to the engine.
            let _ = unsafe { ((*object.table).drop)(object.data) };
        }
    }
}

/// A plugin's imports: a struct with a field for each plugin whose export it uses.
/// [`#[derive(Imports)]`](derive@crate::Imports) implements this trait.
///
/// ```
/// use hotswap_plugin::prelude::*;
/// # #[interface] trait Alpha { fn one(&self) -> u32; }
/// # #[interface] trait Beta { fn two(&self) -> u32; }
///
/// #[derive(Imports)]
/// struct Needs {
///     /// The export of the plugin `alpha`; without it this plugin does not load.
///     alpha: Leased<dyn Alpha>,
///     /// The export of the plugin `beta-2`, if there is one.
///     #[import("beta-2")]
///     beta: Option<Leased<dyn Beta>>,
/// }
///
/// #[derive(Default)]
/// struct Gamma {
///     needs: Imports<Needs>,
/// }
///
/// #[plugin]
/// impl Plugin for Gamma {
///     fn import(&self) -> Option<&dyn ImportTarget> {
///         Some(&self.needs)
///     }
/// }
///
/// #[invoke]
/// fn sum(gamma: &Gamma) -> u32 {
///     let two = gamma.needs.beta.as_ref().map_or(0, |beta| beta.two());
///     gamma.needs.alpha.one() + two
/// }
/// # fn main() {}
/// ```
///
/// A plugin can also depend on others only for the order: they load before it, and their `on_free` runs after
/// its own. They need not export anything. The plugin is not loaded again when they change, since it has no
/// object of theirs.
///
/// ```
/// use hotswap_plugin::prelude::*;
///
/// #[derive(Imports)]
/// #[import(after = "settings")] // without `settings` this plugin does not load
/// #[import(after = "metrics", optional)]
/// struct Needs;
///
/// #[derive(Default)]
/// struct Server {
///     needs: Imports<Needs>,
/// }
///
/// #[plugin]
/// impl Plugin for Server {
///     fn import(&self) -> Option<&dyn ImportTarget> {
///         Some(&self.needs)
///     }
///
///     fn on_init(&self, vault: &Vault) -> Result<()> {
///         // The `on_init` of `settings` has run.
///         let port: Option<u16> = vault.data_bag().get("port")?;
///         # let _ = port;
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
pub trait ImportSet: Sized + Send + Sync + 'static {
    /// The requests of the struct, one for each field.
    fn requests() -> Vec<ImportRequest>;

    /// Makes the struct from the objects that the engine found, one for each field; `None` if it found no
    /// object.
    ///
    /// # Errors
    /// If the object of a field that is not an `Option` is missing, or an object has another interface than
    /// its field.
    fn bind(objects: &mut dyn Iterator<Item = Option<BoundObject>>) -> Result<Self>;
}

/// One import that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The name of the plugin that exports the object.
    pub plugin: String,
    /// The interface that the object must have; `None` if no object is requested, and the plugin only has to
    /// load earlier.
    pub shape: Option<crate::InterfaceShape>,
    /// Whether the requesting plugin loads without the object, or without that plugin.
    pub optional: bool,
}

impl ImportRequest {
    /// Asks that the plugin named `plugin` loads earlier, without importing an object. `bind` gets `None` for
    /// this request.
    pub fn after(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), shape: None, optional: false }
    }
}

/// The object that the engine found for an import. [`Import::bind`] makes a field from it.
pub struct BoundObject {
    object: RawObject,
    lease: Lease,
}

impl BoundObject {
    /// Makes the object from its parts.
    ///
    /// # Safety
    /// [`RawObject::new`] made the object. As long as the lease lives, so does the object, and its image
    /// stays mapped.
    #[doc(hidden)]
    pub unsafe fn new(object: RawObject, lease: Lease) -> Self {
        Self { object, lease }
    }

    /// Converts the object to a handle of type `I`.
    ///
    /// An [`ImportTarget`] of an author is safe code, and can confuse two imports. So this function compares
    /// the object's shape with the shape of `I`.
    ///
    /// # Errors
    /// If the object's interface is not `I`, or differs from it; the message says how.
    fn into_leased<I: Interface + ?Sized>(self) -> Result<Leased<I>> {
        // SAFETY: the table lies in the object's image, which the lease keeps mapped.
        let found = match unsafe { ((*self.object.table).shape)() } {
            Answer::Ok(shape) => shape,
            Answer::Err(error) => return Err(error),
            Answer::Panic(report) => return Err(Error::msg(report.message)),
        };
        match found.difference(&I::shape()) {
            // SAFETY: the object is of this shape.
            None => Ok(unsafe { self.into_leased_unchecked() }),
            Some(what) => Err(Error::msg(format_args!("an import got the wrong object: {what}"))),
        }
    }

    /// Converts the object to a handle of type `I`.
    ///
    /// # Safety
    /// The object's shape is that of `I`.
    #[doc(hidden)]
    pub unsafe fn into_leased_unchecked<I: Interface + ?Sized>(self) -> Leased<I> {
        // SAFETY: the caller's promise, and that of `new`'s caller.
        unsafe { Leased::from_raw(self.object, self.lease) }
    }
}

// SAFETY: an object is made of a `T: Send + Sync`, and its lease counts atomically.
unsafe impl Send for BoundObject {}

/// The type of a field in an [`ImportSet`]: a [`Leased`] interface, or an `Option` of one.
///
/// ```compile_fail,E0277
/// # use hotswap_plugin::Imports;
/// #[derive(Imports)]
/// struct Needs {
///     alpha: String,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be imported from a plugin",
    label = "not an import",
    note = "a field is a `Leased<dyn Interface>`, or an `Option` of one for a plugin that can be \
            missing"
)]
pub trait Import: Sized {
    /// The request for the export of the plugin named `plugin`.
    fn request(plugin: &str) -> ImportRequest;

    /// Makes the field from the object that the engine found; `None` if it found no object.
    ///
    /// # Errors
    /// If the field is not an `Option` and there is no object, or the object has another interface.
    fn bind(object: Option<BoundObject>) -> Result<Self>;
}

impl<I: Interface + ?Sized> Import for Leased<I> {
    fn request(plugin: &str) -> ImportRequest {
        ImportRequest { plugin: plugin.to_owned(), shape: Some(I::shape()), optional: false }
    }

    fn bind(object: Option<BoundObject>) -> Result<Self> {
        let missing = || Error::msg("the engine found no object for this import");
        object.ok_or_else(missing)?.into_leased()
    }
}

impl<I: Interface + ?Sized> Import for Option<Leased<I>> {
    fn request(plugin: &str) -> ImportRequest {
        ImportRequest { optional: true, ..Leased::<I>::request(plugin) }
    }

    fn bind(object: Option<BoundObject>) -> Result<Self> {
        object.map(|object| Import::bind(Some(object))).transpose()
    }
}

/// A plugin's field for its imports. It dereferences to `T`, an [`ImportSet`]; see there for an example.
///
/// It is empty until the engine has bound the imports, which it does after `export` of all plugins and
/// before `on_load`.
pub struct Imports<T>(OnceLock<T>);

impl<T> Default for Imports<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Deref for Imports<T> {
    type Target = T;

    /// # Panics
    /// If the engine has not bound the imports yet: in `default`, `reloadable` and `export`.
    fn deref(&self) -> &T {
        self.0.get().expect("imports cannot be used before `on_load`")
    }
}

impl<T> fmt::Debug for Imports<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Imports(bound)" } else { "Imports(unbound)" })
    }
}

/// Where the engine puts a plugin's imports. [`Imports`] implements it.
pub trait ImportTarget {
    /// The requests of the plugin.
    fn requests(&self) -> Vec<ImportRequest>;

    /// Takes the objects that the engine found for the requests, in the order of the requests; `None` if it
    /// found no object.
    ///
    /// # Errors
    /// As for [`ImportSet::bind`].
    fn bind(&self, objects: &mut dyn Iterator<Item = Option<BoundObject>>) -> Result<()>;
}

impl<T: ImportSet> ImportTarget for Imports<T> {
    fn requests(&self) -> Vec<ImportRequest> {
        T::requests()
    }

    fn bind(&self, objects: &mut dyn Iterator<Item = Option<BoundObject>>) -> Result<()> {
        let bound = T::bind(objects)?;
        self.0.set(bound).map_err(|_| Error::msg("the imports are already bound"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface;

    mod earlier {
        #[crate::interface]
        pub trait Number {
            fn number(&self) -> u64;
        }
    }

    #[interface]
    trait Number {
        fn number(&self) -> u64;
    }

    #[interface]
    trait Text {
        fn text(&self, of: &str) -> String;
    }

    struct Both;

    impl Number for Both {
        fn number(&self) -> u64 {
            7
        }
    }

    impl Text for Both {
        fn text(&self, of: &str) -> String {
            of.to_uppercase()
        }
    }

    fn bound<I: ObjectOf<Both> + ?Sized>() -> Option<BoundObject> {
        unsafe extern "C" fn nothing(_: *const ()) {}
        let object = RawObject::new::<I, _>(Both);
        // SAFETY: the object is never dropped, and nothing counts it.
        Some(unsafe { BoundObject::new(object, Lease::new(std::ptr::null(), nothing, nothing)) })
    }

    #[derive(crate::Imports)]
    struct Needs {
        number: Leased<dyn Number>,
        text: Option<Leased<dyn Text>>,
    }

    #[test]
    fn an_import_is_bound_as_its_own_interface() {
        let mut objects = [bound::<dyn Number>(), bound::<dyn Text>()].into_iter();
        let needs = Needs::bind(&mut objects).unwrap();
        assert_eq!(needs.number.number(), 7);
        assert_eq!(needs.text.unwrap().text("a"), "A");
        assert!(Needs::bind(&mut [bound::<dyn Number>(), None].into_iter()).is_ok());
    }

    #[test]
    fn an_import_is_not_bound_as_another_interface_of_the_struct() {
        let refused = |mut objects: [Option<BoundObject>; 2]| {
            Needs::bind(&mut objects.iter_mut().map(Option::take)).err().unwrap().to_string()
        };
        let swapped = refused([bound::<dyn Text>(), bound::<dyn Number>()]);
        assert!(swapped.ends_with("::Text`, expected `hotswap_plugin::dependency::tests::Number`"));
        let twice = refused([bound::<dyn Number>(), bound::<dyn Number>()]);
        assert!(twice.contains("expected `hotswap_plugin::dependency::tests::Text`"), "{twice}");
        assert!(refused([None, bound::<dyn Text>()]).contains("no object"));
        let namesake = <Leased<dyn earlier::Number> as Import>::bind(bound::<dyn Number>());
        assert!(namesake.is_err());
    }
}
