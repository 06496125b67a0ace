//! A serializer that watches the stack of the thread.
//!
//! A value of a type that wraps itself (`struct Wrapped(Option<Box<Wrapped>>)`) takes stack for each level, and no
//! writer of JSON sees such a level.

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};

use crate::stack::check_stack;

/// A value that is refused if it is nested more deeply than the stack allows. Otherwise it is serialised as usual.
pub(super) struct Watched<'a, T: ?Sized>(pub &'a T);

impl<T: Serialize + ?Sized> Serialize for Watched<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        check_stack(S::Error::custom)?;
        self.0.serialize(Watching(serializer))
    }
}

/// A serializer, or a part of one, that watches all parts of a value.
struct Watching<S>(S);

macro_rules! scalars {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(
            fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
                self.0.$method($($argument),*)
            }
        )*
    };
}

macro_rules! wrappers {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(
            fn $method<T: Serialize + ?Sized>(
                self,
                $($argument: $type,)*
                value: &T,
            ) -> Result<S::Ok, S::Error> {
                self.0.$method($($argument,)* &Watched(value))
            }
        )*
    };
}

macro_rules! parts {
    ($($method:ident($($argument:ident: $type:ty),*) -> $parts:ident),* $(,)?) => {
        $(
            fn $method(self, $($argument: $type),*) -> Result<Watching<S::$parts>, S::Error> {
                self.0.$method($($argument),*).map(Watching)
            }
        )*
    };
}

impl<S: Serializer> Serializer for Watching<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Watching<S::SerializeSeq>;
    type SerializeTuple = Watching<S::SerializeTuple>;
    type SerializeTupleStruct = Watching<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Watching<S::SerializeTupleVariant>;
    type SerializeMap = Watching<S::SerializeMap>;
    type SerializeStruct = Watching<S::SerializeStruct>;
    type SerializeStructVariant = Watching<S::SerializeStructVariant>;

    scalars! {
        serialize_bool(it: bool),
        serialize_i8(it: i8), serialize_i16(it: i16), serialize_i32(it: i32), serialize_i64(it: i64),
        serialize_i128(it: i128),
        serialize_u8(it: u8), serialize_u16(it: u16), serialize_u32(it: u32), serialize_u64(it: u64),
        serialize_u128(it: u128),
        serialize_f32(it: f32), serialize_f64(it: f64), serialize_char(it: char),
        serialize_str(it: &str), serialize_bytes(it: &[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(name: &'static str),
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str),
    }
    wrappers! {
        serialize_some(), serialize_newtype_struct(name: &'static str),
        serialize_newtype_variant(name: &'static str, index: u32, variant: &'static str),
    }
    parts! {
        serialize_seq(len: Option<usize>) -> SerializeSeq,
        serialize_tuple(len: usize) -> SerializeTuple,
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct,
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeTupleVariant,
        serialize_map(len: Option<usize>) -> SerializeMap,
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct,
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeStructVariant,
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! elements {
    ($($kind:ident: $($method:ident),*;)*) => {
        $(
            impl<P: $kind> $kind for Watching<P> {
                type Ok = P::Ok;
                type Error = P::Error;

                $(
                    fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                        self.0.$method(&Watched(value))
                    }
                )*

                fn end(self) -> Result<P::Ok, P::Error> {
                    self.0.end()
                }
            }
        )*
    };
}

elements! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
    SerializeMap: serialize_key, serialize_value;
}

macro_rules! fields {
    ($($kind:ident),*) => {
        $(
            impl<P: $kind> $kind for Watching<P> {
                type Ok = P::Ok;
                type Error = P::Error;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), P::Error> {
                    self.0.serialize_field(name, &Watched(value))
                }

                fn end(self) -> Result<P::Ok, P::Error> {
                    self.0.end()
                }
            }
        )*
    };
}

fields!(SerializeStruct, SerializeStructVariant);
