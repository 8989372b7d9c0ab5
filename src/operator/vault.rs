//! `Vault`: a Service of its name, a head in the store, and what `serve` tells about it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Service};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource};
use serde_json::json;

use super::concerns::said;
use super::conditions::{Reason, Standing, has_head, time};
use super::context::{Context, Guarded, Installation, observed, read, write};
use super::owned::{self, Found, WantedService};
use super::report::{self, HasConditions};
use super::summaries::Counts;
use super::{Error, FIELD_MANAGER};
use crate::compile::{self, Unusable};
use crate::crd::{self, Condition, ConditionType, VaultStatus, labels};
use crate::model::{Kind, Nearest, QuotaScope, Uid, VaultEntry, VaultRules, VaultSettings};
use crate::telemetry::metrics::Reconciled;
use crate::wire::{Action as Ask, ActionReply, EnsureVaultAction};

/// How often a name that somebody else has is looked at again: we watch our own objects alone.
const CONFLICT_PERIOD: Duration = Duration::from_secs(60);
/// After how long it is looked again whether the vault has become what its spec says now.
const SETTLING: Duration = Duration::from_secs(5);
/// How long, and how often within it, `serve` is asked for a vault that its own watch may not show it yet.
const GRACE: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Makes one vault true.
pub(super) async fn reconcile(
    object: Arc<Guarded<crd::Vault>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    observed(Reconciled::Vault, object.meta(), &context, async {
        let Some(seen) = gather(&object, &context).await? else {
            return Ok(Action::await_change());
        };
        let plan = plan(&seen, &context.installation);
        let done = apply(&context, &seen, &plan).await;
        report(&context, &object, &seen, &plan, &done).await?;
        done.map(|()| plan.next)
    })
    .await
}

/// What there is.
#[derive(Debug)]
struct Seen {
    entry: Result<VaultEntry, Unusable>,
    before: Option<VaultStatus>,
    generation: Option<i64>,
    service: Found,
    foreign_bundle: bool,
    counts: Option<Counts>,
    /// Whether `serve` has told of all its vaults.
    told_all: bool,
}

/// What is to be done, and how the vault stands once it is.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    standing: Standing,
    next: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make or mend the Service; of one that is there, this revision.
    ApplyService { revision: Option<String> },
    /// Ask `serve` to make the vault's head.
    EnsureVault { uid: Uid },
}

async fn gather(object: &Guarded<crd::Vault>, context: &Context) -> Result<Option<Seen>, Error> {
    let metadata = object.meta();
    let (Some(namespace), Some(name)) = (metadata.namespace.as_deref(), metadata.name.as_deref()) else {
        return Ok(None);
    };
    let Some(home) = context.home(namespace).await? else {
        return Ok(None);
    };
    // What is going, or goes with its namespace, is left alone: nothing can be made there, and nobody reads its status.
    if metadata.deletion_timestamp.is_some() || home.terminating {
        return Ok(None);
    }
    let (entry, before) = match &object.0 {
        Ok(vault) => (compile::vault(vault, &home.uid), vault.status.clone()),
        Err(_) => (
            Err(Unusable::Value {
                field: "spec",
                allowed: "what its schema says",
            }),
            None,
        ),
    };
    let services = Api::<Service>::namespaced(context.cluster.clone(), namespace);
    let service = read("the vault's Service", services.get_opt(name)).await?;
    let bundles = Api::<ConfigMap>::namespaced(context.cluster.clone(), namespace);
    let bundle = read("the trust bundle", bundles.get_metadata_opt(crd::TRUST_BUNDLE)).await?;
    let wanted = WantedService {
        vault: name,
        owner: metadata.uid.as_deref().unwrap_or(""),
        target: &context.installation.target,
    };
    Ok(Some(Seen {
        counts: entry
            .as_ref()
            .ok()
            .and_then(|entry| context.summaries.vault(&entry.id)),
        told_all: context.summaries.complete(),
        entry,
        before,
        generation: metadata.generation,
        service: owned::service(service.as_ref(), wanted),
        foreign_bundle: namespace != context.installation.namespace
            && bundle.is_some_and(|bundle| !owned::is_our_bundle(&bundle.metadata)),
    }))
}

