//! The host's own object, whose type only the host knows.

use std::{
    any::{Any, type_name},
    sync::Arc,
};

use serde::Serialize;

/// An object of the host's, made anew for each generation.
pub(crate) trait ExtensionObject: Any + Send + Sync {
    fn type_name(&self) -> &'static str;
    fn to_json(&self) -> serde_json::Value;
}

impl<E: Serialize + Any + Send + Sync> ExtensionObject for E {
    fn type_name(&self) -> &'static str {
        type_name::<E>()
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self)
            .unwrap_or_else(|error| serde_json::Value::String(format!("not serialisable: {error}")))
    }
}

/// Makes a generation's object, given the previous generation's.
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
