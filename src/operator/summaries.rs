//! What `serve` tells about its vaults, and who is to be looked at again because of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use crate::client::ClientError;
use crate::model::{
    Nearest, OwnedSecret, Owner, RootKeyCare, UnixSeconds, VaultId, VaultRules, VaultSummary,
};
use crate::wire::SummaryFrame;

/// The newest summary of every vault.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    vaults: HashMap<VaultId, Known>,
    /// Vaults that the present stream has told, until it has told all.
    starting: Option<HashSet<VaultId>>,
    /// Whether any stream has told all.
    complete: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    counts: Counts,
    /// None where a resource has several objects: it was made anew under its name for another one.
    owned: HashMap<Owner, Option<OwnedSecret>>,
}

/// What a vault's status says of its content, and what holds in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// What holds in it, where that is told.
    pub(super) rules: Option<VaultRules>,
    /// Live secrets.
    pub(super) secrets: u64,
    /// Deleted, recoverable secrets.
    pub(super) deleted_secrets: u64,
    /// When the next one expires.
    pub(super) next_expiry: Option<UnixSeconds>,
    /// Stored records that are refused.
    pub(super) damaged: u64,
    /// The vault's own record is one of them.
    pub(super) refused: bool,
    /// How the key that opens it is cared for, where that is known.
    pub(super) root_key: Option<RootKeyCare>,
    /// The quota that it is nearest to, once that is near.
    pub(super) nearest_quota: Option<Nearest>,
}

/// What is to be looked at again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    vault: Option<VaultId>,
    secrets: Vec<Owner>,
    everything: bool,
}

impl Summaries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a vault that was not told is not there.
    pub(super) fn complete(&self) -> bool {
        self.state().complete
    }

    /// What `serve` told last of this vault.
    pub(super) fn vault(&self, vault: &VaultId) -> Option<Counts> {
        self.state().vaults.get(vault).map(|known| known.counts)
    }

    /// What `serve` says of the object that a resource made; none where it says nothing or more than one thing.
    pub(super) fn owned(&self, vault: &VaultId, owner: &Owner) -> Option<OwnedSecret> {
        self.state().vaults.get(vault)?.owned.get(owner)?.clone()
    }

    fn begin(&self) {
        self.state().starting = Some(HashSet::new());
    }

    /// Takes a frame in.
    fn take(&self, frame: SummaryFrame) -> Changed {
        let mut state = self.state();
        match frame {
            SummaryFrame::Vault(summary) => {
                let vault = summary.vault.clone();
                if let Some(told) = &mut state.starting {
                    told.insert(vault.clone());
                }
                let now = Known::of(summary);
                let before = state.vaults.remove(&vault);
                let changed = match &before {
                    Some(before) if *before == now => Changed::default(),
                    _ => Changed {
                        secrets: now.differing(before.as_ref()),
                        vault: Some(vault.clone()),
                        everything: false,
                    },
                };
                state.vaults.insert(vault, now);
                changed
            }
            SummaryFrame::Complete => {
                state.complete = true;
                if let Some(told) = state.starting.take() {
                    state.vaults.retain(|vault, _| told.contains(vault));
                }
                Changed {
                    everything: true,
                    ..Changed::default()
                }
            }
            SummaryFrame::Ping => Changed::default(),
        }
    }
}

impl Known {
    fn of(summary: VaultSummary) -> Self {
        let counts = Counts {
            rules: summary.rules,
            secrets: summary.secrets,
            deleted_secrets: summary.deleted_secrets,
            next_expiry: summary.next_expiry,
            damaged: summary.damaged,
            refused: summary.refused,
            root_key: summary.root_key,
            nearest_quota: summary.nearest_quota,
        };
        let mut owned = HashMap::with_capacity(summary.owned.len());
        for (owner, object) in summary.owned {
            owned
                .entry(owner)
                .and_modify(|known| *known = None)
                .or_insert(Some(object));
        }
        Self { counts, owned }
    }

    fn differing(&self, before: Option<&Self>) -> Vec<Owner> {
        self.owned
            .iter()
            .filter(|(owner, object)| before.and_then(|before| before.owned.get(*owner)) != Some(*object))
            .map(|(owner, _)| owner.clone())
            .collect()
    }
}

