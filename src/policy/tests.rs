use std::num::NonZeroU8;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Backup, DeleteOwned, EnsureVault, Namespace, ObjectName, Owner, PageRequest, PodRef, PurgeVault,
    ServiceAccountCaller, StoredVault, Uid, UnixSeconds, VaultName, VaultRules, VaultSettings, VaultUuid,
};

fn vault(namespace: &str) -> Arc<VaultEntry> {
    Arc::new(VaultEntry {
        id: VaultId {
            namespace: Namespace::parse(namespace).unwrap(),
            name: VaultName::parse("demo").unwrap(),
        },
        uid: Uid::new("vault-uid"),
        namespace_uid: Uid::new("namespace-uid"),
        settings: VaultSettings::default(),
    })
}

fn account(namespace: &str, name: &str, bound: bool) -> Arc<Caller> {
    Arc::new(Caller::ServiceAccount(ServiceAccountCaller {
        namespace: Namespace::parse(namespace).unwrap(),
        name: name.into(),
        uid: Uid::new("account-uid"),
        pod: bound.then(|| PodRef {
            name: "pod".into(),
            uid: Uid::new("pod-uid"),
            node: None,
        }),
        expires: UnixSeconds(0),
        address: None,
    }))
}

fn entry(name: &str, permissions: &[&str], allow_unbound: bool) -> Entry {
    Entry {
        policy: format!("{name}-policy"),
        subject: Subject {
            namespace: Namespace::parse("shop").unwrap(),
            name: name.into(),
        },
        secrets: permissions
            .iter()
            .map(|permission| Permissions::parse(permission).unwrap())
            .fold(Permissions::default(), Permissions::union),
        allow_unbound,
    }
}

fn index(entries: Vec<Entry>) -> Index {
    let mut index = Index::default();
    index.set(vault("shop").id.clone(), Arc::new(VaultPolicy::new(entries)));
    index
}

fn name() -> ObjectName {
    ObjectName::parse("db-password").unwrap()
}

fn get() -> Operation {
    Operation::GetSecret {
        name: name(),
        version: None,
    }
}

fn operations() -> Vec<(&'static str, Operation)> {
    let page = || PageRequest {
        limit: NonZeroU8::MIN,
        skip_token: None,
    };
    vec![
        ("get", get()),
        ("delete", Operation::DeleteSecret { name: name() }),
        ("list", Operation::ListSecrets(page())),
        (
            "list",
            Operation::ListSecretVersions {
                name: name(),
                page: page(),
            },
        ),
        ("get", Operation::GetDeletedSecret { name: name() }),
        ("list", Operation::ListDeletedSecrets(page())),
        ("recover", Operation::RecoverSecret { name: name() }),
        ("purge", Operation::PurgeSecret { name: name() }),
        ("backup", Operation::BackupSecret { name: name() }),
        (
            "restore",
            Operation::RestoreSecret {
                backup: Backup(Vec::new()),
            },
        ),
    ]
}

#[test]
fn each_operation_needs_exactly_its_permission() {
    for (needed, _) in operations() {
        for (permission, operation) in operations() {
            let index = index(vec![entry("app", &[needed], false)]);
            let decided = index.decide(&account("shop", "app", true), &vault("shop"), operation, 1);
            assert_eq!(decided.is_ok(), needed == permission, "{needed} for {permission}");
        }
    }
}

#[test]
fn all_gives_every_permission_in_any_case() {
    for name in ["all", "All", "ALL"] {
        for permission in SecretPermission::ALL {
            assert!(Permissions::parse(name).unwrap().contains(permission));
        }
    }
    assert_eq!(Permissions::parse("everything"), Err(UnknownPermission));
}

#[test]
fn an_account_of_the_same_name_in_another_namespace_gets_nothing() {
    let index = index(vec![entry("app", &["all"], true)]);
    let denial = index
        .decide(&account("other", "app", true), &vault("shop"), get(), 1)
        .unwrap_err();
    assert_eq!(denial.permission(), Some("get"));
}

#[test]
fn a_policy_of_one_vault_gives_nothing_in_a_vault_of_the_same_name_elsewhere() {
    let index = index(vec![entry("app", &["all"], true)]);
    assert!(
        index
            .decide(&account("shop", "app", true), &vault("other"), get(), 1)
            .is_err()
    );
}

#[test]
fn a_token_without_a_pod_counts_only_where_the_entry_that_gives_the_permission_says_so() {
    let unbound = account("shop", "app", false);
    let refuses = index(vec![entry("app", &["get"], false), entry("app", &["list"], true)]);
    assert!(matches!(
        refuses.decide(&unbound, &vault("shop"), get(), 1),
        Err(Denial::Unbound { .. })
    ));
    let allows = index(vec![entry("app", &["get"], false), entry("app", &["get"], true)]);
    assert!(allows.decide(&unbound, &vault("shop"), get(), 1).is_ok());
}

