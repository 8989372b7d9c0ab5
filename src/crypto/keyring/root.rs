//! The root key, its versions, and what is made from it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{FIRST_TERM, InstallationId, KeyBytes, SealingKey, derive, fresh_key, key_bytes};
use crate::crypto::seal::{self, Header, RecordType};
use crate::crypto::{CryptoError, NamingKey};
use crate::model::{SecretBytes, Uid, VaultUuid};

const LABEL_SEALING: &[u8] = b"strongroom/root/v1/sealing";
const LABEL_NAMING: &[u8] = b"strongroom/root/v1/naming";
const LABEL_PAGING: &[u8] = b"strongroom/root/v1/paging";
const LABEL_BACKUP: &[u8] = b"strongroom/root/v1/backup";
const LABEL_BACKUP_OF: &[u8] = b"strongroom/backup/v1/namespace/";
/// The name under which is sealed what outlives a version of the root key.
const HERITAGE_NAME: &str = "heritage";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VaultKey;

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
}
