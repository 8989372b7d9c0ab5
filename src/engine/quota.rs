//! How much of the store a vault, a namespace and the whole installation may take: our writes share the cluster's etcd, and
//! one tenant is not to fill it for all.

use super::heads::Sizes;
use super::index::Snapshot;
use super::{Engine, Error};
use crate::model::{Nearest, QuotaOf, QuotaScope, Uid, VaultUuid};

/// Bytes of sealed records, and how many of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// What an installation may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Versions of one object.
    pub versions: usize,
    /// Bytes of heads, values and pages.
    pub sizes: Sizes,
    /// Of all vaults together.
    pub installation: Usage,
    /// Of all vaults of one namespace.
    pub namespace: Usage,
    /// Of one vault.
    pub vault: Usage,
}

impl Default for Quotas {
    fn default() -> Self {
        let usage = |mebibytes: u64, records| Usage {
            bytes: mebibytes * 1024 * 1024,
            records,
        };
        Self {
            versions: 10_000,
            sizes: Sizes::default(),
            installation: usage(512, 200_000),
            namespace: usage(256, 100_000),
            vault: usage(128, 50_000),
        }
    }
}

/// From which part of a quota on people are told, in percent.
const TOLD_FROM: u64 = 80;

impl Usage {
    /// One record of this size.
    pub(super) const fn one(bytes: u64) -> Self {
        Self { bytes, records: 1 }
    }

    /// Both together.
    #[must_use]
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            records: self.records.saturating_add(other.records),
        }
    }

    /// The same without that.
    #[must_use]
    pub(super) const fn less(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            records: self.records.saturating_sub(other.records),
        }
    }

    pub(super) const fn is_nothing(self) -> bool {
        self.bytes == 0 && self.records == 0
    }

    /// Which of the two is the fuller, against a quota, and how full it is in percent.
    fn fullest(self, quota: Self) -> (QuotaOf, u64) {
        let percent = |used: u64, limit: u64| used.saturating_mul(100).checked_div(limit).unwrap_or(100);
        let bytes = percent(self.bytes, quota.bytes);
        let records = percent(self.records, quota.records);
        if records > bytes {
            (QuotaOf::Records, records)
        } else {
            (QuotaOf::Bytes, bytes)
        }
    }
}

impl Quotas {
    /// What is used, and what may be, in each scope that a vault is in, the smallest first.
    fn scopes(
        &self,
        snapshot: &Snapshot,
        namespace: &Uid,
        vault: Option<VaultUuid>,
    ) -> [(QuotaScope, Usage, Usage); 3] {
        let of_vault = vault
            .map(|vault| snapshot.usage_of_vault(vault))
            .unwrap_or_default();
        let of_namespace = snapshot.usage_of_namespace(namespace);
        [
            (QuotaScope::Vault, of_vault, self.vault),
            (QuotaScope::Namespace, of_namespace, self.namespace),
            (QuotaScope::Installation, snapshot.usage(), self.installation),
        ]
    }

    /// Whether these records may take the place of those. What does not grow always may.
    pub(super) fn check(
        &self,
        snapshot: &Snapshot,
        (namespace, vault): (&Uid, Option<VaultUuid>),
        before: Usage,
        after: Usage,
    ) -> Result<(), Error> {
        for (scope, used, limit) in self.scopes(snapshot, namespace, vault) {
            let then = used.less(before).and(after);
            let exceeded = if then.bytes > limit.bytes && then.bytes > used.bytes {
                Some((QuotaOf::Bytes, used.bytes, limit.bytes))
            } else if then.records > limit.records && then.records > used.records {
                Some((QuotaOf::Records, used.records, limit.records))
            } else {
                None
            };
            if let Some((of, used, limit)) = exceeded {
                return Err(Error::QuotaExceeded {
                    scope,
                    of,
                    used,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// The quota that the vault is nearest to, once that is near.
    pub(super) fn nearest(&self, snapshot: &Snapshot, namespace: &Uid, vault: VaultUuid) -> Option<Nearest> {
        self.scopes(snapshot, namespace, Some(vault))
            .into_iter()
            .map(|(scope, used, limit)| (scope, used.fullest(limit)))
            .max_by_key(|(_, (_, percent))| *percent)
            .filter(|(_, (_, percent))| *percent >= TOLD_FROM)
            .map(|(scope, (of, percent))| Nearest {
                scope,
                of,
                percent: u8::try_from(percent).unwrap_or(u8::MAX),
            })
    }
}

/// How full everything is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// All records.
    pub installation: Usage,
    /// The greatest part of its quota that any vault uses, from 0.
    pub fullest_vault: f64,
    /// The same of namespaces.
    pub fullest_namespace: f64,
    /// The part of its quota that the installation uses.
    pub installation_part: f64,
}

impl Engine {
    /// How full everything is.
    pub fn fill(&self) -> Fill {
        let snapshot = self.index.load();
        let part = |used: Usage, limit: Usage| {
            let part = |used: u64, limit: u64| used as f64 / limit.max(1) as f64;
            part(used.bytes, limit.bytes).max(part(used.records, limit.records))
        };
        let fullest = |usages: &mut dyn Iterator<Item = Usage>, limit| {
            usages.map(|used| part(used, limit)).fold(0.0, f64::max)
        };
        Fill {
            installation: snapshot.usage(),
            fullest_vault: fullest(&mut snapshot.usages_of_vaults(), self.quotas.vault),
            fullest_namespace: fullest(&mut snapshot.usages_of_namespaces(), self.quotas.namespace),
            installation_part: part(snapshot.usage(), self.quotas.installation),
        }
    }
}
