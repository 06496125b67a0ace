//! Whom a fleet believes: release keys, of which so many have to sign a release and each change of the keys, and
//! directors' keys, which may only choose among releases.

use std::{fmt, iter};

use serde::{Deserialize, Serialize};

use crate::{
    FleetError, Id, Mark,
    backend::Content,
    signature::{Signature, is_public_key},
};

/// The keys of a fleet. While there are none, nothing has to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The fleet.
    pub fleet: Id,
    /// Counts the changes. The first keys are believed; each change is signed by those from before it.
    pub serial: u64,
    /// Public keys that may sign releases and changes of the keys, as minisign writes them: base64.
    pub keys: Vec<String>,
    /// How many of them have to sign each of these.
    #[serde(default = "one")]
    pub threshold: usize,
    /// Public keys that may sign what a channel declares, as each of the others may, and no release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directors: Vec<String>,
    /// The keys that were there once, and are believed no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
}

fn one() -> usize {
    1
}

/// The most keys of a fleet, those that are retired among them.
const MOST: usize = 1000;

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    /// A release, or the keys themselves.
    Release,
    /// What a channel declares, or a rollout.
    Declaration,
}

/// Why something that is kept of a fleet is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the variant names")]
pub enum Distrust {
    /// Nobody has signed it.
    Unsigned,
    /// Fewer keys have signed it than have to.
    TooFew { signed: usize, needed: usize },
    /// Only a key has signed it that was retired.
    Retired { key: String },
    /// Only a director's key has signed it, which may not.
    ByDirector { key: String },
    /// The signature is for something else: of another fleet, another channel, or another kind.
    OfAnother { signed: String, expected: String },
    /// It is not what the key has signed that the signature names.
    Altered { key: String },
    /// No key of the fleet has signed it.
    Unknown,
    /// It is older than what was there before, or another one of the same age.
    WentBack { from: Mark, to: Mark },
    /// The fleet has no keys, and is on a server, where nothing is believed that is not signed.
    NoKeys,
    /// The keys are not there any more.
    Gone,
    /// One of the changes that have led to the keys is not there.
    Gap { serial: u64 },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str(
                "it is not signed, as this fleet wants it; `hotswap fleet sign` with `--sign SECRET-KEY` signs it",
            ),
            Self::TooFew { signed, needed } => write!(
                f,
                "{signed} of the {needed} keys have signed it that have to; `hotswap fleet sign` with `--sign \
                 SECRET-KEY` adds another"
            ),
            Self::Retired { key } => write!(f, "it is signed by {key}, which was retired"),
            Self::ByDirector { key } => write!(
                f,
                "it is signed by the director's key {key}, which may only choose among signed releases"
            ),
            Self::OfAnother { signed, expected } => {
                write!(f, "the signature is for {signed:?}, and not for {expected:?}")
            }
            Self::Altered { key } => write!(
                f,
                "it was altered: the signature is not by {key} for this very content"
            ),
            Self::Unknown => {
                f.write_str("the signature is not by a key of the fleet for this very content")
            }
            Self::WentBack { from, to } if from.epoch == to.epoch => {
                let (from, to) = (from.seq, to.seq);
                write!(
                    f,
                    "it went back from {from} to {to} changes; what was there before still holds, until there is more"
                )
            }
            Self::WentBack { from, to } => write!(
                f,
                "it went back from {} changes since {} to {} since {}; what was there before still holds, until there \
                 is more",
                from.seq, from.epoch, to.seq, to.epoch
            ),
            Self::NoKeys => f.write_str(
                "the fleet has no keys, and on a server nothing is believed that is not signed; `hotswap fleet keys \
                 --new FILE` makes one",
            ),
            Self::Gone => f.write_str("the keys of the fleet are gone; put them back"),
            Self::Gap { serial } => write!(f, "change {serial} of the keys is missing; put it back"),
        }
    }
}

impl Keys {
    /// Those of a fleet that has none yet.
    pub fn none(fleet: Id) -> Self {
        Self {
            fleet,
            serial: 0,
            keys: Vec::new(),
            threshold: 1,
            directors: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Refuses what no keys may be.
    pub(crate) fn check(&self) -> Result<(), FleetError> {
        let refuse = |message: String| Err(FleetError::new(message));
        let all = || self.keys.iter().chain(&self.directors).chain(&self.retired);
        if all().count() > MOST {
            return refuse(format!("there are more than {MOST} keys, retired ones among them"));
        }
        if let Some(key) = all().find(|key| !is_public_key(key)) {
            return refuse(format!("{key:?} is no public key of minisign"));
        }
        if let Some((_, key)) =
            all().enumerate().find(|(at, key)| all().take(*at).any(|it| it == *key))
        {
            return refuse(match self.retired.contains(key) {
                true => format!("{key} was retired, and cannot come back; make another"),
                false => format!("{key} is a key of the fleet already"),
            });
        }
        let (threshold, count) = (self.threshold, self.keys.len());
        if threshold == 0 || threshold > count {
            return refuse(format!(
                "{threshold} keys would have to sign a release, and there would be {count} release keys"
            ));
        }
        Ok(())
    }

    /// The keys of which each may sign what a channel declares.
    pub fn declaring(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().chain(&self.directors)
    }

    /// Retires a key.
    ///
    /// # Errors
    /// If it is none of the fleet.
    pub fn retire(&mut self, key: &str) -> Result<(), FleetError> {
        let before = self.declaring().count();
        self.keys.retain(|it| it != key);
        self.directors.retain(|it| it != key);
        if self.declaring().count() == before {
            return Err(FleetError::new(format!("{key} is no key of the fleet")));
        }
        self.retired.push(key.to_owned());
        Ok(())
    }

    /// Whether those have signed something for a purpose that have to.
    pub(crate) fn verify(
        &self,
        what: Signed,
        purpose: &str,
        content: &Content,
    ) -> Result<(), Distrust> {
        let (allowed, needed): (Vec<&String>, usize) = match what {
            Signed::Release => (self.keys.iter().collect(), self.threshold),
            Signed::Declaration => (self.declaring().collect(), 1),
        };
        let Some(text) = &content.signature else { return Err(Distrust::Unsigned) };
        let signatures = Signature::all_in(text);
        let is_by = |signature: &&Signature, key: &str| signature.is_by(key, &content.json);
        let has_signed = |key: &&&String| {
            let fitting = signatures.iter().filter(|signature| signature.purpose() == purpose);
            { fitting }.any(|signature| is_by(&signature, key))
        };
        let signed = allowed.iter().copied().filter(|key| has_signed(&key)).count();
        if signed >= needed {
            return Ok(());
        }
        if signed > 0 {
            return Err(Distrust::TooFew { signed, needed });
        }
        if let Some(key) = self.retired.iter().find(|key| has_signed(&key)) {
            return Err(Distrust::Retired { key: key.clone() });
        }
        if let Some(key) = self.directors.iter().find(|key| has_signed(&key)) {
            return Err(Distrust::ByDirector { key: key.clone() });
        }
        let pairs = || signatures.iter().flat_map(|it| allowed.iter().zip(iter::repeat(it)));
        if let Some((_, signature)) = pairs().find(|(key, signature)| is_by(signature, key)) {
            let (signed, expected) = (signature.purpose(), purpose.to_owned());
            return Err(Distrust::OfAnother { signed, expected });
        }
        let named = pairs().find(|(key, signature)| signature.names(key));
        Err(named.map_or(Distrust::Unknown, |(key, _)| Distrust::Altered { key: (*key).clone() }))
    }
}
