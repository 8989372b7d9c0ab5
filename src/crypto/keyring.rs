//! The keys at rest: root key, one key per vault, and what is derived from the root by label.

use std::sync::Arc;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::model::{SecretBytes, Uid, VaultUuid};

use super::seal::{self, Header, RecordType};
use super::{CryptoError, NamingKey, random};

/// Bytes of a symmetric key, wiped when dropped; on the heap, so that moving a key leaves no copy behind.
pub(super) type KeyBytes = Box<Zeroizing<[u8; 32]>>;

const LABEL_SEALING: &[u8] = b"strongroom/root/v1/sealing";
const LABEL_NAMING: &[u8] = b"strongroom/root/v1/naming";
const LABEL_PAGING: &[u8] = b"strongroom/root/v1/paging";
const LABEL_BACKUP: &[u8] = b"strongroom/root/v1/backup";
const LABEL_BACKUP_OF: &[u8] = b"strongroom/backup/v1/namespace/";
/// The name under which a vault's key is wrapped; it never leaves the vault's head.
const WRAPPED_NAME: &str = "vault-key";
/// The only term until keys rotate.
const FIRST_TERM: u32 = 1;

/// One installation's own identity: random, made once, bound into everything that it seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationId(pub [u8; 16]);

/// The key from which everything else is reached. Its provider keeps it; it never stands in a record.
pub struct RootKey {
    key: KeyBytes,
    version: u32,
    sealing: SealingKey,
    naming: NamingKey,
    paging: SealingKey,
    backup: BackupKey,
}

impl RootKey {
    /// Takes the 32 bytes that a provider kept.
    ///
    /// # Errors
    /// [`CryptoError::KeyLength`], [`CryptoError::Derive`].
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, CryptoError> {
        Self::derived_from(key_bytes(bytes.expose())?)
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// [`CryptoError::Random`], [`CryptoError::Derive`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::derived_from(fresh_key()?)
    }

    fn derived_from(key: KeyBytes) -> Result<Self, CryptoError> {
        let version = FIRST_TERM;
        Ok(Self {
            sealing: SealingKey::new(version, derive(&key, LABEL_SEALING)?),
            naming: NamingKey::new(&derive(&key, LABEL_NAMING)?),
            paging: SealingKey::new(version, derive(&key, LABEL_PAGING)?),
            backup: BackupKey(SealingKey::new(version, derive(&key, LABEL_BACKUP)?)),
            key,
            version,
        })
    }

    /// Its 32 bytes, for the provider that keeps them.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        SecretBytes::new(self.key.to_vec())
    }

    /// Which root key this is; records under it name this number as their term.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Seals the installation's own records: sentinel, installation, certificate authority, heads of vaults.
    #[must_use]
    pub fn sealing_key(&self) -> SealingKey {
        self.sealing.clone()
    }

    /// Makes the names of records.
    #[must_use]
    pub fn naming_key(&self) -> NamingKey {
        self.naming.clone()
    }

    /// Seals the tokens by which lists are continued.
    #[must_use]
    pub fn paging_key(&self) -> SealingKey {
        self.paging.clone()
    }

    /// Makes the keys under which backups are sealed.
    #[must_use]
    pub fn backup_key(&self) -> BackupKey {
        self.backup.clone()
    }
}

/// What the keys of backups are made from: each namespace has its own, so that a backup opens in its own alone.
#[derive(Clone)]
pub struct BackupKey(SealingKey);

impl BackupKey {
    /// The key of one namespace.
    ///
    /// # Errors
    /// [`CryptoError::Derive`].
    pub fn of_namespace(&self, uid: &Uid) -> Result<SealingKey, CryptoError> {
        let label = [LABEL_BACKUP_OF, uid.as_str().as_bytes()].concat();
        Ok(SealingKey::new(self.0.term, derive(&self.0.key, &label)?))
    }
}

/// One vault's key: random, wrapped inside the vault's head. Everything of the vault is sealed under it, so destroying it
/// destroys the vault.
pub struct VaultKey {
    vault: VaultUuid,
    sealing: SealingKey,
}