fn plan(seen: &Seen, installation: &Installation) -> Plan {
    let idle = |standing| Plan {
        steps: Vec::new(),
        standing,
        next: Action::await_change(),
    };
    let entry = match &seen.entry {
        Ok(entry) => entry,
        Err(why) => return idle(Standing::stalled(Reason::Invalid, why.to_string())),
    };
    let mut steps = Vec::new();
    match &seen.service {
        Found::Absent => steps.push(Step::ApplyService { revision: None }),
        Found::Outdated { revision } => steps.push(Step::ApplyService {
            revision: Some(revision.clone()),
        }),
        Found::Current | Found::Foreign => {}
    }
    let before = seen.before.as_ref().map_or(&[][..], |status| &status.conditions);
    // Of one that is refused, `serve` says why when it is asked for.
    let told = seen.counts.map_or(!seen.told_all, |counts| !counts.refused);
    let rules = seen.counts.and_then(|counts| counts.rules);
    let outdated = rules.is_some_and(|rules| rules.following(&entry.settings) != rules);
    if !(has_head(before) && told) || outdated {
        steps.push(Step::EnsureVault {
            uid: entry.uid.clone(),
        });
    }
    if seen.service == Found::Foreign {
        let message = format!(
            "the Service '{}' of this namespace is not Strongroom's, so the vault has no address: delete or rename that \
             Service, or give the vault another name",
            entry.id.name
        );
        let standing = Standing::stalled(Reason::ServiceConflict, message).and_so(ConditionType::Conflict);
        return Plan {
            steps,
            standing,
            next: Action::requeue(CONFLICT_PERIOD),
        };
    }
    let mut standing = Standing::ready(Reason::Available, format!("the vault answers at {}", uri(entry)));
    if let Some(message) = rules.and_then(|rules| kept(rules, &entry.settings)) {
        standing = standing.and(ConditionType::SettingKept, Reason::SettingKept, message);
    }
    if let Some(nearest) = seen.counts.and_then(|counts| counts.nearest_quota) {
        standing = standing.and(
            ConditionType::NearlyFull,
            Reason::QuotaNearlyUsed,
            nearly_full(&nearest),
        );
    }
    if seen.foreign_bundle {
        let message = format!(
            "the ConfigMap '{bundle}' of this namespace is not Strongroom's, so pods here can't take the vault's \
             certificates on trust from it; delete or rename it, or hand them the one of namespace {}",
            installation.namespace,
            bundle = crd::TRUST_BUNDLE,
        );
        let standing = standing.and(ConditionType::Conflict, Reason::TrustBundleConflict, message);
        return Plan {
            steps,
            standing,
            next: Action::requeue(CONFLICT_PERIOD),
        };
    }
    Plan {
        steps,
        standing,
        next: if outdated {
            Action::requeue(SETTLING)
        } else {
            Action::await_change()
        },
    }
}

fn nearly_full(nearest: &Nearest) -> String {
    let whose = match nearest.scope {
        QuotaScope::Vault => "this vault",
        QuotaScope::Namespace => "all vaults of this namespace",
        QuotaScope::Installation => "all vaults of this installation",
    };
    format!(
        "{} % of the {} that {whose} may hold are used; beyond that nothing more can be stored: purge deleted secrets that \
         nobody needs, or have quotas.{} of the chart raised",
        nearest.percent,
        nearest.of,
        nearest.scope.as_str()
    )
}

/// What the spec says that does not hold in the vault and never will.
fn kept(rules: VaultRules, settings: &VaultSettings) -> Option<String> {
    let days = settings
        .retention_days
        .filter(|days| *days != rules.retention_days)
        .map(|days| {
            format!(
                "spec.softDelete.retentionDays is {days}, and the vault goes on with the {} that it was made with",
                rules.retention_days
            )
        });
    let unprotected = settings.purge_protection == Some(false) && rules.purge_protection;
    let protection = unprotected.then(|| {
        "spec.purgeProtection is false, and the vault's purge protection is on: it can't be switched off"
            .to_owned()
    });
    let said: Vec<_> = days.into_iter().chain(protection).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

async fn apply(context: &Context, seen: &Seen, plan: &Plan) -> Result<(), Error> {
    let Ok(entry) = &seen.entry else { return Ok(()) };
    for step in &plan.steps {
        match step {
            Step::ApplyService { revision } => apply_service(context, entry, revision.as_deref()).await?,
            Step::EnsureVault { uid } => ensure_vault(context, entry, uid).await?,
        }
    }
    Ok(())
}

async fn apply_service(context: &Context, entry: &VaultEntry, revision: Option<&str>) -> Result<(), Error> {
    let (namespace, name) = (entry.id.namespace.as_str(), entry.id.name.as_str());
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "resourceVersion": revision,
            "labels": { labels::MANAGED_BY: labels::STRONGROOM, labels::VAULT: name },
            "ownerReferences": [{
                "apiVersion": format!("{}/{}", crd::GROUP, crd::VERSION),
                "kind": "Vault",
                "name": name,
                "uid": entry.uid.as_str(),
                "controller": true,
                "blockOwnerDeletion": false,
            }],
        },
        "spec": { "type": "ExternalName", "externalName": context.installation.target },
    });
    // What is ours is forced, in the revision that was judged to be. What was absent is not: if somebody else made one
    // in the meantime, their fields conflict and nothing is written.
    let parameters = PatchParams::apply(FIELD_MANAGER);
    let parameters = if revision.is_some() {
        parameters.force()
    } else {
        parameters
    };
    let api = Api::<Service>::namespaced(context.cluster.clone(), namespace);
    write(
        "the vault's Service",
        api.patch(name, &parameters, &Patch::Apply(&service)),
    )
    .await?;
    Ok(())
}

