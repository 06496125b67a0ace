//! The keys that a fleet trusts. A number of release keys, the threshold, has to sign each release and each change
//! of the keys. A director's key can only choose among signed releases.

use std::{fmt, iter};

use serde::{Deserialize, Serialize};

use crate::{
    AuditEntry, FleetError, Id, Mark,
    backend::Content,
    signature::{Signature, is_public_key},
};

/// The keys of a fleet. A fleet without keys requires no signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The fleet.
    pub fleet: Id,
    /// The number of changes. The first keys are trusted as they are; the keys before a change sign it.
    pub serial: u64,
    /// Public keys that may sign releases and changes of the keys, as minisign writes them: base64.
    pub keys: Vec<String>,
    /// How many of these keys have to sign a release or a change of the keys.
    #[serde(default = "one")]
    pub threshold: usize,
    /// Public keys that may sign declarations, as release keys also may, but no releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directors: Vec<String>,
    /// Former keys that are not trusted any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// The audit entries of the change that made these keys, as in [`Channel::unsaid`](crate::Channel::unsaid).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<AuditEntry>,
}

fn one() -> usize {
    1
}

/// The largest number of keys of a fleet, including retired ones.
const MOST: usize = 1000;

/// The kind of a signed document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    /// A release, or the keys themselves.
    Release,
    /// What a channel declares, or a rollout.
    Declaration,
}

/// Why a stored document is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the variant names")]
pub enum Distrust {
    /// It has no signature.
    Unsigned,
    /// It has fewer valid signatures than the fleet requires.
    TooFew { signed: usize, needed: usize },
    /// Its only signature is by a retired key.
    Retired { key: String },
    /// Its only signature is by a director's key, which may not sign this kind of document.
    ByDirector { key: String },
    /// The signature is for another purpose: another fleet, channel or kind of document.
    OfAnother { signed: String, expected: String },
    /// The content differs from what the named key has signed.
    Altered { key: String },
    /// No signature is by a key of the fleet.
    Unknown,
    /// It is older than the document that was read before, or is a different one with the same mark.
    WentBack { from: Mark, to: Mark },
    /// The fleet is on a server and has no keys. On a server, nothing is trusted without a signature.
    NoKeys,
    /// The keys were removed.
    Gone,
    /// One of the changes that lead to the present keys is missing.
    Gap { serial: u64 },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => {
                f.write_str("it is not signed, and this fleet requires a signature")
            }
            Self::TooFew { signed, needed } => {
                write!(f, "{signed} of {needed} required keys have signed it")
            }
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
                    "it went back from {from} to {to} changes; the one that was read before stays valid until there is a \
                     newer one"
                )
            }
            Self::WentBack { from, to } => write!(
                f,
                "it went back from {} changes since {} to {} since {}; the one that was read before stays valid until \
                 there is a newer one",
                from.seq, from.epoch, to.seq, to.epoch
            ),
            Self::NoKeys => f.write_str(
                "the fleet has no keys, and on a server nothing is trusted without a signature; `hotswap fleet keys \
                 --new FILE` makes one",
            ),
            Self::Gone => f.write_str("the keys of the fleet are gone; put them back"),
            Self::Gap { serial } => write!(f, "change {serial} of the keys is missing; put it back"),
        }
    }
}

impl Keys {
    /// The keys of a new fleet: none.
    pub fn none(fleet: Id) -> Self {
        Self {
            fleet,
            serial: 0,
            keys: Vec::new(),
            threshold: 1,
            directors: Vec::new(),
            retired: Vec::new(),
            unsaid: Vec::new(),
        }
    }

    /// Refuses keys that break a rule.
    pub(crate) fn check(&self) -> Result<(), FleetError> {
        let refuse = |message: String| Err(FleetError::new(message));
        let all = || self.keys.iter().chain(&self.directors).chain(&self.retired);
        if all().count() > MOST {
            return refuse(format!("there are more than {MOST} keys, retired ones among them"));
        }
        if let Some(key) = all().find(|key| !is_public_key(key)) {
            return refuse(format!("{key:?} is not a public key of minisign"));
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

    /// The keys that may each sign declarations.
    pub fn declaring(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().chain(&self.directors)
    }

    /// Whether these are the same keys, whatever audit entries are beside them: earlier versions do not keep these.
    pub(crate) fn are(&self, other: &Self) -> bool {
        Self { unsaid: Vec::new(), ..self.clone() } == Self { unsaid: Vec::new(), ..other.clone() }
    }

    /// Retires a key.
    ///
    /// # Errors
    /// If the fleet does not have this key.
    pub fn retire(&mut self, key: &str) -> Result<(), FleetError> {
        let before = self.declaring().count();
        self.keys.retain(|it| it != key);
        self.directors.retain(|it| it != key);
        if self.declaring().count() == before {
            return Err(FleetError::new(format!("{key} is not a key of the fleet")));
        }
        self.retired.push(key.to_owned());
        Ok(())
    }

    /// Verifies that a document has the required signatures for a purpose.
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
