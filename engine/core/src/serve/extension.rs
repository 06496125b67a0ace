//! The host's own object, whose type only the host knows.

use std::{
    any::{Any, type_name},
    sync::Arc,
};

use hotswap_plugin::__private::{Bounds, Cut, look};
use serde::Serialize;

/// An object of the host, which is made for each generation.
pub(crate) trait ExtensionObject: Any + Send + Sync {
    fn type_name(&self) -> &'static str;
    /// A part of the object as JSON of bounded size, and what was left out.
    fn preview(&self, bounds: Bounds) -> (serde_json::Value, Vec<Cut>);
}

impl<E: Serialize + Any + Send + Sync> ExtensionObject for E {
    fn type_name(&self) -> &'static str {
        type_name::<E>()
    }

    fn preview(&self, bounds: Bounds) -> (serde_json::Value, Vec<Cut>) {
        look(self, bounds).unwrap_or_else(|error| {
            (serde_json::Value::String(format!("not serialisable: {error}")), Vec::new())
        })
    }
}

/// Makes the object of a generation from the object of the previous generation.
pub(crate) type ExtensionFactory =
    Box<dyn Fn(Option<&dyn ExtensionObject>) -> Arc<dyn ExtensionObject> + Send + Sync>;

/// Wraps a typed factory.
pub(crate) fn factory<E>(make: impl Fn(Option<&E>) -> E + Send + Sync + 'static) -> ExtensionFactory
where
    E: Serialize + Any + Send + Sync,
{
    Box::new(move |previous| {
        Arc::new(make(previous.and_then(|previous| (previous as &dyn Any).downcast_ref())))
    })
}
