//! `NetworkRule`: nothing is to be made; its status says what `serve`, which compiles the same, decides.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::Error;
use super::conditions::{Reason, Standing};
use super::context::{Context, Guarded, observed};
use super::report::{self, HasConditions};
use crate::compile::{self, MAX_CIDRS, MAX_POD_SELECTIONS, NetworkFinding, Unusable};
use crate::crd::{self, Condition, ConditionType, NetworkRuleStatus};
use crate::model::{DefaultAction, Uid, VaultId};
use crate::telemetry::metrics::Reconciled;

/// How often a rule beyond the limit is looked at again: what makes room for it is the deletion of another.
const LIMIT_PERIOD: Duration = Duration::from_secs(30);

/// Brings the status of one rule up to date.
pub(super) async fn reconcile(
    object: Arc<Guarded<crd::NetworkRule>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    observed(Reconciled::NetworkRule, object.meta(), &context, async {
        let Some(seen) = gather(&object, &context) else {
            return Ok(Action::await_change());
        };
        let plan = plan(&seen);
        apply(&context, &plan);
        report(&context, &object, &seen, &plan).await?;
        Ok(plan.next)
    })
    .await
}

/// What there is.
#[derive(Debug)]
struct Seen {
    vault: Result<VaultId, Unusable>,
    asked: Asked,
    /// What this rule amounts to.
    finding: Option<NetworkFinding>,
    /// Rules of the vault whose status says another thing about the limit than what is so now.
    outdated: Vec<String>,
    before: Option<NetworkRuleStatus>,
    generation: Option<i64>,
}

/// Whether the vault asks its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// There is no such vault.
    NoVault,
    /// Its default is to deny.
    Yes,
    /// It lets everybody in, or does not say, or says what is not understood.
    No,
}

/// What is to be done, and how the rule stands.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    recheck: Vec<(String, String)>,
    standing: Standing,
    next: Action,
}

fn gather(object: &Guarded<crd::NetworkRule>, context: &Context) -> Option<Seen> {
    let metadata = object.meta();
    let home = context
        .stores
        .namespaces
        .get(&ObjectRef::new(metadata.namespace.as_deref()?));
    let going = home.is_some_and(|home| home.metadata.deletion_timestamp.is_some());
    if going || metadata.deletion_timestamp.is_some() {
        return None;
    }
    let uid = Uid::new(metadata.uid.as_deref()?);
    let Ok(rule) = &object.0 else {
        return Some(Seen {
            vault: Err(Unusable::Value {
                field: "spec",
                allowed: "what its schema says",
            }),
            asked: Asked::NoVault,
            finding: None,
            outdated: Vec::new(),
            before: None,
            generation: metadata.generation,
        });
    };
    let vault = compile::ruled_vault(rule);
    let (mut finding, mut outdated) = (None, Vec::new());
    if let Ok(vault) = &vault {
        let all = context.stores.rules.state();
        let siblings: Vec<_> = all
            .iter()
            .filter_map(|sibling| sibling.0.as_ref().ok())
            .filter(|sibling| {
                sibling.metadata.namespace == metadata.namespace
                    && sibling.spec.vault_ref == vault.name.as_str()
            })
            .collect();
        let findings = compile::network_rules(vault, &siblings).findings;
        outdated = siblings
            .iter()
            .filter(|sibling| {
                let now = findings
                    .iter()
                    .find(|finding| sibling.metadata.uid.as_deref() == Some(finding.uid.as_str()));
                sibling.metadata.uid != metadata.uid
                    && now.is_some_and(|now| (now.beyond_limit > 0) != says_exceeded(sibling))
            })
            .filter_map(|sibling| sibling.metadata.name.clone())
            .collect();
        finding = findings.into_iter().find(|finding| finding.uid == uid);
    }
    let asked = vault
        .as_ref()
        .map_or(Asked::NoVault, |vault| asked(context, vault));
    Some(Seen {
        vault,
        asked,
        finding,
        outdated,
        before: rule.status.clone(),
        generation: metadata.generation,
    })
}

/// What the vault's resource says.
fn asked(context: &Context, vault: &VaultId) -> Asked {
    let reference = ObjectRef::new(vault.name.as_str()).within(vault.namespace.as_str());
    let found = context.stores.vaults.get(&reference);
    match found.filter(|vault| vault.meta().deletion_timestamp.is_none()) {
        None => Asked::NoVault,
        Some(vault) => says_deny(&vault),
    }
}

