//! What the sample host and its plugins share: interfaces that plugins implement for the host.

use hotswap_plugin::interface;

/// An animal that lives in the host's yard.
#[interface]
pub trait Animal {
    /// Makes its sound some times.
    fn speak(&self, times: u32) -> String;
}

/// What the plugin `alpha` exports.
#[interface]
pub trait Alpha {
    /// The first number.
    fn one(&self) -> u32;
}

/// What the plugin `beta` exports.
#[interface]
pub trait Beta {
    /// The second number, made of what `alpha` exports.
    fn two(&self) -> u32;
}
