//! `AccessPolicy`: nothing is to be made; its status says what `serve`, which compiles the same, decides.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::Error;
use super::conditions::{Reason, Standing};
use super::context::{Context, Guarded, observed};
use super::report::{self, HasConditions};
use crate::compile::{self, Finding, MAX_ENTRIES, Unusable};
use crate::crd::{self, AccessPolicyStatus, Condition, ConditionType};
use crate::model::{Uid, VaultId};
use crate::telemetry::metrics::Reconciled;

/// How often a policy beyond the limit is looked at again: what makes room for it is the deletion of another.
const LIMIT_PERIOD: Duration = Duration::from_secs(30);

/// Brings the status of one policy up to date.
pub(super) async fn reconcile(
    object: Arc<Guarded<crd::AccessPolicy>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    observed(Reconciled::AccessPolicy, object.meta(), &context, async {
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
    vault_exists: bool,
    /// What this policy amounts to.
    finding: Option<Finding>,
    /// Policies of the vault whose status says another thing about the limit than what is so now.
    outdated: Vec<String>,
    permissions: Vec<String>,
    before: Option<AccessPolicyStatus>,
    generation: Option<i64>,
}

/// What is to be done, and how the policy stands.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    recheck: Vec<(String, String)>,
    standing: Standing,
    next: Action,
}

fn gather(object: &Guarded<crd::AccessPolicy>, context: &Context) -> Option<Seen> {
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
    let Ok(policy) = &object.0 else {
        return Some(Seen {
            vault: Err(Unusable::Value {
                field: "spec",
                allowed: "what its schema says",
            }),
            vault_exists: false,
            finding: None,
            outdated: Vec::new(),
            permissions: Vec::new(),
            before: None,
            generation: metadata.generation,
        });
    };
    let vault = compile::vault_of(policy);
    let (mut finding, mut outdated) = (None, Vec::new());
    if let Ok(vault) = &vault {
        let all = context.stores.policies.state();
        let siblings: Vec<_> = all
            .iter()
            .filter_map(|sibling| sibling.0.as_ref().ok())
            .filter(|sibling| {
                sibling.metadata.namespace == metadata.namespace
                    && sibling.spec.vault_ref == vault.name.as_str()
            })
            .collect();
        let findings = compile::policies(vault, &siblings).findings;
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
    let vault_exists = vault.as_ref().is_ok_and(|vault| {
        let reference = ObjectRef::new(vault.name.as_str()).within(vault.namespace.as_str());
        context
            .stores
            .vaults
            .get(&reference)
            .is_some_and(|vault| vault.meta().deletion_timestamp.is_none())
    });
    Some(Seen {
        vault,
        vault_exists,
        finding,
        outdated,
        permissions: policy.spec.permissions.secrets.clone(),
        before: policy.status.clone(),
        generation: metadata.generation,
    })
}

fn says_exceeded(policy: &crd::AccessPolicy) -> bool {
    let conditions = policy.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == ConditionType::LimitExceeded.as_str())
}

fn plan(seen: &Seen) -> Plan {
    let vault = match &seen.vault {
        Ok(vault) => vault,
        Err(why) => {
            let standing = Standing::stalled(Reason::Invalid, format!("it grants nothing: {why}"));
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
            "vault '{}' has more than {MAX_ENTRIES} entries (subjects of its access policies, the oldest policies \
             first): {} of this policy's subjects grant nothing; put accounts together or delete policies",
            vault.name, finding.beyond_limit
        );
        return Standing::stalled(Reason::LimitExceeded, message).and_so(ConditionType::LimitExceeded);
    }
    if !finding.not_understood.is_empty() {
        let message = format!(
            "this version of Strongroom does not understand {}, which therefore grants nothing",
            finding.not_understood.join(", ")
        );
        return Standing::stalled(Reason::NotUnderstood, message);
    }
    if !seen.vault_exists {
        let message = format!("there is no vault '{}' in this namespace yet", vault.name);
        return Standing::waiting(Reason::VaultNotFound, message);
    }
    let permissions = seen.permissions.join(", ");
    let message = match finding.granting {
        0 => "it grants nothing: it names no permission".to_owned(),
        1 => format!("one subject has the secret permissions {permissions}"),
        some => format!("{some} subjects have the secret permissions {permissions}"),
    };
    Standing::ready(Reason::Granted, message)
}

fn apply(context: &Context, plan: &Plan) {
    for (namespace, name) in &plan.recheck {
        context
            .triggers
            .policies
            .one(ObjectRef::new(name).within(namespace));
    }
}

async fn report(
    context: &Context,
    object: &Guarded<crd::AccessPolicy>,
    seen: &Seen,
    plan: &Plan,
) -> Result<(), Error> {
    let before = seen.before.as_ref();
    let known = before.map_or(&[][..], |status| &status.conditions);
    let after = AccessPolicyStatus {
        observed_generation: seen.generation,
        conditions: plan
            .standing
            .conditions(known, seen.generation, context.clock.now().wall),
    };
    let reference = object.object_ref(&());
    report::status::<crd::AccessPolicy, _>(context, &reference, &plan.standing, before, &after).await
}

impl HasConditions for AccessPolicyStatus {
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
            vault_exists: true,
            finding: Some(Finding {
                name: "readers".to_owned(),
                uid: Uid::new("p1"),
                granting: 2,
                beyond_limit: 0,
                not_understood: Vec::new(),
            }),
            outdated: Vec::new(),
            permissions: vec!["get".to_owned(), "list".to_owned()],
            before: None,
            generation: Some(1),
        }
    }

    fn with(change: impl FnOnce(&mut Finding)) -> Seen {
        let mut seen = seen();
        change(seen.finding.as_mut().unwrap());
        seen
    }

    #[test]
    fn a_policy_says_how_many_subjects_may_what() {
        let plan = plan(&seen());
        assert_eq!(
            (plan.standing.ready, plan.standing.reason),
            (true, Reason::Granted)
        );
        assert_eq!(
            plan.standing.message,
            "2 subjects have the secret permissions get, list"
        );
        assert_eq!(plan.next, Action::await_change());
    }

    #[test]
    fn a_policy_that_does_not_do_all_that_it_says_is_not_ready_and_says_why() {
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
                    vault_exists: false,
                    ..seen()
                },
                Reason::VaultNotFound,
                false,
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
                with(|finding| finding.not_understood = vec!["spec.window".to_owned()]),
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
    fn a_policy_beyond_the_limit_has_the_condition_and_is_looked_at_again() {
        let plan = plan(&with(|finding| finding.beyond_limit = 3));
        assert_eq!(plan.standing.also[0].0, ConditionType::LimitExceeded);
        assert!(
            plan.standing
                .message
                .contains("3 of this policy's subjects grant nothing")
        );
        assert_eq!(plan.next, Action::requeue(LIMIT_PERIOD));
    }

    #[test]
    fn policies_whose_place_under_the_limit_changed_are_looked_at_again() {
        let seen = Seen {
            outdated: vec!["young".to_owned()],
            ..seen()
        };
        assert_eq!(plan(&seen).recheck, [("shop".to_owned(), "young".to_owned())]);
    }
}
