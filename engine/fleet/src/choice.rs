//! Chooses the hosts that run a candidate: the hosts whose hash is at most a threshold. One write of the threshold
//! therefore chooses an exact number of the present hosts, a higher threshold only adds hosts, and the same rule
//! applies to a host that joins later.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{FleetError, Id};

/// The position of a host in the order of a rollout, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(u64);

impl Place {
    /// The last position. As a threshold, it chooses all hosts.
    pub const LAST: Self = Self(u64::MAX);

    /// The delay, within a span, after which a host fetches a release. It differs by host, so that not all hosts
    /// fetch at once.
    pub fn pause_of(host: &Id, span_ms: u64) -> u64 {
        Self::of("fetch", host).0.checked_rem(span_ms).unwrap_or_default()
    }

    /// The position of a host in the order that a salt gives.
    pub fn of(salt: &str, host: &Id) -> Self {
        let mut hasher = Sha256::new_with_prefix(salt.as_bytes());
        hasher.update([0]);
        hasher.update(host.as_str().as_bytes());
        let hash = hasher.finalize();
        Self(u64::from_be_bytes(std::array::from_fn(|at| hash[at])))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TryFrom<String> for Place {
    type Error = FleetError;

    fn try_from(text: String) -> Result<Self, FleetError> {
        let place = (text.len() == 16).then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        place.map(Self).ok_or_else(|| FleetError::new("expected a place of 16 hexadecimal digits"))
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// The threshold that chooses exactly `count` of these hosts; `None` if `count` is 0.
pub fn threshold<'a>(
    salt: &str,
    hosts: impl Iterator<Item = &'a Id>,
    count: usize,
) -> Option<Place> {
    let mut places: Vec<Place> = hosts.map(|host| Place::of(salt, host)).collect();
    places.sort_unstable();
    places.get(count.min(places.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_so_many_are_chosen_and_more_only_join() {
        let hosts: Vec<Id> =
            (0..100).map(|number| Id::made_of(&format!("host-{number}"))).collect();
        for salt in ["a", "b", "c"] {
            let chosen = |count| {
                let threshold = threshold(salt, hosts.iter(), count);
                let is_chosen =
                    |host: &&Id| threshold.is_some_and(|it| Place::of(salt, host) <= it);
                hosts.iter().filter(is_chosen).collect::<Vec<_>>()
            };
            assert!(chosen(0).is_empty());
            let mut before = Vec::new();
            for count in 1..=100 {
                let now = chosen(count);
                assert_eq!(now.len(), count);
                assert!(before.iter().all(|host| now.contains(host)));
                before = now;
            }
            assert_eq!(chosen(1000).len(), 100);
        }
        assert_eq!(threshold("a", [].iter(), 1), None);
    }

    #[test]
    fn hosts_begin_to_fetch_all_over_the_span() {
        let pauses =
            (0..1000).map(|number| Place::pause_of(&Id::made_of(&format!("h-{number}")), 5000));
        let mut in_second = [0; 5];
        pauses.for_each(|pause| in_second[usize::try_from(pause / 1000).unwrap()] += 1);
        assert!(in_second.iter().all(|count| (150..250).contains(count)), "{in_second:?}");
        assert_eq!(Place::pause_of(&Id::made_of("h"), 0), 0);
    }
}