#[test]
fn the_operator_has_its_list_and_reads_no_value() {
    let operator = Arc::new(Caller::Operator);
    let index = index(vec![entry("app", &["all"], true)]);
    assert!(matches!(
        index.decide(&operator, &vault("shop"), get(), 1),
        Err(Denial::NotOnList { .. })
    ));
    let ensure = |uid: &str| {
        Operation::EnsureVault(EnsureVault {
            resource_uid: Uid::new(uid),
        })
    };
    assert!(
        index
            .decide(&operator, &vault("shop"), ensure("vault-uid"), 1)
            .is_ok()
    );
    assert!(matches!(
        index.decide(&operator, &vault("shop"), ensure("another"), 1),
        Err(Denial::AnotherResource { .. })
    ));
    let app = account("shop", "app", true);
    assert!(
        index
            .decide(&app, &vault("shop"), ensure("vault-uid"), 1)
            .is_err()
    );
}

#[test]
fn the_clock_does_what_is_due_and_nothing_else_and_nobody_else_does_that() {
    let stored = StoredVault {
        uuid: VaultUuid([1; 16]),
        id: vault("shop").id.clone(),
        namespace_uid: Uid::new("namespace-uid"),
        resource_uid: Uid::new("vault-uid"),
        rules: VaultRules::of(&VaultSettings::default()),
        secrets: 0,
        deletion: None,
    };
    let due = || {
        let purge = PurgeVault {
            vault: stored.clone(),
            ordered: true,
        };
        [
            Operation::DeleteVault(stored.clone()),
            Operation::PurgeVault(purge),
            Operation::PurgeDueSecret { name: name() },
        ]
    };
    let index = index(vec![entry("app", &["all"], true)]);
    let decide = |caller: Caller, operation| index.decide(&Arc::new(caller), &vault("shop"), operation, 1);
    for operation in due() {
        let permit = decide(Caller::Clock, operation).unwrap();
        assert_eq!(permit.rule().as_str(), "clock");
    }
    for operation in due() {
        assert!(matches!(
            decide(Caller::Operator, operation),
            Err(Denial::NotOnList { .. })
        ));
    }
    for operation in due() {
        let app = account("shop", "app", true);
        assert!(matches!(
            index.decide(&app, &vault("shop"), operation, 1),
            Err(Denial::NotOnList { .. })
        ));
    }
    let ensure = Operation::EnsureVault(EnsureVault {
        resource_uid: Uid::new("vault-uid"),
    });
    for operation in [get(), ensure] {
        assert!(matches!(
            decide(Caller::Clock, operation),
            Err(Denial::NotOnList { .. })
        ));
    }
}

#[test]
fn the_operator_makes_and_deletes_only_for_the_namespace_that_the_vault_is_of() {
    let operator = Arc::new(Caller::Operator);
    let delete = |namespace: &str, uid: &str| {
        Operation::DeleteOwned(DeleteOwned {
            name: name(),
            owner: Owner {
                namespace: Namespace::parse(namespace).unwrap(),
                namespace_uid: Uid::new(uid),
                resource: "db-password".to_owned(),
            },
        })
    };
    let decide = |operation| index(Vec::new()).decide(&operator, &vault("shop"), operation, 1);
    assert!(decide(delete("shop", "namespace-uid")).is_ok());
    for (namespace, uid) in [
        ("shop", "the namespace of that name before"),
        ("other", "namespace-uid"),
    ] {
        assert!(matches!(
            decide(delete(namespace, uid)),
            Err(Denial::AnotherResource { .. })
        ));
    }
}

proptest! {
    #[test]
    fn the_order_of_entries_never_changes_a_decision(
        entries in proptest::collection::vec((0..3usize, 0..5usize, any::<bool>()), 0..12),
        bound: bool,
    ) {
        let names = ["app", "worker", "other"];
        let permissions = ["get", "list", "set", "delete", "all"];
        let made = |list: &[(usize, usize, bool)]| {
            index(list.iter().map(|(n, p, u)| entry(names[*n], &[permissions[*p]], *u)).collect())
        };
        let mut reversed = entries.clone();
        reversed.reverse();
        let caller = account("shop", "app", bound);
        for (_, operation) in operations() {
            let again = match &operation {
                Operation::GetSecret { .. } => get(),
                Operation::DeleteSecret { name } => Operation::DeleteSecret { name: name.clone() },
                Operation::ListSecrets(page) => Operation::ListSecrets(page.clone()),
                _ => continue,
            };
            let (one, two) = (
                made(&entries).decide(&caller, &vault("shop"), operation, 1),
                made(&reversed).decide(&caller, &vault("shop"), again, 1),
            );
            prop_assert_eq!(one.is_ok(), two.is_ok());
        }
    }
}
