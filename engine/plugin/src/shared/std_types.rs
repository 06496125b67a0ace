//! [`Shared`] for the types of std that may cross.
//!
//! Not all types of std are `Shared`. Some hide a pointer into the image that made them: `&'static T`,
//! `Cow<'static, T>`, `Arc<str>` and `Arc<[T]>` (an empty one points to a static), function pointers and
//! trait objects. Maps with another hasher than that of std can hide anything. The content of an `Arc<T>` may
//! be read by others while it would have to be rehomed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ffi::{CString, OsString},
    fs::File,
    hash::Hash,
    mem,
    net::{
        IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream,
        UdpSocket,
    },
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use super::{SchemaBuilder, Shape, Shared};
use crate::parts::Patch;

macro_rules! scalars {
    ($($scalar:ty),* $(,)?) => {
        $(
            // SAFETY: the type has a fixed layout, and owns nothing but memory of the shared allocator.
            unsafe impl Shared for $scalar {
                const MAY_POINT_HOME: bool = false;

                fn describe(schema: &mut SchemaBuilder) -> usize {
                    schema.add::<Self>(|_| Shape::Scalar)
                }
            }
        )*
    };
}

scalars! {
    (), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64,
    String, Box<str>, OsString, CString, PathBuf,
    Duration, Instant, SystemTime,
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6,
    // An open file is a number that is valid in the whole process.
    OwnedFd, File, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream, UnixDatagram,
}

macro_rules! containers {
    ($($container:ty: $patch:expr),* $(,)?) => {
        $(
            // SAFETY: an empty container has a dangling pointer, not one into its image; elements are
            // rehomed.
            unsafe impl<T: Shared> Shared for $container {
                const MAY_POINT_HOME: bool = T::MAY_POINT_HOME;
                const POINTS_HOME_ITSELF: bool = false;

                fn describe(schema: &mut SchemaBuilder) -> usize {
                    schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
                }

                fn rehome(&mut self) {
                    if T::MAY_POINT_HOME {
                        self.iter_mut().for_each(Shared::rehome);
                    }
                }

                fn patch() -> Option<Patch<Self>> {
                    $patch
                }
            }
        )*
    };
}

/// How to change parts of a list. `$push` is the method that appends an element.
macro_rules! replace {
    ($push:ident) => {
        Some(Patch::List {
            replace: |list, places, items, len| {
                for (place, item) in places.iter().zip(items) {
                    match list.get_mut(*place) {
                        Some(old) => *old = item,
                        None => list.$push(item),
                    }
                }
                list.truncate(len);
            },
        })
    };
}

containers! {
    Vec<T>: replace!(push), VecDeque<T>: replace!(push_back), Option<T>: None, Box<[T]>: None,
}

// SAFETY: the box's memory comes from the shared allocator, and its content is rehomed.
unsafe impl<T: Shared> Shared for Box<T> {
    const MAY_POINT_HOME: bool = T::MAY_POINT_HOME;
    const POINTS_HOME_ITSELF: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
    }

    fn rehome(&mut self) {
        if T::MAY_POINT_HOME {
            T::rehome(self);
        }
    }
}

// SAFETY: both variants are rehomed.
unsafe impl<T: Shared, E: Shared> Shared for Result<T, E> {
    const MAY_POINT_HOME: bool = T::MAY_POINT_HOME || E::MAY_POINT_HOME;
    const POINTS_HOME_ITSELF: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>(), schema.part::<E>()]))
    }

    fn rehome(&mut self) {
        match self {
            Ok(value) => value.rehome(),
            Err(error) => error.rehome(),
        }
    }
}

// SAFETY: every element is rehomed.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {
    const MAY_POINT_HOME: bool = T::MAY_POINT_HOME;
    const POINTS_HOME_ITSELF: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
    }

    fn rehome(&mut self) {
        if T::MAY_POINT_HOME {
            self.iter_mut().for_each(Shared::rehome);
        }
    }
}

// SAFETY: a map without memory of its own points to control bytes that are a static of its image, so it is
// replaced. A map with memory points only there, and its entries are rehomed.
unsafe impl<K: Shared + Eq + Hash, V: Shared> Shared for HashMap<K, V> {
    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<K>(), schema.part::<V>()]))
    }

    fn rehome(&mut self) {
        if self.capacity() == 0 {
            *self = Self::new();
        } else if K::MAY_POINT_HOME {
            // The keys of a map cannot be changed in place.
            let room = Self::with_capacity(self.capacity());
            for (mut key, mut value) in mem::replace(self, room) {
                key.rehome();
                value.rehome();
                self.insert(key, value);
            }
        } else if V::MAY_POINT_HOME {
            self.values_mut().for_each(Shared::rehome);
        }
    }

    fn patch() -> Option<Patch<Self>> {
        let retain = |map: &mut Self, keep: &mut dyn FnMut(usize) -> bool| {
            let mut place = 0..;
            map.retain(|_, _| place.next().is_none_or(&mut *keep));
        };
        Some(Patch::Map { extend: |map, entries| map.extend(entries), retain })
    }
}