impl VaultKey {
    /// Makes a new one for this vault.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate(vault: VaultUuid) -> Result<Self, CryptoError> {
        Ok(Self {
            vault,
            sealing: SealingKey::new(FIRST_TERM, fresh_key()?),
        })
    }

    /// The key, sealed under the root's sealing key and bound to its vault and installation.
    ///
    /// # Errors
    /// [`CryptoError::Random`], [`CryptoError::Derive`], [`CryptoError::Seal`].
    pub fn wrap(&self, root: &SealingKey, installation: &InstallationId) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Zeroizing::new([0; 36]);
        let (term, key) = plain.split_at_mut(4);
        term.copy_from_slice(&self.sealing.term.to_be_bytes());
        key.copy_from_slice(self.sealing.key.as_slice());
        let header = Header {
            record_type: RecordType::VaultKey,
            vault: self.vault,
            incarnation: [0; 16],
            term: root.term,
            rev: 0,
        };
        seal::seal(root, installation, &header, WRAPPED_NAME, plain.as_slice())
    }

    /// Opens what [`VaultKey::wrap`] made for this vault.
    ///
    /// # Errors
    /// As [`seal::open`]; [`CryptoError::DoesNotOpen`] where it is another vault's.
    pub fn unwrap(
        root: &SealingKey,
        installation: &InstallationId,
        vault: VaultUuid,
        wrapped: &[u8],
    ) -> Result<Self, CryptoError> {
        let (header, plain) = seal::open(root, installation, RecordType::VaultKey, WRAPPED_NAME, wrapped)?;
        if header.vault != vault {
            return Err(CryptoError::DoesNotOpen);
        }
        let (term, key) = plain
            .expose()
            .split_first_chunk::<4>()
            .ok_or(CryptoError::KeyLength)?;
        Ok(Self {
            vault,
            sealing: SealingKey::new(u32::from_be_bytes(*term), key_bytes(key)?),
        })
    }

    /// Seals the vault's objects.
    #[must_use]
    pub const fn sealing_key(&self) -> &SealingKey {
        &self.sealing
    }
}

/// A key under which records are sealed, and its term. Clones share the bytes, which are wiped with the last of them.
#[derive(Clone)]
pub struct SealingKey {
    term: u32,
    key: Arc<KeyBytes>,
}

impl SealingKey {
    fn new(term: u32, key: KeyBytes) -> Self {
        Self {
            term,
            key: Arc::new(key),
        }
    }

    /// Which key this is: records under it name this number.
    #[must_use]
    pub const fn term(&self) -> u32 {
        self.term
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.key.as_slice()
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
    use proptest::prelude::*;

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
    fn a_root_key_has_exactly_32_bytes() {
        for length in [0, 1, 31, 33, 64] {
            let refused = RootKey::from_bytes(&SecretBytes::new(vec![1; length]));
            assert_eq!(refused.err(), Some(CryptoError::KeyLength), "{length}");
        }
        let root = RootKey::from_bytes(&SecretBytes::new(vec![1; 32])).unwrap();
        assert_eq!(root.to_bytes().expose(), [1; 32]);
    }

    #[test]
    fn the_same_root_always_gives_the_same_keys_and_each_purpose_has_its_own() {
        let bytes = RootKey::generate().unwrap().to_bytes();
        let (one, two) = (
            RootKey::from_bytes(&bytes).unwrap(),
            RootKey::from_bytes(&bytes).unwrap(),
        );
        assert_eq!(one.sealing_key().secret(), two.sealing_key().secret());
        assert_eq!(one.paging_key().secret(), two.paging_key().secret());
        assert_eq!(one.naming_key().name(&[b"a"]), two.naming_key().name(&[b"a"]));
        assert_ne!(one.sealing_key().secret(), one.paging_key().secret());
        assert_ne!(one.sealing_key().secret(), bytes.expose());
        let backup = |root: &RootKey, uid: &str| {
            let key = root.backup_key().of_namespace(&Uid::new(uid)).unwrap();
            key.secret().to_vec()
        };
        assert_eq!(backup(&one, "n1"), backup(&two, "n1"));
        assert_ne!(backup(&one, "n1"), backup(&one, "n2"));
        assert_ne!(backup(&one, "n1"), one.sealing_key().secret());
        assert_ne!(
            one.sealing_key().secret(),
            RootKey::generate().unwrap().sealing_key().secret()
        );
    }

    #[test]
    fn a_vaults_key_unwraps_under_its_root_for_its_vault_and_installation_alone() {
        let (root, other_root) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
        let (here, elsewhere) = (InstallationId([1; 16]), InstallationId([2; 16]));
        let (vault, other_vault) = (VaultUuid([3; 16]), VaultUuid([4; 16]));
        let key = VaultKey::generate(vault).unwrap();
        let wrapped = key.wrap(&root.sealing_key(), &here).unwrap();

        let same = VaultKey::unwrap(&root.sealing_key(), &here, vault, &wrapped).unwrap();
        assert_eq!(same.sealing_key().secret(), key.sealing_key().secret());
        assert_eq!(same.sealing_key().term(), key.sealing_key().term());

        for (root, installation, vault) in [
            (&other_root, here, vault),
            (&root, elsewhere, vault),
            (&root, here, other_vault),
        ] {
            let refused = VaultKey::unwrap(&root.sealing_key(), &installation, vault, &wrapped);
            assert_eq!(refused.err(), Some(CryptoError::DoesNotOpen));
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

    proptest! {
        #[test]
        fn no_bytes_make_unwrap_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let root = RootKey::from_bytes(&SecretBytes::new(vec![1; 32])).unwrap();
            let refused = VaultKey::unwrap(&root.sealing_key(), &InstallationId([0; 16]), VaultUuid([0; 16]), &bytes);
            prop_assert!(refused.is_err());
        }
    }
}