/// What a vault's resource says, as `serve` understands it; where it says nothing, what its status tells of its head.
pub(super) fn says_deny(vault: &Guarded<crd::Vault>) -> Asked {
    let Ok(vault) = &vault.0 else { return Asked::No };
    let Ok(entry) = compile::vault(vault, &Uid::new("")) else {
        return Asked::No;
    };
    let status = vault.status.as_ref().and_then(|status| status.network.as_ref());
    let head = status.is_some_and(|network| network.default_action == DefaultAction::Deny.as_str());
    let said = entry.settings.network.default_action;
    if said.map_or(head, |said| said == DefaultAction::Deny) {
        Asked::Yes
    } else {
        Asked::No
    }
}

fn says_exceeded(rule: &crd::NetworkRule) -> bool {
    let conditions = rule.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == ConditionType::LimitExceeded.as_str())
}

fn plan(seen: &Seen) -> Plan {
    let vault = match &seen.vault {
        Ok(vault) => vault,
        Err(why) => {
            let standing = Standing::stalled(Reason::Invalid, format!("it lets nobody in: {why}"));
            return Plan {
                recheck: Vec::new(),
                standing,
                next: Action::await_change(),
            };
        }
    };
    let recheck = seen
        .outdated
        .iter()
        .map(|name| (vault.namespace.to_string(), name.clone()))
        .collect();
    let exceeded = seen
        .finding
        .as_ref()
        .is_some_and(|finding| finding.beyond_limit > 0);
    let next = if exceeded {
        Action::requeue(LIMIT_PERIOD)
    } else {
        Action::await_change()
    };
    Plan {
        recheck,
        standing: standing(seen, vault),
        next,
    }
}

fn standing(seen: &Seen, vault: &VaultId) -> Standing {
    let Some(finding) = &seen.finding else {
        return Standing::waiting(Reason::VaultNotReady, "it has not been seen whole yet".to_owned());
    };
    if finding.beyond_limit > 0 {
        let message = format!(
            "vault '{}' has more than {MAX_CIDRS} CIDRs or {MAX_POD_SELECTIONS} entries of pods in its network rules \
             (the oldest rules first): {} of this rule's let nobody in; write larger blocks or delete rules",
            vault.name, finding.beyond_limit
        );
        return Standing::stalled(Reason::LimitExceeded, message).and_so(ConditionType::LimitExceeded);
    }
    if !finding.not_understood.is_empty() {
        let message = format!(
            "this version of Strongroom does not understand {}, which therefore lets nobody in",
            finding.not_understood.join(", ")
        );
        return Standing::stalled(Reason::NotUnderstood, message);
    }
    let says = format!("{} CIDRs and {} entries of pods", finding.cidrs, finding.pods);
    match seen.asked {
        Asked::NoVault => {
            let message = format!("there is no vault '{}' in this namespace yet", vault.name);
            Standing::waiting(Reason::VaultNotFound, message)
        }
        Asked::Yes => Standing::ready(
            Reason::InForce,
            format!("{says} may reach vault '{}'", vault.name),
        ),
        Asked::No => Standing::ready(
            Reason::NoEffect,
            format!(
                "the default action of vault '{}' is not Deny, so its rules are not asked ({says})",
                vault.name
            ),
        ),
    }
}

fn apply(context: &Context, plan: &Plan) {
    for (namespace, name) in &plan.recheck {
        context.triggers.rules.one(ObjectRef::new(name).within(namespace));
    }
}

async fn report(
    context: &Context,
    object: &Guarded<crd::NetworkRule>,
    seen: &Seen,
    plan: &Plan,
) -> Result<(), Error> {
    let before = seen.before.as_ref();
    let known = before.map_or(&[][..], |status| &status.conditions);
    let after = NetworkRuleStatus {
        observed_generation: seen.generation,
        conditions: plan
            .standing
            .conditions(known, seen.generation, context.clock.now().wall),
    };
    let reference = object.object_ref(&());
    report::status::<crd::NetworkRule, _>(context, &reference, &plan.standing, before, &after).await
}

