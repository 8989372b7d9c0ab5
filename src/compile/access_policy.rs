//! The `AccessPolicy` resources of one vault -> [`VaultPolicy`], and what each of them amounts to.

use super::{Unusable, exact_vault_name, namespace};
use crate::crd;
use crate::model::{Namespace, Uid, VaultId};
use crate::policy::{Entry, Permissions, Subject, VaultPolicy};

/// Azure Key Vault's limit of access policy entries in a vault ("Azure Key Vault service limits").
pub const MAX_ENTRIES: usize = 1024;

/// The access policies of one vault, compiled.
#[derive(Debug)]
pub struct Compiled {
    /// What requests are judged by.
    pub policy: VaultPolicy,
    /// One for each policy of the vault, the oldest first.
    pub findings: Vec<Finding>,
}

/// What one `AccessPolicy` amounts to; from it `operate` writes its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the policy.
    pub name: String,
    /// Its UID.
    pub uid: Uid,
    /// How many of its subjects have at least one permission.
    pub granting: usize,
    /// How many of its subjects are beyond [`MAX_ENTRIES`] and so have none.
    pub beyond_limit: usize,
    /// What was not understood and grants nothing: paths of fields, such as `spec.subjects[1]`.
    pub not_understood: Vec<String>,
}

/// The vault that a policy is about.
///
/// # Errors
/// [`Unusable`]: it grants nothing.
pub fn vault_of(policy: &crd::AccessPolicy) -> Result<VaultId, Unusable> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Err(Unusable::Deleting);
    }
    Ok(VaultId {
        namespace: namespace(policy.metadata.namespace.as_deref())?,
        name: exact_vault_name("spec.vaultRef", &policy.spec.vault_ref)?,
    })
}

/// Compiles those of `policies` that are about `vault`; the order given does not matter.
///
/// Each subject is one entry. Beyond [`MAX_ENTRIES`], in the order of the policies' creation time and then UID, entries
/// grant nothing.
#[must_use]
pub fn policies(vault: &VaultId, policies: &[&crd::AccessPolicy]) -> Compiled {
    let mut ours: Vec<_> = policies
        .iter()
        .filter(|policy| vault_of(policy).is_ok_and(|id| id == *vault))
        .filter_map(|policy| {
            let uid = policy.metadata.uid.as_deref()?;
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            Some(((created, uid), *policy))
        })
        .collect();
    ours.sort_by_key(|(age, _)| *age);

    let mut room = MAX_ENTRIES;
    let mut entries = Vec::new();
    let findings = ours
        .into_iter()
        .map(|((_, uid), policy)| {
            let (granted, mut finding) = read(&vault.namespace, policy, uid);
            let subjects = policy.spec.subjects.len();
            let fitting = subjects.min(room);
            room -= fitting;
            finding.beyond_limit = subjects - fitting;
            let granted: Vec<_> = granted
                .into_iter()
                .filter(|(position, _)| *position < fitting)
                .map(|(_, entry)| entry)
                .collect();
            finding.granting = granted.len();
            entries.extend(granted);
            finding
        })
        .collect();
    Compiled {
        policy: VaultPolicy::new(entries),
        findings,
    }
}

