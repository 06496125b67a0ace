//! What a version said of itself while it was loaded.

use std::collections::HashMap;

use hotswap_plugin::{
    __private::DescribedFunction, FunctionDescription, ImportRequest, LiveTypeDescription,
};
use rustc_hash::FxBuildHasher;

use super::counts::CallCounts;

/// What a version said of itself while it was loaded. It is said once, before the version serves.
///
/// All of it is a copy: what the image allocated itself would count as its own, also when it is long
/// freed.
pub(crate) struct Declared {
    pub functions: Functions,
    pub live_types: Vec<LiveTypeDescription>,
    pub imports: Vec<ImportRequest>,
    /// Whether it may be replaced.
    pub is_reloadable: bool,
}

/// The functions in the order of their names, and how often each was called.
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

    /// The function of a name and its place.
    pub fn find(&self, name: &str) -> Option<(usize, &FunctionDescription)> {
        let place = *self.by_name.get(name)?;
        Some((place, self.described.get(place)?))
    }
}
