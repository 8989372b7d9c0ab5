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
/// The name under which is sealed what outlives a version of the root key.
const HERITAGE_NAME: &str = "heritage";
/// The term of a vault's first key, and the version of an installation's first root key.
const FIRST_TERM: u32 = 1;

/// One installation's own identity: random, made once, bound into everything that it seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallationId(pub [u8; 16]);

/// The key from which everything else is reached. Its provider keeps it; it never stands in a record.
///
/// It may stand [beside](Self::beside) another version: what it seals is sealed under this one, and both open.
pub struct RootKey {
    key: KeyBytes,
    version: u32,
    sealing: SealingKey,
    names: Arc<KeyBytes>,
    paging: SealingKey,
    backup: BackupKey,
}

impl RootKey {
    /// Takes the 32 bytes that a provider kept.
    ///
    /// # Errors
    /// [`CryptoError::KeyLength`], [`CryptoError::Derive`].
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, CryptoError> {
        Self::of_version(bytes, FIRST_TERM)
    }

    /// The same of a later version; versions count from 1.
    ///
    /// # Errors
    /// [`CryptoError::KeyLength`], [`CryptoError::Derive`].
    pub fn of_version(bytes: &SecretBytes, version: u32) -> Result<Self, CryptoError> {
        Self::derived_from(key_bytes(bytes.expose())?, version)
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// [`CryptoError::Random`], [`CryptoError::Derive`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::derived_from(fresh_key()?, FIRST_TERM)
    }

    fn derived_from(key: KeyBytes, version: u32) -> Result<Self, CryptoError> {
        Ok(Self {
            sealing: SealingKey::new(version, derive(&key, LABEL_SEALING)?),
            names: Arc::new(derive(&key, LABEL_NAMING)?),
            paging: SealingKey::new(version, derive(&key, LABEL_PAGING)?),
            backup: BackupKey(SealingKey::new(version, derive(&key, LABEL_BACKUP)?)),
            key,
            version,
        })
    }

    /// This one as the current version of an installation that has `other` as well, whichever of them is the later: this one
    /// seals, and both open. Names stay those that the lower version makes, since a record keeps its name; backups are in
    /// their owners' hands, so what `other` opens of them this one opens too.
    ///
    /// # Errors
    /// [`CryptoError::SameVersion`].
    pub fn beside(self, other: &Self) -> Result<Self, CryptoError> {
        if self.version == other.version {
            return Err(CryptoError::SameVersion);
        }
        let names = if self.version < other.version {
            self.names
        } else {
            Arc::clone(&other.names)
        };
        Ok(Self {
            sealing: self.sealing.also_opening(&other.sealing),
            paging: self.paging.also_opening(&other.paging),
            backup: BackupKey(self.backup.0.also_opening(&other.backup.0)),
            names,
            ..self
        })
    }