async fn ensure_vault(context: &Context, entry: &VaultEntry, uid: &Uid) -> Result<(), Error> {
    let ask = Ask::EnsureVault(EnsureVaultAction {
        vault: entry.id.clone(),
        resource_uid: uid.clone(),
    });
    let mut waits = GRACE.iter();
    loop {
        match context.serve.act(&ask).await {
            Ok(ActionReply::VaultReady) => return Ok(()),
            Ok(ActionReply::Owned(_)) => return Err(Error::Answer),
            // `serve` obeys only once its own watch shows this resource, and ours may be ahead of it.
            Err(source) if matches!(source.kind(), Kind::NotFound | Kind::Denied) => match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(Error::Ask { source }),
            },
            Err(source) => return Err(Error::Ask { source }),
        }
    }
}

async fn report(
    context: &Context,
    object: &Guarded<crd::Vault>,
    seen: &Seen,
    plan: &Plan,
    done: &Result<(), Error>,
) -> Result<(), Error> {
    let standing = match done {
        Ok(()) => plan.standing.clone(),
        Err(error) => Standing::waiting(Reason::Failed(error.kind()), error.to_string()),
    };
    let before = seen.before.as_ref();
    let known = before.map_or(&[][..], |status| &status.conditions);
    let standing = context.concerns.on(standing, seen.counts, known);
    let mut after = VaultStatus {
        observed_generation: seen.generation,
        uri: seen.entry.as_ref().ok().map(uri),
        // What was told last stays until something else is told.
        secrets: before.and_then(|before| before.secrets),
        deleted_secrets: before.and_then(|before| before.deleted_secrets),
        next_expiry: before.and_then(|before| before.next_expiry.clone()),
        network: before.and_then(|before| before.network.clone()),
        conditions: standing.conditions(known, seen.generation, context.clock.now().wall),
    };
    if let Some(counts) = seen.counts {
        after.secrets = Some(i64::try_from(counts.secrets).unwrap_or(i64::MAX));
        after.deleted_secrets = Some(i64::try_from(counts.deleted_secrets).unwrap_or(i64::MAX));
        after.next_expiry = counts.next_expiry.map(time);
        after.network = counts.rules.map(|rules| crd::NetworkStatus {
            default_action: rules.network.default_action.as_str().to_owned(),
            bypass: rules.network.bypass.as_str().to_owned(),
        });
    }
    let reference: ObjectReference = object.object_ref(&());
    report::status::<crd::Vault, _>(context, &reference, &standing, before, &after).await?;
    let damaged = |conditions: &[Condition]| said(conditions, ConditionType::RecordsDamaged);
    match (damaged(known), damaged(&after.conditions)) {
        (before, Some(now)) if before.as_ref() != Some(&now) => {
            let reason = Reason::RecordsDamaged.as_str();
            report::event(context, &reference, EventType::Warning, reason, &now).await;
        }
        _ => {}
    }
    Ok(())
}

impl HasConditions for VaultStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

