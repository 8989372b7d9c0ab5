//! One key per vault, wrapped under the root.

use zeroize::Zeroizing;

use super::{FIRST_TERM, InstallationId, SealingKey, fresh_key, key_bytes};
use crate::crypto::CryptoError;
use crate::crypto::seal::{self, Header, RecordType};
use crate::model::VaultUuid;

/// The name under which a vault's key is wrapped; it never leaves the vault's head.
const WRAPPED_NAME: &str = "vault-key";

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::RootKey;
    use crate::model::SecretBytes;

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
    fn what_is_no_wrapped_key_names_no_version_of_the_root() {
        let here = InstallationId([1; 16]);
        let root = RootKey::from_bytes(&SecretBytes::new(vec![1; 32])).unwrap();
        let other_type = root.heritage(&here).unwrap();
        assert_eq!(VaultKey::root_version(&other_type), Err(CryptoError::OtherType));
        assert_eq!(VaultKey::root_version(b"key"), Err(CryptoError::NotARecord));
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