    /// What must outlive the versions that came before, sealed under this one: the key of names and those of backups. With
    /// it a later version does without them.
    ///
    /// # Errors
    /// [`CryptoError::Random`], [`CryptoError::Derive`], [`CryptoError::Seal`].
    pub fn heritage(&self, installation: &InstallationId) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Zeroizing::new(Vec::with_capacity(32 + 36 * (1 + self.backup.0.others.len())));
        plain.extend_from_slice(self.names.as_slice());
        for (term, key) in self.backup.0.all() {
            plain.extend_from_slice(&term.to_be_bytes());
            plain.extend_from_slice(key.as_slice());
        }
        let header = Header {
            record_type: RecordType::Heritage,
            vault: VaultUuid([0; 16]),
            incarnation: [0; 16],
            term: self.version,
            rev: 0,
        };
        seal::seal(&self.sealing, installation, &header, HERITAGE_NAME, &plain)
    }

    /// This one with what [`RootKey::heritage`] sealed, under this version or one beside it.
    ///
    /// # Errors
    /// As [`seal::open`]; [`CryptoError::KeyLength`] where it holds something else.
    pub fn with_heritage(self, installation: &InstallationId, sealed: &[u8]) -> Result<Self, CryptoError> {
        let (_, plain) = seal::open(
            &self.sealing,
            installation,
            RecordType::Heritage,
            HERITAGE_NAME,
            sealed,
        )?;
        let (names, backups) = plain
            .expose()
            .split_first_chunk::<32>()
            .ok_or(CryptoError::KeyLength)?;
        let mut backup = self.backup.0;
        for one in backups.chunks(4 + 32) {
            let (term, key) = one.split_first_chunk::<4>().ok_or(CryptoError::KeyLength)?;
            backup = backup.also_opening(&SealingKey::new(u32::from_be_bytes(*term), key_bytes(key)?));
        }
        Ok(Self {
            names: Arc::new(key_bytes(names)?),
            backup: BackupKey(backup),
            ..self
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
        NamingKey::new(&self.names)
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
        let mut of_namespace = SealingKey::new(self.0.term, derive(&self.0.key, &label)?);
        for (term, key) in &self.0.others {
            of_namespace.others.push((*term, Arc::new(derive(key, &label)?)));
        }
        Ok(of_namespace)
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

    /// Which version of the root key a wrapped key needs, without opening it.
    ///
    /// # Errors
    /// [`CryptoError::NotARecord`], [`CryptoError::OtherType`].
    pub fn root_version(wrapped: &[u8]) -> Result<u32, CryptoError> {
        let header = Header::peek(wrapped)?;
        if header.record_type == RecordType::VaultKey {
            Ok(header.term)
        } else {
            Err(CryptoError::OtherType)
        }
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

    fn version(number: u32) -> RootKey {
        let byte = u8::try_from(number).unwrap();
        RootKey::of_version(&SecretBytes::new(vec![byte; 32]), number).unwrap()
    }

    #[test]
    fn beside_another_version_the_current_one_seals_and_both_open() {
        let here = InstallationId([1; 16]);
        let vault = VaultUuid([3; 16]);
        for (current, other) in [(2, 1), (1, 2), (7, 3)] {
            let both = version(current).beside(&version(other)).unwrap();
            for by in [current, other] {
                let key = VaultKey::generate(vault).unwrap();
                let wrapped = key.wrap(&version(by).sealing_key(), &here).unwrap();
                assert_eq!(VaultKey::root_version(&wrapped), Ok(by));

                let same = VaultKey::unwrap(&both.sealing_key(), &here, vault, &wrapped).unwrap();
                assert_eq!(same.sealing_key().secret(), key.sealing_key().secret());
                let rewrapped = same.wrap(&both.sealing_key(), &here).unwrap();
                assert_eq!(VaultKey::root_version(&rewrapped), Ok(current));
                let alone = |by| VaultKey::unwrap(&version(by).sealing_key(), &here, vault, &rewrapped);
                assert_eq!(
                    alone(current).unwrap().sealing_key().secret(),
                    key.sealing_key().secret()
                );
                assert_eq!(alone(other).err(), Some(CryptoError::OtherTerm));
            }
        }
    }

    #[test]
    fn a_version_does_not_stand_beside_itself() {
        assert_eq!(
            version(2).beside(&version(2)).err(),
            Some(CryptoError::SameVersion)
        );
    }

    #[test]
    fn what_is_no_wrapped_key_names_no_version_of_the_root() {
        let here = InstallationId([1; 16]);
        let other_type = version(1).heritage(&here).unwrap();
        assert_eq!(VaultKey::root_version(&other_type), Err(CryptoError::OtherType));
        assert_eq!(VaultKey::root_version(b"key"), Err(CryptoError::NotARecord));
    }

    /// Whether a backup that one version made for a namespace opens under another.
    fn opens_backup(maker: &RootKey, reader: &RootKey) -> Result<(), CryptoError> {
        let (here, namespace) = (InstallationId([1; 16]), Uid::new("n1"));
        let key = maker.backup_key().of_namespace(&namespace).unwrap();
        let header = Header {
            record_type: RecordType::Backup,
            vault: VaultUuid([0; 16]),
            incarnation: [0; 16],
            term: key.term(),
            rev: 1,
        };
        let blob = seal::seal(&key, &here, &header, "secret", b"value").unwrap();
        let reader = reader.backup_key().of_namespace(&namespace).unwrap();
        seal::open(&reader, &here, RecordType::Backup, "secret", &blob).map(drop)
    }

    #[test]
    fn records_keep_their_names_and_backups_open_through_rotations_and_after_the_old_versions_are_gone() {
        let here = InstallationId([1; 16]);
        let name = |root: &RootKey| root.naming_key().name(&[b"vault", b"team"]);
        let (first, alone) = (version(1), version(3));
        assert_ne!(name(&alone), name(&first));
        assert_eq!(opens_backup(&first, &alone), Err(CryptoError::OtherTerm));

        let second = version(2).beside(&first).unwrap();
        let heritage = second.heritage(&here).unwrap();
        // The first is gone; what it left comes along to the third, and then the second goes too.
        let second = version(2).with_heritage(&here, &heritage).unwrap();
        let third = version(3).beside(&second).unwrap();
        let heritage = third.heritage(&here).unwrap();
        let third = version(3).with_heritage(&here, &heritage).unwrap();

        assert_eq!(name(&second), name(&first));
        assert_eq!(name(&third), name(&first));
        for maker in [&first, &version(2), &second, &third] {
            assert_eq!(opens_backup(maker, &third), Ok(()), "{}", maker.version());
        }
        // A new backup is the new version's: who holds an old one does not read it.
        assert_eq!(opens_backup(&third, &second), Err(CryptoError::OtherTerm));
    }

    #[test]
    fn what_a_version_leaves_opens_under_it_and_in_its_installation_alone() {
        let (here, elsewhere) = (InstallationId([1; 16]), InstallationId([2; 16]));
        let heritage = version(2).heritage(&here).unwrap();
        let taken = |by, at| version(by).with_heritage(&at, &heritage).err();
        assert_eq!(taken(2, here), None);
        assert_eq!(taken(2, elsewhere), Some(CryptoError::DoesNotOpen));
        assert_eq!(taken(3, here), Some(CryptoError::OtherTerm));
        assert_eq!(
            version(2).with_heritage(&here, b"").err(),
            Some(CryptoError::NotARecord)
        );
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
