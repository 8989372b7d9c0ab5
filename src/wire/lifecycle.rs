//! What `operate` is told of vaults that are deleted, or are to be.

use serde::{Deserialize, Serialize};

use super::operate::{optional, vault_id};
use super::text;
use crate::model::{Deletion, Lifecycle, SourceAddresses, StoredVault, Uid, UnixSeconds, VaultId, VaultUuid};

/// `GET` a [`Lifecycle`] here, as JSON; 404 from a release that does not know it.
pub const LIFECYCLE_PATH: &str = "/operate/lifecycle";
/// Longest answer, in bytes: more than ten thousand deleted vaults.
pub const MAX_LIFECYCLE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    deleted: Vec<Deleted>,
    waiting: u64,
    // A release that does not tell.
    #[serde(default, with = "optional_addresses")]
    source_addresses: Option<SourceAddresses>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SourceAddresses", rename_all = "camelCase")]
enum SourceAddressesText {
    Kept,
    Rewritten,
}

optional!(optional_addresses: Option<SourceAddresses> as "super::SourceAddressesText");

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    #[serde(with = "text::version")]
    uuid: crate::model::Version,
    #[serde(with = "vault_id")]
    vault: VaultId,
    #[serde(with = "text::uid")]
    namespace_uid: Uid,
    #[serde(with = "text::uid")]
    resource_uid: Uid,
    rules: super::operate::Rules,
    secrets: u64,
    at: i64,
    purge_due: i64,
    purging: bool,
}

/// As it is sent.
///
/// # Errors
/// None for what `serve` tells; an error is a defect.
pub fn write_lifecycle(lifecycle: &Lifecycle) -> Result<Vec<u8>, serde_json::Error> {
    let deleted = |vault: &StoredVault| {
        let deletion = vault.deletion?;
        Some(Deleted {
            uuid: crate::model::Version(vault.uuid.0),
            vault: vault.id.clone(),
            namespace_uid: vault.namespace_uid.clone(),
            resource_uid: vault.resource_uid.clone(),
            rules: super::operate::Rules(vault.rules),
            secrets: vault.secrets,
            at: deletion.at.0,
            purge_due: deletion.purge_due.0,
            purging: deletion.purging,
        })
    };
    serde_json::to_vec(&Told {
        deleted: lifecycle.deleted.iter().filter_map(deleted).collect(),
        waiting: lifecycle.waiting,
        source_addresses: lifecycle.source_addresses,
    })
}

/// What was sent.
///
/// # Errors
/// It is not what [`write_lifecycle`] writes.
pub fn read_lifecycle(body: &[u8]) -> Result<Lifecycle, serde_json::Error> {
    let told: Told = serde_json::from_slice(body)?;
    let deleted = told.deleted.into_iter().map(|deleted| StoredVault {
        uuid: VaultUuid(deleted.uuid.0),
        id: deleted.vault,
        namespace_uid: deleted.namespace_uid,
        resource_uid: deleted.resource_uid,
        rules: deleted.rules.0,
        secrets: deleted.secrets,
        deletion: Some(Deletion {
            at: UnixSeconds(deleted.at),
            purge_due: UnixSeconds(deleted.purge_due),
            purging: deleted.purging,
        }),
    });
    Ok(Lifecycle {
        deleted: deleted.collect(),
        waiting: told.waiting,
        source_addresses: told.source_addresses,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Namespace, VaultName, VaultRules, VaultSettings};

    prop_compose! {
        fn vault()(
            uuid: [u8; 16],
            namespace in "[a-z]{1,63}",
            name in "[a-z]{3,24}",
            (namespace_uid, resource_uid) in ("[0-9a-f-]{1,36}", "[0-9a-f-]{1,36}"),
            purge_protection: bool,
            secrets: u64,
            (at, purge_due) in any::<(i64, i64)>(),
            purging: bool,
        ) -> StoredVault {
            StoredVault {
                uuid: VaultUuid(uuid),
                id: VaultId { namespace: Namespace::parse(&namespace).unwrap(), name: VaultName::parse(&name).unwrap() },
                namespace_uid: Uid::new(&namespace_uid),
                resource_uid: Uid::new(&resource_uid),
                rules: VaultRules { purge_protection, ..VaultRules::of(&VaultSettings::default()) },
                secrets,
                deletion: Some(Deletion { at: UnixSeconds(at), purge_due: UnixSeconds(purge_due), purging }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_told_comes_over(deleted in proptest::collection::vec(vault(), 0..5), waiting: u64, kept: Option<bool>) {
            let source_addresses =
                kept.map(|kept| if kept { SourceAddresses::Kept } else { SourceAddresses::Rewritten });
            let lifecycle = Lifecycle { deleted, waiting, source_addresses };
            let sent = write_lifecycle(&lifecycle).unwrap();
            prop_assert_eq!(read_lifecycle(&sent).unwrap(), lifecycle);
        }

        #[test]
        fn no_answer_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_lifecycle(&bytes);
        }
    }
}
