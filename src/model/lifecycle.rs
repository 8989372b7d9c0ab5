//! The end of a vault: deleted, kept for its retention, purged.

use std::collections::{HashMap, HashSet};

use super::{SourceAddresses, Uid, UnixSeconds, VaultEntry, VaultId, VaultRules, VaultSettings, VaultUuid};

/// A vault as its own head has it, whatever the management plane declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVault {
    /// Its own identity.
    pub uuid: VaultUuid,
    /// Its address while it is or was declared.
    pub id: VaultId,
    /// UID of its namespace.
    pub namespace_uid: Uid,
    /// UID of the `Vault` resource that it was last made ready for.
    pub resource_uid: Uid,
    /// What holds in it.
    pub rules: VaultRules,
    /// Names in it, live or deleted; counted once the vault itself is deleted.
    pub secrets: u64,
    /// Set once it is deleted.
    pub deletion: Option<Deletion>,
}

/// The deleted state of a vault, or of a secret in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Since when.
    pub at: UnixSeconds,
    /// From when on it is purged.
    pub purge_due: UnixSeconds,
    /// A purge has begun: there is no way back.
    pub purging: bool,
}

impl Deletion {
    /// Of what is deleted at that time under these rules.
    #[must_use]
    pub const fn new(at: UnixSeconds, rules: VaultRules) -> Self {
        Self {
            at,
            purge_due: at.plus_days(rules.retention_days),
            purging: false,
        }
    }
}

/// What becomes of vaults whose resources are gone, and what else concerns all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// Those that are deleted and not purged.
    pub deleted: Vec<StoredVault>,
    /// How many are to be deleted and wait, since too many resources went at once.
    pub waiting: u64,
    /// Whether pods' addresses come through; none where that is not known.
    pub source_addresses: Option<SourceAddresses>,
}

/// What the management plane declares, as of one quorum read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredVaults {
    /// Whether the kind `Vault` is established and is to stay: else the list says nothing.
    pub established: bool,
    /// UIDs of all `Vault` resources, by their names.
    pub vaults: HashMap<VaultId, Uid>,
    /// Names of the `DeletedVault`s whose purge somebody who may has ordered.
    pub purges: HashSet<String>,
    /// The API server's clock.
    pub now: UnixSeconds,
}

/// One of this many vaults may be deleted within [`HOUR`].
const ONE_IN: usize = 10;
/// The time that is looked back, in seconds.
const HOUR: i64 = 3600;

impl StoredVault {
    /// The vault as an operation names it.
    #[must_use]
    pub fn entry(&self) -> VaultEntry {
        VaultEntry {
            id: self.id.clone(),
            uid: self.resource_uid.clone(),
            namespace_uid: self.namespace_uid.clone(),
            settings: VaultSettings::default(),
        }
    }

    /// Name of the `DeletedVault` that stands for it: vault, namespace and the first twelve digits of its own identity.
    #[must_use]
    pub fn deleted_name(&self) -> String {
        let uuid = self.uuid.to_string();
        let digits = uuid.get(..12).unwrap_or(&uuid);
        format!("{}.{}.{digits}", self.id.name, self.id.namespace)
    }
}

/// How many more vaults may be deleted now: within an hour no more than a tenth of them, but `always` in any case. A mistake
/// that takes away all resources at once takes away so many vaults, and they come back with their resources.
#[must_use]
pub fn deletions_left(vaults: &[StoredVault], always: usize, now: UnixSeconds) -> usize {
    let lately = |vault: &&StoredVault| {
        vault
            .deletion
            .is_some_and(|deletion| deletion.at.plus(HOUR).0 > now.0)
    };
    let deleted = vaults.iter().filter(lately).count();
    let live = vaults.iter().filter(|vault| vault.deletion.is_none()).count();
    let most = (live.saturating_add(deleted) / ONE_IN).max(always);
    most.saturating_sub(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, VaultName};

    fn vault(number: u8, deleted: Option<i64>) -> StoredVault {
        StoredVault {
            uuid: VaultUuid([number; 16]),
            id: VaultId {
                namespace: Namespace::parse("shop").unwrap(),
                name: VaultName::parse("demo").unwrap(),
            },
            namespace_uid: Uid::new("n"),
            resource_uid: Uid::new("r"),
            rules: VaultRules::of(&VaultSettings::default()),
            secrets: 0,
            deletion: deleted.map(|at| Deletion {
                at: UnixSeconds(at),
                purge_due: UnixSeconds(at),
                purging: false,
            }),
        }
    }

    #[test]
    fn within_an_hour_a_tenth_of_the_vaults_may_be_deleted_and_a_few_in_any_case() {
        // Live ones, ones deleted lately, ones deleted long ago; how many more may be.
        for (live, lately, before, left) in [
            (0, 0, 0, 3),
            (5, 0, 0, 3),
            (3, 2, 0, 1),
            (2, 3, 0, 0),
            (0, 5, 0, 0),
            (39, 0, 0, 3),
            (40, 0, 0, 4),
            (36, 4, 0, 0),
            (36, 3, 50, 0),
            (37, 3, 50, 1),
            (2, 0, 500, 3),
        ] {
            let mut vaults = vec![vault(1, None); live];
            vaults.extend(vec![vault(2, Some(10_000)); lately]);
            vaults.extend(vec![vault(3, Some(10_000 - 3600)); before]);
            let found = deletions_left(&vaults, 3, UnixSeconds(10_000));
            assert_eq!(found, left, "{live} {lately} {before}");
        }
    }

    #[test]
    fn the_resource_of_a_deleted_vault_is_named_after_it() {
        assert_eq!(vault(0xab, None).deleted_name(), "demo.shop.abababababab");
    }
}
