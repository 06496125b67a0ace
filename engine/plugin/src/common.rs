//! Instances of this crate's generic code for the types that most functions have.
//!
//! In a build without optimisation, the compiler does not compile a generic function for given types again if a
//! dependency already contains it. So the functions named here are compiled once, with this crate, and not in
//! each build of each plugin.

use std::hint::black_box;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Result, Shared, TypeSchema, Value,
    function::{argument, failure_of, schema},
    vault::raw::{CarryTable, RawValue},
};

/// Names the functions, so that they are compiled with this crate. It is never called.
#[doc(hidden)]
pub fn compile_common() {
    for_type::<()>();
    for_type::<bool>();
    for_type::<i32>();
    for_type::<i64>();
    for_type::<u32>();
    for_type::<u64>();
    for_type::<usize>();
    for_type::<f32>();
    for_type::<f64>();
    for_type::<String>();
    black_box::<fn(Error) -> Error>(failure_of);
}

fn for_type<T: Shared + Serialize + DeserializeOwned + JsonSchema>() {
    black_box::<fn() -> String>(schema::<T>);
    black_box::<fn(&[Value], usize, &str) -> Result<T>>(argument);
    black_box::<fn(&T) -> Result<Value>>(Value::from_serialize);
    black_box::<fn(&Value) -> Result<T>>(Value::to);
    black_box::<fn() -> TypeSchema>(TypeSchema::of::<T>);
    black_box::<fn(T) -> RawValue>(RawValue::new);
    black_box::<fn() -> &'static CarryTable>(CarryTable::of::<T>);
    black_box::<fn(&mut T)>(T::rehome);
}
