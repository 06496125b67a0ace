//! What a version declared while it was loaded.

use std::collections::HashMap;

use hotswap_plugin::{
    __private::DescribedFunction, FunctionDescription, ImportRequest, LiveTypeDescription,
};
use rustc_hash::FxBuildHasher;

use super::counts::CallCounts;

/// What a version declared while it was loaded. It declares this once, before it serves.
///
/// Everything here is a copy: memory that the image has allocated would count as its own even after the image
/// is freed.
pub(crate) struct Declared {
    pub functions: Functions,
    pub live_types: Vec<LiveTypeDescription>,
    pub imports: Vec<ImportRequest>,
    /// Whether it may be replaced.
    pub is_reloadable: bool,
}

/// The functions, sorted by name, and the counters of their calls.
pub(crate) struct Functions {
    pub described: Vec<FunctionDescription>,
    by_name: HashMap<String, usize, FxBuildHasher>,
    pub counts: Box<CallCounts>,
}

impl Functions {
    pub fn new(described: &[DescribedFunction]) -> Self {
        let described: Vec<_> = described.iter().map(|it| it.description.clone()).collect();
        let by_name = described.iter().enumerate();
        let by_name = by_name.map(|(at, function)| (function.name.clone(), at)).collect();
        let counts = CallCounts::new(described.len());
        Self { described, by_name, counts }
    }

    /// The function named `name`, and its place.
    pub fn find(&self, name: &str) -> Option<(usize, &FunctionDescription)> {
        let place = *self.by_name.get(name)?;
        Some((place, self.described.get(place)?))
    }
}
