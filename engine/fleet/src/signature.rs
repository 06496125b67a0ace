//! Signatures, as minisign makes them. What a signature is for is a part of what is signed: its trusted comment, here
//! its purpose.

use std::{io::Cursor, path::Path};

use minisign::{KeyPair, PublicKey, SecretKeyBox, SignatureBox};

use crate::{FleetError, atomic_write, directory::read_bounded};

/// How many signatures of a document are looked at.
const MOST: usize = 100;
/// How long the last line of a signature is: what it says is taken apart without a look at its length.
const LAST_LINE: usize = 88;

/// A secret key.
#[derive(Clone)]
pub struct SecretKey(minisign::SecretKey);

impl SecretKey {
    /// Makes a key and writes it, without a password, to a file that only this user can read; returns the
    /// public key too.
    ///
    /// # Errors
    /// If there is such a file already, or it cannot be written.
    pub fn generate(path: &Path) -> Result<(Self, String), FleetError> {
        if path.exists() {
            return Err(FleetError::at(
                path.display(),
                "it is there already; name a new file for the secret key",
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

    /// Reads a key that has no password.
    ///
    /// # Errors
    /// If it cannot be read, or has a password.
    pub fn read(path: &Path) -> Result<Self, FleetError> {
        let wrong = |error: minisign::PError| {
            FleetError::at(
                path.display(),
                format_args!("it is no secret key of minisign without a password: {error}"),
            )
        };
        let text = String::from_utf8_lossy(&read_bounded(path, 1 << 16)?).into_owned();
        let key =
            SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key);
        key.map(Self).map_err(wrong)
    }

    /// Its public part, as minisign writes it: base64.
    ///
    /// # Errors
    /// If it has none.
    pub fn public(&self) -> Result<String, FleetError> {
        let public = PublicKey::from_secret_key(&self.0);
        let public = public.map_err(|error| FleetError::new(format!("a secret key: {error}")))?;
        Ok(public.to_base64())
    }

    /// Signs bytes for a purpose, which is signed with them: `hotswap fleet FLEET channel NAME`.
    ///
    /// # Errors
    /// If there is no randomness to be had.
    pub fn sign(&self, bytes: &[u8], purpose: &str) -> Result<String, FleetError> {
        let signed = minisign::sign(None, &self.0, Cursor::new(bytes), Some(purpose), None);
        let signed = signed.map_err(|error| FleetError::new(format!("cannot sign: {error}")))?;
        Ok(signed.into_string())
    }
}

/// A signature, which may be anybody's, of anything.
pub(crate) struct Signature {
    signature: SignatureBox,
    text: String,
}

impl Signature {
    /// Those in a text, one after the other; what is none is left out.
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

    /// Whether it is by a key, for these bytes.
    pub fn is_by(&self, key: &str, bytes: &[u8]) -> bool {
        PublicKey::from_base64(key).is_ok_and(|key| {
            let bytes = Cursor::new(bytes);
            minisign::verify(&key, &self.signature, bytes, true, false, false).is_ok()
        })
    }

    /// Whether it says that it is by a key.
    pub fn names(&self, key: &str) -> bool {
        PublicKey::from_base64(key).is_ok_and(|key| key.keynum() == self.signature.keynum())
    }

    /// What it is for.
    pub fn purpose(&self) -> String {
        self.signature.trusted_comment().unwrap_or_default()
    }

    /// As minisign writes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a text is a public key, as minisign writes it: base64.
pub(crate) fn is_public_key(text: &str) -> bool {
    PublicKey::from_base64(text).is_ok()
}