/// The entries of one policy, each with the position of its subject, and what of it was not understood.
fn read(namespace: &Namespace, policy: &crd::AccessPolicy, uid: &str) -> (Vec<(usize, Entry)>, Finding) {
    let name = policy.metadata.name.clone().unwrap_or_default();
    let spec = &policy.spec;
    let mut not_understood: Vec<String> = spec.unknown.keys().map(|key| format!("spec.{key}")).collect();
    let narrowed = !not_understood.is_empty();

    let mut secrets = Permissions::default();
    for (position, permission) in spec.permissions.secrets.iter().enumerate() {
        match Permissions::parse(permission) {
            Ok(permissions) => secrets = secrets.union(permissions),
            Err(_) => not_understood.push(format!("spec.permissions.secrets[{position}]")),
        }
    }

    let mut entries = Vec::new();
    for (position, subject) in spec.subjects.iter().enumerate() {
        if subject.kind != crd::SERVICE_ACCOUNT || subject.name.is_empty() || !subject.unknown.is_empty() {
            not_understood.push(format!("spec.subjects[{position}]"));
        } else if !narrowed && secrets != Permissions::default() {
            let entry = Entry {
                policy: name.clone(),
                subject: Subject {
                    namespace: namespace.clone(),
                    name: subject.name.as_str().into(),
                },
                secrets,
                allow_unbound: subject.allow_unbound.unwrap_or(false),
            };
            entries.push((position, entry));
        }
    }
    (
        entries,
        Finding {
            name,
            uid: Uid::new(uid),
            granting: 0,
            beyond_limit: 0,
            not_understood,
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::compile::documents;
    use crate::model::{
        Caller, ObjectName, Operation, PodRef, ServiceAccountCaller, UnixSeconds, VaultEntry, VaultName,
        VaultSettings,
    };
    use crate::policy::Index;

    fn vault() -> VaultId {
        VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        }
    }

    fn policy(name: &str, created: u32, spec: &str) -> crd::AccessPolicy {
        let yaml = format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop, uid: \
             uid-{name}, creationTimestamp: '2026-11-22T10:{:02}:{:02}Z'}}\nspec: {spec}",
            created / 60,
            created % 60,
        );
        documents(&yaml).unwrap().policies.remove(0)
    }

    fn may_get(compiled: Compiled, account: &str) -> bool {
        let mut index = Index::default();
        index.set(vault(), Arc::new(compiled.policy));
        let caller = Caller::ServiceAccount(ServiceAccountCaller {
            namespace: Namespace::parse("shop").unwrap(),
            name: account.into(),
            uid: Uid::new("a"),
            pod: Some(PodRef {
                name: "p".into(),
                uid: Uid::new("p"),
                node: None,
            }),
            expires: UnixSeconds(0),
            address: None,
        });
        let entry = VaultEntry {
            id: vault(),
            uid: Uid::new("v"),
            namespace_uid: Uid::new("n"),
            settings: VaultSettings::default(),
        };
        let operation = Operation::GetSecret {
            name: ObjectName::parse("x").unwrap(),
            version: None,
        };
        index
            .decide(&Arc::new(caller), &Arc::new(entry), operation, 1)
            .is_ok()
    }

    const GET: &str =
        "{vaultRef: demo, subjects: [{kind: ServiceAccount, name: web}], permissions: {secrets: [get]}}";

    #[test]
    fn a_policy_gives_its_subjects_what_it_says() {
        let compiled = policies(&vault(), &[&policy("a", 0, GET)]);
        assert_eq!(
            compiled.findings,
            [Finding {
                name: "a".to_owned(),
                uid: Uid::new("uid-a"),
                granting: 1,
                beyond_limit: 0,
                not_understood: vec![]
            }]
        );
        assert!(may_get(compiled, "web"));
        assert!(!may_get(policies(&vault(), &[&policy("a", 0, GET)]), "other"));
    }

    #[test]
    fn what_is_not_understood_grants_nothing_and_is_named() {
        let web = "{kind: ServiceAccount, name: web}";
        for (subject, secrets, rest, path) in [
            (web, "get", ", window: {}", "spec.window"),
            (web, "escrow", "", "spec.permissions.secrets[0]"),
            ("{kind: User, name: web}", "get", "", "spec.subjects[0]"),
            (
                "{kind: ServiceAccount, name: web, namespace: x}",
                "all",
                "",
                "spec.subjects[0]",
            ),
        ] {
            let spec = format!(
                "{{vaultRef: demo, subjects: [{subject}], permissions: {{secrets: [{secrets}]}}{rest}}}"
            );
            let compiled = policies(&vault(), &[&policy("a", 0, &spec)]);
            let finding = &compiled.findings[0];
            assert_eq!(
                (finding.not_understood.as_slice(), finding.granting),
                ([path.to_owned()].as_slice(), 0),
                "{spec}"
            );
            assert!(!may_get(compiled, "web"), "{spec}");
        }
    }

    #[test]
    fn a_policy_of_another_vault_or_one_being_deleted_grants_nothing() {
        let mut deleting = policy("a", 0, GET);
        deleting.metadata.deletion_timestamp = deleting.metadata.creation_timestamp.clone();
        let mut elsewhere = policy("b", 0, GET);
        elsewhere.metadata.namespace = Some("other".to_owned());
        let mut folded = policy("c", 0, GET);
        folded.spec.vault_ref = "Demo".to_owned();
        let mut other = policy("d", 0, GET);
        other.spec.vault_ref = "demo2".to_owned();
        let compiled = policies(&vault(), &[&deleting, &elsewhere, &folded, &other]);
        assert_eq!(compiled.findings, []);
        assert!(!may_get(compiled, "web"));
    }

    fn crowd(name: &str, created: u32, subjects: usize) -> crd::AccessPolicy {
        let mut policy = policy(name, created, GET);
        let template = policy.spec.subjects[0].clone();
        policy.spec.subjects = (0..subjects)
            .map(|number| crd::Subject {
                name: format!("{name}-{number}"),
                ..template.clone()
            })
            .collect();
        policy
    }

    #[test]
    fn beyond_1024_entries_the_youngest_grant_nothing() {
        let (old, young) = (crowd("old", 1, MAX_ENTRIES - 1), crowd("young", 2, 3));
        for order in [[&old, &young], [&young, &old]] {
            let compiled = policies(&vault(), &order);
            let seen: Vec<_> = compiled
                .findings
                .iter()
                .map(|finding| (finding.name.as_str(), finding.granting, finding.beyond_limit))
                .collect();
            assert_eq!(seen, [("old", MAX_ENTRIES - 1, 0), ("young", 1, 2)]);
            assert!(may_get(compiled, "young-0"));
            assert!(!may_get(policies(&vault(), &order), "young-1"));
        }
    }

    #[test]
    fn of_policies_made_in_the_same_second_the_uid_decides() {
        let (a, b) = (crowd("a", 1, MAX_ENTRIES), crowd("b", 1, 1));
        let compiled = policies(&vault(), &[&b, &a]);
        assert_eq!(
            compiled
                .findings
                .last()
                .map(|last| (last.name.as_str(), last.beyond_limit)),
            Some(("b", 1))
        );
    }

    proptest! {
        #[test]
        fn the_order_in_which_policies_arrive_changes_nothing(sizes in prop::collection::vec(0_usize..400, 1..6), turn in 0_usize..6) {
            let made: Vec<_> =
                sizes.iter().enumerate().map(|(number, size)| crowd(&format!("p{number}"), (number % 3) as u32, *size)).collect();
            let mut order: Vec<_> = made.iter().collect();
            let straight = policies(&vault(), &order).findings;
            order.rotate_left(turn % made.len());
            prop_assert_eq!(&policies(&vault(), &order).findings, &straight);
            prop_assert!(straight.iter().map(|finding| finding.granting).sum::<usize>() <= MAX_ENTRIES);
        }
    }
}
