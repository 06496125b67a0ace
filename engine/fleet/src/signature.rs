//! Signatures in the format of minisign. The signed trusted comment states the purpose of a signature.

use std::{io::Cursor, path::Path};

use minisign::{KeyPair, PublicKey, SecretKeyBox, SignatureBox};

use crate::{FleetError, atomic_write, directory::read_bounded};

/// The largest number of signatures of a document that are checked.
const MOST: usize = 100;
/// The length of the last line of a signature. The parser of minisign relies on it without a check, so it is
/// checked here.
const LAST_LINE: usize = 88;

/// A secret key.
#[derive(Clone)]
pub struct SecretKey(minisign::SecretKey);

impl SecretKey {
    /// Makes a key and writes it, without a password, to a file that only this user can read. Also returns the
    /// public key.
    ///
    /// # Errors
    /// If the file exists, or cannot be written.
    pub fn generate(path: &Path) -> Result<(Self, String), FleetError> {
        if path.exists() {
            return Err(FleetError::at(
                path.display(),
                "the file exists already; name a new file for the secret key",
            ));
        }
        let wrong = |error: minisign::PError| {
            FleetError::at(path.display(), format_args!("cannot make a key: {error}"))
        };
        let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().map_err(wrong)?;
        let text = sk.to_box(None).map_err(wrong)?.to_string();
        atomic_write(path, text.as_bytes())?;
        Ok((Self(sk), pk.to_base64()))
    }

    /// Reads a secret key that has no password.
    ///
    /// # Errors
    /// If the file cannot be read, or the key has a password.
    pub fn read(path: &Path) -> Result<Self, FleetError> {
        let wrong = |error: minisign::PError| {
            FleetError::at(
                path.display(),
                format_args!("it is not a secret key of minisign without a password: {error}"),
            )
        };
        let text = String::from_utf8_lossy(&read_bounded(path, 1 << 16)?).into_owned();
        let key =
            SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key);
        key.map(Self).map_err(wrong)
    }

    /// Its public key, as minisign writes it: base64.
    ///
    /// # Errors
    /// If the secret key has no public part.
    pub fn public(&self) -> Result<String, FleetError> {
        let public = PublicKey::from_secret_key(&self.0);
        let public = public.map_err(|error| FleetError::new(format!("a secret key: {error}")))?;
        Ok(public.to_base64())
    }

    /// Signs bytes together with a purpose such as `hotswap fleet FLEET channel NAME`.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn sign(&self, bytes: &[u8], purpose: &str) -> Result<String, FleetError> {
        self.sign_with_note(bytes, purpose, None)
    }

    /// Like [`sign`](Self::sign), with a note of one line, which is not signed: the untrusted comment.
    pub(crate) fn sign_with_note(
        &self,
        bytes: &[u8],
        purpose: &str,
        note: Option<&str>,
    ) -> Result<String, FleetError> {
        let signed = minisign::sign(None, &self.0, Cursor::new(bytes), Some(purpose), note);
        let signed = signed.map_err(|error| FleetError::new(format!("cannot sign: {error}")))?;
        Ok(signed.into_string())
    }
}

/// A signature that is not verified yet.
pub(crate) struct Signature {
    signature: SignatureBox,
    text: String,
}

impl Signature {
    /// The signatures in a text, one after the other. Whatever is not a signature is left out.
    pub fn all_in(text: &str) -> Vec<Self> {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let signature = |lines: &[&str]| {
            let is_whole = lines.last().is_some_and(|last| last.trim().len() == LAST_LINE);
            let text = lines.join("\n") + "\n";
            let signature = SignatureBox::from_string(&text).ok().filter(|_| is_whole)?;
            Some(Self { signature, text })
        };
        lines.chunks_exact(4).take(MOST).filter_map(signature).collect()
    }

    /// Whether this is a signature of these bytes by a key.
    pub fn is_by(&self, key: &str, bytes: &[u8]) -> bool {
        PublicKey::from_base64(key).is_ok_and(|key| {
            let bytes = Cursor::new(bytes);
            minisign::verify(&key, &self.signature, bytes, true, false, false).is_ok()
        })
    }

    /// Whether the signature names a key as its own. This is not verified.
    pub fn names(&self, key: &str) -> bool {
        PublicKey::from_base64(key).is_ok_and(|key| key.keynum() == self.signature.keynum())
    }

    /// The purpose of the signature.
    pub fn purpose(&self) -> String {
        self.signature.trusted_comment().unwrap_or_default()
    }

    /// The note beside the signature. Anybody can have changed it.
    pub fn note(&self) -> String {
        self.signature.untrusted_comment().unwrap_or_default()
    }

    /// The signature as minisign writes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a text is a public key, as minisign writes it: base64.
pub(crate) fn is_public_key(text: &str) -> bool {
    PublicKey::from_base64(text).is_ok()
}