// SAFETY: as for `HashMap`.
unsafe impl<T: Shared + Eq + Hash> Shared for HashSet<T> {
    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
    }

    fn rehome(&mut self) {
        if self.capacity() == 0 {
            *self = Self::new();
        } else if T::MAY_POINT_HOME {
            let room = Self::with_capacity(self.capacity());
            for mut item in mem::replace(self, room) {
                item.rehome();
                self.insert(item);
            }
        }
    }

    fn patch() -> Option<Patch<Self>> {
        let retain = |set: &mut Self, keep: &mut dyn FnMut(usize) -> bool| {
            let mut place = 0..;
            set.retain(|_| place.next().is_none_or(&mut *keep));
        };
        Some(Patch::Set { extend: |set, items| set.extend(items), retain })
    }
}

// SAFETY: an empty map has no pointer; entries are rehomed.
unsafe impl<K: Shared + Ord, V: Shared> Shared for BTreeMap<K, V> {
    const MAY_POINT_HOME: bool = K::MAY_POINT_HOME || V::MAY_POINT_HOME;
    const POINTS_HOME_ITSELF: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<K>(), schema.part::<V>()]))
    }

    fn rehome(&mut self) {
        if K::MAY_POINT_HOME {
            for (mut key, mut value) in mem::take(self) {
                key.rehome();
                value.rehome();
                self.insert(key, value);
            }
        } else if V::MAY_POINT_HOME {
            self.values_mut().for_each(Shared::rehome);
        }
    }

    fn patch() -> Option<Patch<Self>> {
        let retain = |map: &mut Self, keep: &mut dyn FnMut(usize) -> bool| {
            let mut place = 0..;
            map.retain(|_, _| place.next().is_none_or(&mut *keep));
        };
        Some(Patch::Map { extend: |map, entries| map.extend(entries), retain })
    }
}

// SAFETY: as for `BTreeMap`.
unsafe impl<T: Shared + Ord> Shared for BTreeSet<T> {
    const MAY_POINT_HOME: bool = T::MAY_POINT_HOME;
    const POINTS_HOME_ITSELF: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|schema| Shape::Generic(vec![schema.part::<T>()]))
    }

    fn rehome(&mut self) {
        if T::MAY_POINT_HOME {
            for mut item in mem::take(self) {
                item.rehome();
                self.insert(item);
            }
        }
    }

    fn patch() -> Option<Patch<Self>> {
        let retain = |set: &mut Self, keep: &mut dyn FnMut(usize) -> bool| {
            let mut place = 0..;
            set.retain(|_| place.next().is_none_or(&mut *keep));
        };
        Some(Patch::Set { extend: |set, items| set.extend(items), retain })
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),*)),* $(,)?) => {
        $(
            // SAFETY: the shape has the offset of each field, and each is rehomed.
            unsafe impl<$($name: Shared),*> Shared for ($($name,)*) {
                const MAY_POINT_HOME: bool = $($name::MAY_POINT_HOME)||*;
                const POINTS_HOME_ITSELF: bool = false;

                fn describe(schema: &mut SchemaBuilder) -> usize {
                    schema.add::<Self>(|schema| Shape::Struct(vec![
                        $(schema.field::<$name>(
                            stringify!($index),
                            Some(mem::offset_of!(Self, $index)),
                        ),)*
                    ]))
                }

                fn rehome(&mut self) {
                    $(self.$index.rehome();)*
                }
            }
        )*
    };
}

tuples!(
    (A 0),
    (A 0, B 1),
    (A 0, B 1, C 2),
    (A 0, B 1, C 2, D 3),
    (A 0, B 1, C 2, D 3, E 4),
    (A 0, B 1, C 2, D 3, E 4, F 5),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7),
);

// SAFETY: an error is an integer, a string and a list of strings.
unsafe impl Shared for crate::Error {
    const MAY_POINT_HOME: bool = false;

    fn describe(schema: &mut SchemaBuilder) -> usize {
        schema.add::<Self>(|_| Shape::Scalar)
    }
}
