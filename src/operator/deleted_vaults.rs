//! `DeletedVault`: what people see of a vault whose Vault is gone, for as long as it is kept.
//!
//! What is deleted and when it goes, `serve` alone decides; here it is shown. To delete such an object changes nothing: it is
//! made anew. The order to purge stands in its spec, from where the data plane reads it by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};

use super::conditions::{Reason, Standing, time};
use super::context::{Context, read, write};
use super::{Error, report};
use crate::crd::{ConditionType, DeletedVault, DeletedVaultSpec, DeletedVaultStatus};
use crate::model::{Kind, Lifecycle, StoredVault, UnixSeconds};

/// How often `serve` is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What was seen last.
#[derive(Debug, Default)]
struct Before {
    /// Objects that stood for nothing at the last look: gone at the next, unless a replica that lags has told that.
    surplus: BTreeSet<String>,
    /// Whether there may be objects.
    any: Option<bool>,
}

/// Shows what `serve` tells, again and again.
pub(super) async fn follow(context: &Context) {
    let mut before = Before::default();
    loop {
        match look(context, &mut before).await {
            Ok(()) => {}
            // A release that does not tell; nothing is known then.
            Err(Error::Ask { source }) if source.kind() == Kind::NotFound => {}
            Err(error) => tracing::info!(%error, "deleted vaults can't be shown; it is tried again"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(context: &Context, before: &mut Before) -> Result<(), Error> {
    let told = context.serve.lifecycle().await;
    let lifecycle = told.map_err(|source| Error::Ask { source })?;
    if context.concerns.told(&lifecycle) {
        context.triggers.vaults.those(&context.stores.vaults.state());
    }
    if lifecycle.deleted.is_empty() && before.any == Some(false) {
        return Ok(());
    }
    let api = Api::<DeletedVault>::all(context.cluster.clone());
    let found = read("the deleted vaults", api.list(&ListParams::default())).await?;
    let found = found.items.into_iter().map(|object| (object.name_any(), object));
    let plan = plan(
        &lifecycle,
        &found.collect(),
        &before.surplus,
        context.clock.now().wall,
    );
    before.any = Some(plan.any);
    before.surplus.clone_from(&plan.surplus);
    apply(context, &api, plan).await
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    /// To be made.
    make: Vec<(String, StoredVault)>,
    /// To be told otherwise.
    report: Vec<(DeletedVault, DeletedVaultStatus)>,
    remove: Vec<DeletedVault>,
    surplus: BTreeSet<String>,
    any: bool,
}

fn plan(
    lifecycle: &Lifecycle,
    found: &BTreeMap<String, DeletedVault>,
    surplus: &BTreeSet<String>,
    now: UnixSeconds,
) -> Plan {
    let mut plan = Plan {
        any: !found.is_empty() || !lifecycle.deleted.is_empty(),
        ..Plan::default()
    };
    let mut told = BTreeSet::new();
    for vault in &lifecycle.deleted {
        let name = vault.deleted_name();
        match found.get(&name) {
            None => plan.make.push((name.clone(), vault.clone())),
            Some(object) => {
                if let Some(status) = status(object, vault, now)
                    && object.status.as_ref() != Some(&status)
                {
                    plan.report.push((object.clone(), status));
                }
            }
        }
        told.insert(name);
    }
    for (name, object) in found.iter().filter(|(name, _)| !told.contains(*name)) {
        if surplus.contains(name) {
            plan.remove.push(object.clone());
        } else {
            plan.surplus.insert(name.clone());
        }
    }
    plan
}

fn status(object: &DeletedVault, vault: &StoredVault, now: UnixSeconds) -> Option<DeletedVaultStatus> {
    let deletion = vault.deletion?;
    let protected = vault.rules.purge_protection;
    let due = deletion.purge_due <= now;
    let mut standing = if deletion.purging {
        let message = "the vault and all that is in it is being removed for good".to_owned();
        Standing::waiting(Reason::Purging, message)
    } else {
        let message = format!(
            "apply the Vault {} in namespace {} again to have it back with all that is in it",
            vault.id.name, vault.id.namespace
        );
        Standing::ready(Reason::Recoverable, message)
    };
    if due && !deletion.purging {
        let message =
            "its date has come: it is purged within about an hour, unless its Vault is applied again";
        standing = standing.and(ConditionType::PurgeDue, Reason::PurgeDue, message.to_owned());
    }
    if object.spec.purge && protected && !due {
        let message =
            "spec.purge is true, and the vault is purge-protected: it is purged at its date and not before";
        standing = standing.and(
            ConditionType::PurgeRefused,
            Reason::PurgeProtected,
            message.to_owned(),
        );
    }
    let generation = object.metadata.generation;
    let known = object
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    Some(DeletedVaultStatus {
        observed_generation: generation,
        namespace: Some(vault.id.namespace.as_str().to_owned()),
        namespace_uid: Some(vault.namespace_uid.as_str().to_owned()),
        vault: Some(vault.id.name.as_str().to_owned()),
        secrets: Some(i64::try_from(vault.secrets).unwrap_or(i64::MAX)),
        deletion_date: Some(time(deletion.at)),
        scheduled_purge_date: Some(time(deletion.purge_due)),
        purge_protection: Some(protected),
        conditions: standing.conditions(known, generation, now),
    })
}

async fn apply(context: &Context, api: &Api<DeletedVault>, plan: Plan) -> Result<(), Error> {
    let mut report = plan.report;
    for (name, vault) in plan.make {
        let object = DeletedVault::new(&name, DeletedVaultSpec::default());
        let made = write("a deleted vault", api.create(&PostParams::default(), &object)).await?;
        let reference = made.object_ref(&());
        let message = format!(
            "the Vault {} of namespace {} is gone: the vault is kept until its purge date",
            vault.id.name, vault.id.namespace
        );
        report::event(context, &reference, EventType::Normal, "VaultDeleted", &message).await;
        if let Some(status) = status(&made, &vault, context.clock.now().wall) {
            report.push((made, status));
        }
    }
    for (object, status) in report {
        report::write_status(api, &object.name_any(), object.metadata.uid.as_deref(), &status).await?;
    }
    for object in plan.remove {
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: object.metadata.uid.clone(),
            resource_version: None,
        });
        match write("a deleted vault", api.delete(&object.name_any(), &parameters)).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deletion, Namespace, Uid, VaultId, VaultName, VaultRules, VaultSettings, VaultUuid};

    const NOW: UnixSeconds = UnixSeconds(10_000);

    fn vault(purge_due: i64, purging: bool, protected: bool) -> StoredVault {
        StoredVault {
            uuid: VaultUuid([1; 16]),
            id: VaultId {
                namespace: Namespace::parse("shop").unwrap(),
                name: VaultName::parse("demo").unwrap(),
            },
            namespace_uid: Uid::new("n"),
            resource_uid: Uid::new("r"),
            rules: VaultRules {
                purge_protection: protected,
                ..VaultRules::of(&VaultSettings::default())
            },
            secrets: 3,
            deletion: Some(Deletion {
                at: UnixSeconds(1),
                purge_due: UnixSeconds(purge_due),
                purging,
            }),
        }
    }

    fn object(purge: bool) -> DeletedVault {
        DeletedVault::new(&vault(0, false, false).deleted_name(), DeletedVaultSpec { purge })
    }

    fn said(object: &DeletedVault, vault: &StoredVault) -> Vec<String> {
        let conditions = status(object, vault, NOW).unwrap().conditions.into_iter();
        conditions
            .map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason))
            .collect()
    }

    #[test]
    fn it_says_whether_the_vault_can_be_recovered_and_when_it_goes() {
        let (ready, due) = ("Ready=True Recoverable", "PurgeDue=True PurgeDue");
        let refused = "PurgeRefused=True PurgeProtected";
        for (what, purge, vault, expected) in [
            ("deleted", false, vault(20_000, false, false), vec![ready]),
            ("due", false, vault(10_000, false, true), vec![ready, due]),
            ("ordered", true, vault(20_000, false, false), vec![ready]),
            (
                "ordered, protected",
                true,
                vault(20_000, false, true),
                vec![ready, refused],
            ),
            ("ordered, due", true, vault(10_000, false, true), vec![ready, due]),
            (
                "going",
                true,
                vault(10_000, true, false),
                vec!["Ready=False Purging"],
            ),
        ] {
            assert_eq!(said(&object(purge), &vault), expected, "{what}");
        }
    }

    #[test]
    fn it_is_made_once_told_when_it_changes_and_gone_at_the_second_look_that_does_not_tell_of_it() {
        let lifecycle = |deleted| Lifecycle {
            deleted,
            waiting: 0,
            source_addresses: None,
        };
        let one = vault(20_000, false, false);
        let name = one.deleted_name();
        let none = BTreeSet::new();
        let first = plan(&lifecycle(vec![one.clone()]), &BTreeMap::new(), &none, NOW);
        assert_eq!((first.make.len(), first.report.len()), (1, 0));
        let mut there = object(false);
        let found = BTreeMap::from([(name.clone(), there.clone())]);
        let second = plan(&lifecycle(vec![one.clone()]), &found, &none, NOW);
        assert_eq!((second.make.len(), second.report.len()), (0, 1));
        there.status = status(&there, &one, NOW);
        let found = BTreeMap::from([(name.clone(), there)]);
        let later = plan(&lifecycle(vec![one]), &found, &none, NOW.plus(60));
        assert_eq!(later.report.len(), 0, "nothing differs but the time");
        let gone = plan(&lifecycle(Vec::new()), &found, &none, NOW);
        assert_eq!((gone.remove.len(), gone.surplus.len()), (0, 1));
        let gone = plan(&lifecycle(Vec::new()), &found, &gone.surplus, NOW);
        assert_eq!((gone.remove.len(), gone.any), (1, true));
        let nothing = plan(&lifecycle(Vec::new()), &BTreeMap::new(), &none, NOW);
        assert!(
            !nothing.any,
            "there is nothing to look for until something is told"
        );
    }
}