impl HasConditions for NetworkRuleStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, VaultName};

    fn seen() -> Seen {
        Seen {
            vault: Ok(VaultId {
                namespace: Namespace::parse("shop").unwrap(),
                name: VaultName::parse("demo").unwrap(),
            }),
            asked: Asked::Yes,
            finding: Some(NetworkFinding {
                name: "office".to_owned(),
                uid: Uid::new("r1"),
                cidrs: 2,
                pods: 1,
                beyond_limit: 0,
                not_understood: Vec::new(),
            }),
            outdated: Vec::new(),
            before: None,
            generation: Some(1),
        }
    }

    fn with(change: impl FnOnce(&mut NetworkFinding)) -> Seen {
        let mut seen = seen();
        change(seen.finding.as_mut().unwrap());
        seen
    }

    #[test]
    fn a_rule_says_what_it_lets_in_and_whether_it_is_asked() {
        for (asked, ready, reason, message) in [
            (
                Asked::Yes,
                true,
                Reason::InForce,
                "2 CIDRs and 1 entries of pods may reach vault 'demo'",
            ),
            (
                Asked::No,
                true,
                Reason::NoEffect,
                "the default action of vault 'demo' is not Deny",
            ),
            (
                Asked::NoVault,
                false,
                Reason::VaultNotFound,
                "there is no vault 'demo'",
            ),
        ] {
            let standing = plan(&Seen { asked, ..seen() }).standing;
            assert_eq!(
                (standing.ready, standing.reason, standing.stalled),
                (ready, reason, false)
            );
            assert!(standing.message.starts_with(message), "{}", standing.message);
        }
    }

    #[test]
    fn a_rule_that_does_not_do_all_that_it_says_is_not_ready_and_says_why() {
        let no_vault = Err(Unusable::Name {
            field: "spec.vaultRef",
            reason: "no",
        });
        let cases = [
            (
                Seen {
                    vault: no_vault,
                    ..seen()
                },
                Reason::Invalid,
                true,
            ),
            (
                Seen {
                    finding: None,
                    ..seen()
                },
                Reason::VaultNotReady,
                false,
            ),
            (
                with(|finding| finding.beyond_limit = 1),
                Reason::LimitExceeded,
                true,
            ),
            (
                with(|finding| finding.not_understood = vec!["spec.cidrs[0]".to_owned()]),
                Reason::NotUnderstood,
                true,
            ),
        ];
        for (seen, reason, stalled) in cases {
            let standing = plan(&seen).standing;
            assert_eq!(
                (standing.ready, standing.reason, standing.stalled),
                (false, reason, stalled)
            );
        }
    }

    #[test]
    fn a_rule_beyond_the_limit_has_the_condition_and_is_looked_at_again() {
        let plan = plan(&with(|finding| finding.beyond_limit = 3));
        assert_eq!(plan.standing.also[0].0, ConditionType::LimitExceeded);
        assert!(plan.standing.message.contains("3 of this rule's let nobody in"));
        assert_eq!(plan.next, Action::requeue(LIMIT_PERIOD));
    }

    #[test]
    fn rules_whose_place_under_the_limit_changed_are_looked_at_again() {
        let seen = Seen {
            outdated: vec!["young".to_owned()],
            ..seen()
        };
        assert_eq!(plan(&seen).recheck, [("shop".to_owned(), "young".to_owned())]);
    }

    #[test]
    fn whether_a_vault_asks_its_rules_is_what_serve_compiles() {
        const UNTOLD: &str = "null";
        const OPEN: &str = r#"{"defaultAction": "Allow", "bypass": "None"}"#;
        const CLOSED: &str = r#"{"defaultAction": "Deny", "bypass": "None"}"#;
        for (network, head, asked) in [
            ("{}", UNTOLD, Asked::No),
            ("{}", OPEN, Asked::No),
            ("{}", CLOSED, Asked::Yes),
            (r#"{"bypass": "Volumes"}"#, CLOSED, Asked::Yes),
            (r#"{"defaultAction": "Allow"}"#, CLOSED, Asked::No),
            (r#"{"defaultAction": "Deny"}"#, OPEN, Asked::Yes),
            (
                r#"{"defaultAction": "Deny", "bypass": "Volumes"}"#,
                UNTOLD,
                Asked::Yes,
            ),
            (
                r#"{"defaultAction": "Deny", "bypass": "Everybody"}"#,
                CLOSED,
                Asked::No,
            ),
        ] {
            let vault = format!(
                r#"{{"apiVersion": "strongroom.dev/v1alpha1", "kind": "Vault",
                "metadata": {{"namespace": "shop", "name": "demo", "uid": "v1"}}, "spec": {{"network": {network}}},
                "status": {{"network": {head}}}}}"#
            );
            let vault = serde_json::from_str(&vault).unwrap();
            assert_eq!(
                says_deny(&kube::core::DeserializeGuard(Ok(vault))),
                asked,
                "{network} {head}"
            );
        }
    }
}
