//! What `operate` is told of each vault.

use std::collections::HashMap;

use super::decide::owned_state;
use super::index::{Snapshot, Vault};
use super::quota::Quotas;
use crate::model::{UnixSeconds, VaultSummary, VaultUuid};

/// One summary per vault, in the order of their addresses. Of one that is refused its last good state is told.
pub(super) fn summaries(snapshot: &Snapshot, quotas: &Quotas, now: UnixSeconds) -> Vec<VaultSummary> {
    let mut unreadable = HashMap::<VaultUuid, u64>::new();
    for vault in snapshot.unreadable().flatten() {
        *unreadable.entry(vault).or_default() += 1;
    }
    let mut summaries: Vec<_> = snapshot
        .vaults()
        .filter(|vault| vault.head.is_live())
        .map(|vault| {
            let mut summary = summary(vault, now);
            summary.damaged += unreadable.get(&vault.head.uuid).copied().unwrap_or_default();
            summary.nearest_quota = quotas.nearest(snapshot, &vault.head.namespace_uid, vault.head.uuid);
            summary
        })
        .collect();
    summaries.sort_by(|a, b| a.vault.cmp(&b.vault));
    summaries
}

fn summary(vault: &Vault, now: UnixSeconds) -> VaultSummary {
    let mut summary = VaultSummary {
        vault: vault.head.id.clone(),
        rules: Some(vault.head.rules),
        secrets: 0,
        deleted_secrets: 0,
        next_expiry: None,
        nearest_quota: None,
        owned: Vec::new(),
        damaged: vault.damaged() as u64,
        refused: vault.damage.is_some(),
        root_key: None,
    };
    for object in vault.objects.values().filter(|object| object.damage.is_none()) {
        let Some(secret) = &object.head.secret else {
            continue;
        };
        if object.head.deleted_secret().is_some() {
            summary.deleted_secrets += 1;
        } else if object.head.live_secret().is_some() {
            summary.secrets += 1;
            let expires = secret.versions.newest().expires.filter(|expires| *expires > now);
            summary.next_expiry = summary.next_expiry.into_iter().chain(expires).min();
        }
        if let Some(maker) = &secret.maker {
            summary
                .owned
                .push((maker.clone(), owned_state(Some(&object.head), maker)));
        }
    }
    summary
}
