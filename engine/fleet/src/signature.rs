//! Signatures, as minisign makes them.

use std::{io::Cursor, path::Path};

use minisign::{KeyPair, PublicKey, SecretKeyBox, SignatureBox};

use crate::{FleetError, atomic_write, directory::read_bounded};

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

    /// Signs bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<String, FleetError> {
        let signed = minisign::sign(None, &self.0, Cursor::new(bytes), Some("hotswap fleet"), None);
        let signed = signed.map_err(|error| FleetError::new(format!("cannot sign: {error}")))?;
        Ok(signed.into_string())
    }
}

/// Whether one of these keys has signed the bytes.
///
/// # Errors
/// If none has.
pub fn verify(bytes: &[u8], signature: &str, keys: &[String]) -> Result<(), FleetError> {
    let signature = SignatureBox::from_string(signature);
    let signature = signature
        .map_err(|error| FleetError::new(format!("it is no signature of minisign: {error}")))?;
    let is_by = |key: &String| {
        let key = PublicKey::from_base64(key);
        key.is_ok_and(|key| {
            minisign::verify(&key, &signature, Cursor::new(bytes), true, false, false).is_ok()
        })
    };
    if keys.iter().any(is_by) {
        return Ok(());
    }
    Err(FleetError::new("the signature is not by a key of the fleet for this very content"))
}