fn uri(entry: &VaultEntry) -> String {
    format!("https://{}.{}.svc", entry.id.name, entry.id.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Bypass, DefaultAction, Namespace, NetworkAcls, NetworkSettings, OutsideValidity, UnixSeconds,
        VaultId, VaultName,
    };

    const RULES: VaultRules = VaultRules {
        retention_days: 90,
        purge_protection: false,
        outside_validity: OutsideValidity::Deny,
        network: NetworkAcls {
            default_action: DefaultAction::Allow,
            bypass: Bypass::None,
        },
    };

    fn installation() -> Installation {
        Installation {
            namespace: "strongroom-system".to_owned(),
            target: "strongroom.strongroom-system.svc.cluster.local".to_owned(),
        }
    }

    /// A vault that was just applied.
    fn fresh() -> Seen {
        Seen {
            entry: Ok(VaultEntry {
                id: VaultId {
                    namespace: Namespace::parse("shop").unwrap(),
                    name: VaultName::parse("demo").unwrap(),
                },
                uid: Uid::new("u1"),
                namespace_uid: Uid::new("n1"),
                settings: VaultSettings::default(),
            }),
            before: None,
            generation: Some(1),
            service: Found::Absent,
            foreign_bundle: false,
            counts: None,
            told_all: true,
        }
    }

    /// One that was found ready before, of which `serve` has told.
    fn settled() -> Seen {
        let conditions =
            Standing::ready(Reason::Available, String::new()).conditions(&[], Some(1), UnixSeconds(0));
        Seen {
            before: Some(VaultStatus {
                conditions,
                ..VaultStatus::default()
            }),
            service: Found::Current,
            counts: Some(Counts {
                rules: Some(RULES),
                secrets: 1,
                deleted_secrets: 0,
                next_expiry: None,
                damaged: 0,
                refused: false,
                root_key: None,
                nearest_quota: None,
            }),
            ..fresh()
        }
    }

    fn ensure() -> Step {
        Step::EnsureVault { uid: Uid::new("u1") }
    }

    fn planned(seen: &Seen) -> (Vec<Step>, bool, Reason, Action) {
        let plan = plan(seen, &installation());
        (plan.steps, plan.standing.ready, plan.standing.reason, plan.next)
    }

    #[test]
    fn a_vault_gets_an_address_and_a_head_and_is_then_left_alone() {
        let still = Action::await_change;
        let service = |revision: Option<&str>| Step::ApplyService {
            revision: revision.map(str::to_owned),
        };
        let outdated = Found::Outdated {
            revision: "7".to_owned(),
        };
        for (seen, expected) in [
            (
                fresh(),
                (vec![service(None), ensure()], true, Reason::Available, still()),
            ),
            (settled(), (vec![], true, Reason::Available, still())),
            (
                Seen {
                    service: Found::Absent,
                    ..settled()
                },
                (vec![service(None)], true, Reason::Available, still()),
            ),
            (
                Seen {
                    service: outdated,
                    ..settled()
                },
                (vec![service(Some("7"))], true, Reason::Available, still()),
            ),
            // The stream of summaries tells others but not it, so perhaps the head is not there.
            (
                Seen {
                    counts: None,
                    ..settled()
                },
                (vec![ensure()], true, Reason::Available, still()),
            ),
            // Its record is refused: that is said by whoever refuses it.
            (
                Seen {
                    counts: settled().counts.map(|counts| Counts {
                        refused: true,
                        ..counts
                    }),
                    ..settled()
                },
                (vec![ensure()], true, Reason::Available, still()),
            ),
            // The operator has just started.
            (
                Seen {
                    counts: None,
                    told_all: false,
                    ..settled()
                },
                (vec![], true, Reason::Available, still()),
            ),
            // What its spec says now is nothing to a head that is there.
            (
                Seen {
                    generation: Some(2),
                    ..settled()
                },
                (vec![], true, Reason::Available, still()),
            ),
        ] {
            assert_eq!(planned(&seen), expected);
        }
    }

    #[test]
    fn a_service_that_is_not_ours_is_told_and_never_touched() {
        let seen = Seen {
            service: Found::Foreign,
            ..fresh()
        };
        let plan = plan(&seen, &installation());
        assert_eq!(plan.steps, [ensure()]);
        assert_eq!((plan.standing.ready, plan.standing.stalled), (false, true));
        assert!(
            plan.standing
                .message
                .contains("the Service 'demo' of this namespace is not Strongroom's")
        );
        assert_eq!(plan.standing.also[0].0, ConditionType::Conflict);
        assert_eq!(plan.next, Action::requeue(CONFLICT_PERIOD));
    }

    #[test]
    fn a_trust_bundle_that_is_not_ours_is_told_while_the_vault_serves() {
        let plan = plan(
            &Seen {
                foreign_bundle: true,
                ..settled()
            },
            &installation(),
        );
        assert_eq!((plan.steps.len(), plan.standing.ready), (0, true));
        assert_eq!(plan.standing.also[0].1, Reason::TrustBundleConflict);
    }

    /// One that was settled under these rules, and whose spec says this now.
    fn settled_under(rules: VaultRules, settings: VaultSettings) -> Seen {
        let settled = settled();
        Seen {
            entry: settled.entry.map(|entry| VaultEntry { settings, ..entry }),
            counts: settled.counts.map(|counts| Counts {
                rules: Some(rules),
                ..counts
            }),
            ..settled
        }
    }

    #[test]
    fn the_vault_is_asked_to_become_what_its_spec_says_now() {
        let protect = VaultSettings {
            purge_protection: Some(true),
            ..VaultSettings::default()
        };
        let allow = VaultSettings {
            outside_validity: Some(OutsideValidity::Allow),
            ..VaultSettings::default()
        };
        let close = VaultSettings {
            network: NetworkSettings {
                default_action: Some(DefaultAction::Deny),
                bypass: None,
            },
            ..VaultSettings::default()
        };
        let bypass = VaultSettings {
            network: NetworkSettings {
                default_action: None,
                bypass: Some(Bypass::Volumes),
            },
            ..VaultSettings::default()
        };
        let all = [protect, allow, close, bypass];
        for settings in &all {
            let (steps, ready, reason, next) = planned(&settled_under(RULES, settings.clone()));
            assert_eq!((steps, ready, reason), (vec![ensure()], true, Reason::Available));
            assert_eq!(next, Action::requeue(SETTLING));
        }
        let become_so = all.iter().fold(RULES, VaultRules::following);
        let open = VaultSettings {
            network: NetworkSettings {
                default_action: Some(DefaultAction::Allow),
                bypass: None,
            },
            ..VaultSettings::default()
        };
        assert_eq!(planned(&settled_under(become_so, open)).0, [ensure()]);
        for settings in all.into_iter().chain([VaultSettings::default()]) {
            let (steps, ready, _, next) = planned(&settled_under(become_so, settings));
            assert_eq!((steps, ready, next), (vec![], true, Action::await_change()));
        }
    }

    #[test]
    fn what_cannot_be_changed_is_told_while_the_vault_serves() {
        let rules = VaultRules {
            retention_days: 30,
            purge_protection: true,
            ..RULES
        };
        let said = |retention_days, purge_protection| {
            let settings = VaultSettings {
                retention_days,
                purge_protection,
                outside_validity: None,
                network: NetworkSettings::default(),
            };
            let plan = plan(&settled_under(rules, settings), &installation());
            assert_eq!((plan.steps.len(), plan.standing.ready), (0, true));
            plan.standing.also
        };
        assert_eq!(said(None, None), []);
        assert_eq!(said(Some(30), Some(true)), []);
        for (days, protection, part) in [
            (
                Some(7),
                None,
                "retentionDays is 7, and the vault goes on with the 30",
            ),
            (None, Some(false), "purgeProtection is false"),
        ] {
            let also = said(days, protection);
            assert_eq!(
                (also[0].0, also[0].1),
                (ConditionType::SettingKept, Reason::SettingKept)
            );
            assert!(also[0].2.contains(part), "{also:?}");
        }
    }

    #[test]
    fn a_quota_that_is_nearly_used_is_told_while_the_vault_serves() {
        let settled = settled();
        let nearest_quota = Some(Nearest {
            scope: QuotaScope::Namespace,
            of: crate::model::QuotaOf::Bytes,
            percent: 83,
        });
        let seen = Seen {
            counts: settled.counts.map(|counts| Counts {
                nearest_quota,
                ..counts
            }),
            ..settled
        };
        let plan = plan(&seen, &installation());
        assert_eq!((plan.steps.len(), plan.standing.ready), (0, true));
        let (condition, reason, message) = &plan.standing.also[0];
        assert_eq!(
            (*condition, *reason),
            (ConditionType::NearlyFull, Reason::QuotaNearlyUsed)
        );
        assert!(
            message.starts_with(
                "83 % of the bytes of sealed records that all vaults of this namespace may hold"
            ),
            "{message}"
        );
        assert!(message.contains("quotas.namespace"), "{message}");
    }

    #[test]
    fn nothing_is_made_for_a_vault_that_cannot_be() {
        let entry = Err(Unusable::Value {
            field: "spec.softDelete.retentionDays",
            allowed: "7 to 90",
        });
        assert_eq!(
            planned(&Seen { entry, ..fresh() }),
            (vec![], false, Reason::Invalid, Action::await_change())
        );
    }
}