fn tell(context: &Context, changed: Changed) {
    if let Some(vault) = changed.vault {
        context
            .triggers
            .vaults
            .one(ObjectRef::new(vault.name.as_str()).within(vault.namespace.as_str()));
    }
    for owner in changed.secrets {
        context
            .triggers
            .secrets
            .one(ObjectRef::new(&owner.resource).within(owner.namespace.as_str()));
    }
    if changed.everything {
        context.triggers.vaults.those(&context.stores.vaults.state());
        context.triggers.secrets.those(&context.stores.secrets.state());
    }
}

/// Follows the stream for ever. When it begins anew, `serve` is back: everything that failed is tried again at once.
pub(super) async fn follow(context: &Context) {
    loop {
        match stream(context).await {
            Ok(()) => tracing::debug!("the stream of summaries ended; it is opened again"),
            Err(error) => tracing::info!(%error, "no summaries from the data plane"),
        }
        // The client itself waits longer with each connection that fails.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn stream(context: &Context) -> Result<(), ClientError> {
    let mut stream = context.serve.summaries().await?;
    context.summaries.begin();
    while let Some(frame) = stream.next().await? {
        tell(context, context.summaries.take(frame));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, Uid, VaultName, VaultSettings, Version};

    fn vault(name: &str) -> VaultId {
        VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse(name).unwrap(),
        }
    }

    fn owner(resource: &str) -> Owner {
        Owner {
            namespace: Namespace::parse("shop").unwrap(),
            namespace_uid: Uid::new("n1"),
            resource: resource.to_owned(),
        }
    }

    fn summary(name: &str, secrets: u64, owned: &[(&str, OwnedSecret)]) -> SummaryFrame {
        SummaryFrame::Vault(VaultSummary {
            vault: vault(name),
            rules: Some(VaultRules::of(&VaultSettings::default())),
            secrets,
            deleted_secrets: 0,
            next_expiry: None,
            nearest_quota: None,
            owned: owned
                .iter()
                .map(|(resource, object)| (owner(resource), object.clone()))
                .collect(),
            damaged: 0,
            refused: false,
            root_key: None,
        })
    }

    const LIVE: OwnedSecret = OwnedSecret::Live {
        version: Version([1; 16]),
    };

    #[test]
    fn only_what_changed_is_looked_at_again() {
        let summaries = Summaries::default();
        let first = summaries.take(summary("demo", 1, &[("a", LIVE), ("b", LIVE)]));
        assert_eq!(first.secrets.len(), 2);
        assert_eq!(
            summaries.take(summary("demo", 1, &[("a", LIVE), ("b", LIVE)])),
            Changed::default()
        );
        let deleted = summaries.take(summary("demo", 1, &[("a", LIVE), ("b", OwnedSecret::Deleted)]));
        assert_eq!(deleted.secrets, [owner("b")]);
        assert_eq!(deleted.vault, Some(vault("demo")));
        assert_eq!(
            summaries.owned(&vault("demo"), &owner("b")),
            Some(OwnedSecret::Deleted)
        );
        assert_eq!(summaries.owned(&vault("demo"), &owner("c")), None);
        assert_eq!(summaries.owned(&vault("other"), &owner("a")), None);
    }

    #[test]
    fn of_a_resource_with_two_objects_nothing_is_said() {
        let summaries = Summaries::default();
        summaries.take(summary("demo", 2, &[("a", LIVE), ("a", OwnedSecret::Deleted)]));
        assert_eq!(summaries.owned(&vault("demo"), &owner("a")), None);
    }

    #[test]
    fn a_vault_that_a_new_stream_does_not_tell_is_forgotten_once_it_has_told_all() {
        let summaries = Summaries::default();
        summaries.begin();
        summaries.take(summary("one", 1, &[]));
        summaries.take(summary("two", 1, &[]));
        assert!(summaries.take(SummaryFrame::Complete).everything);
        summaries.begin();
        summaries.take(summary("two", 1, &[]));
        assert!(
            summaries.vault(&vault("one")).is_some(),
            "not before the new stream is complete"
        );
        summaries.take(SummaryFrame::Complete);
        assert_eq!(
            (
                summaries.vault(&vault("one")),
                summaries.vault(&vault("two")).is_some()
            ),
            (None, true)
        );
    }
}
