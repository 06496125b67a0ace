//! Lists that the linker makes: a macro puts statics of one type into a section of that type, and the linker lays
//! the statics of all crates of an image side by side.

use std::{ops::Deref, slice};

/// The statics of one section of this image, as a slice.
#[doc(hidden)]
pub struct Collected<T: 'static> {
    start: *const T,
    stop: *const T,
}

// SAFETY: the pointers lead only to statics, which all threads may read if their type is `Sync`.
unsafe impl<T: Sync> Sync for Collected<T> {}

impl<T> Collected<T> {
    /// # Safety
    /// Between the pointers lie only statics of type `T`, one behind the other.
    pub(crate) const unsafe fn new(start: *const T, stop: *const T) -> Self {
        const { assert!(size_of::<T>() > 0, "elements without size cannot be counted") };
        Self { start, stop }
    }
}

impl<T> Deref for Collected<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` demands that statics lie between the pointers, and statics live as long as the image.
        unsafe { slice::from_raw_parts(self.start, self.stop.offset_from_unsigned(self.start)) }
    }
}

/// Declares a list: `collected!(NAME: Type, "section")`. A macro adds an element by a static of that type with
/// `#[used]` and `#[link_section = "section"]`. No other static may be put there.
macro_rules! collected {
    ($(#[$attribute:meta])* $name:ident: $element:ty, $section:literal) => {
        $(#[$attribute])*
        pub static $name: $crate::collected::Collected<$element> = {
            // The linker defines both symbols for each section whose name is an identifier.
            unsafe extern "Rust" {
                #[link_name = concat!("__start_", $section)]
                static START: [$element; 0];
                #[link_name = concat!("__stop_", $section)]
                static STOP: [$element; 0];
            }

            // An image without elements has the section, too. `mut`, because the elements contain addresses, which
            // are written when the image is loaded: all statics of a section are either writable or not.
            #[used]
            #[unsafe(link_section = $section)]
            static mut NONE: [$element; 0] = [];

            // SAFETY: the linker lays the elements between the two symbols.
            unsafe {
                $crate::collected::Collected::new((&raw const START).cast(), (&raw const STOP).cast())
            }
        };
    };
}
pub(crate) use collected;
