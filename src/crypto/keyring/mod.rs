//! The keys at rest: the root key, one key per vault, and what is derived from the root by label.

mod root;
mod vault;

use std::sync::Arc;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::{CryptoError, random};

pub use root::{BackupKey, RootKey};
pub use vault::VaultKey;

/// Bytes of a symmetric key, wiped when dropped; on the heap, so that moving a key leaves no copy behind.
pub(super) type KeyBytes = Box<Zeroizing<[u8; 32]>>;

/// The term of a vault's first key, and the version of an installation's first root key.
const FIRST_TERM: u32 = 1;

/// One installation's own identity: random, made once, bound into everything that it seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationId(pub [u8; 16]);

/// A key under which records are sealed, and its term; with it, those of other terms, under which records are opened alone.
/// Clones share the bytes, which are wiped with the last of them.
#[derive(Clone)]
pub struct SealingKey {
    term: u32,
    key: Arc<KeyBytes>,
    others: Vec<(u32, Arc<KeyBytes>)>,
}

impl SealingKey {
    fn new(term: u32, key: KeyBytes) -> Self {
        Self {
            term,
            key: Arc::new(key),
            others: Vec::new(),
        }
    }

    /// Which key this is: records that it seals name this number.
    #[must_use]
    pub const fn term(&self) -> u32 {
        self.term
    }

    /// The same, which opens as well what any key of `other` opens. Where both know a term, this one's key stays.
    fn also_opening(mut self, other: &Self) -> Self {
        for (term, key) in other.all() {
            if self.secret_of(term).is_none() {
                self.others.push((term, Arc::clone(key)));
            }
        }
        self
    }

    fn all(&self) -> impl Iterator<Item = (u32, &Arc<KeyBytes>)> {
        std::iter::once((self.term, &self.key)).chain(self.others.iter().map(|(term, key)| (*term, key)))
    }

    /// The bytes under which it seals.
    pub(super) fn secret(&self) -> &[u8] {
        self.key.as_slice()
    }

    /// The bytes under which a record that names this term was sealed; none where it does not know that term.
    pub(super) fn secret_of(&self, term: u32) -> Option<&[u8]> {
        self.all()
            .find_map(|(known, key)| (known == term).then(|| key.as_slice()))
    }
}

macro_rules! debug_without_key {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
debug_without_key!(RootKey, VaultKey, SealingKey, BackupKey);

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand with SHA-256 (RFC 5869, section 2.3) of a key that is uniformly random; `info` comes in pieces.
pub(super) fn hkdf_expand_sha256(key: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError> {
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key)
        .expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| CryptoError::Derive)
}

/// HKDF with SHA-256 (RFC 5869): extract and expand.
pub(super) fn hkdf_sha256(
    salt: &[u8],
    secret: &[u8],
    info: &[u8],
    out: &mut [u8],
) -> Result<(), CryptoError> {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| CryptoError::Derive)
}

/// A key of its own for one purpose of the root: HKDF without salt (the root is uniformly random), the label as info.
fn derive(root: &KeyBytes, label: &[u8]) -> Result<KeyBytes, CryptoError> {
    let mut out = KeyBytes::new(Zeroizing::new([0; 32]));
    hkdf_sha256(&[], root.as_slice(), label, out.as_mut_slice())?;
    Ok(out)
}

fn fresh_key() -> Result<KeyBytes, CryptoError> {
    let mut key = KeyBytes::new(Zeroizing::new([0; 32]));
    random::fill(key.as_mut_slice())?;
    Ok(key)
}

fn key_bytes(bytes: &[u8]) -> Result<KeyBytes, CryptoError> {
    if bytes.len() != 32 {
        return Err(CryptoError::KeyLength);
    }
    let mut key = KeyBytes::new(Zeroizing::new([0; 32]));
    key.copy_from_slice(bytes);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SecretBytes, VaultUuid};

    fn unhex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 5869, appendix A.1 to A.3.
    #[test]
    fn hkdf_gives_the_output_of_rfc_5869() {
        let long = |from: u8| (from..=from.wrapping_add(0x4f)).collect::<Vec<u8>>();
        let cases = [
            (
                vec![0x0b; 22],
                unhex("000102030405060708090a0b0c"),
                unhex("f0f1f2f3f4f5f6f7f8f9"),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                long(0x00),
                long(0x60),
                long(0xb0),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                vec![0x0b; 22],
                vec![],
                vec![],
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (secret, salt, info, expected) in cases {
            let expected = unhex(expected);
            let mut out = vec![0; expected.len()];
            hkdf_sha256(&salt, &secret, &info, &mut out).unwrap();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn debug_never_shows_a_key() {
        let root = RootKey::from_bytes(&SecretBytes::new(vec![0xab; 32])).unwrap();
        let vault = VaultKey::generate(VaultUuid([0; 16])).unwrap();
        let shown = format!(
            "{root:?} {vault:?} {:?} {:?} {:?}",
            root.sealing_key(),
            root.naming_key(),
            root.backup_key()
        );
        assert_eq!(shown, "RootKey VaultKey SealingKey NamingKey BackupKey");
    }
}
