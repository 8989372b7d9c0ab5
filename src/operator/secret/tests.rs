use super::*;
use crate::model::{
    Alphabet, EnsureGeneratedSecret, Namespace, ObjectName, Owner, Uid, VaultId, VaultName, Version,
};

const LIVE: OwnedSecret = OwnedSecret::Live {
    version: Version([1; 16]),
};

fn wanted(on_delete: OnDelete) -> Wanted {
    let namespace = Namespace::parse("shop").unwrap();
    Wanted {
        vault: VaultId {
            namespace: namespace.clone(),
            name: VaultName::parse("demo").unwrap(),
        },
        ensure: EnsureGeneratedSecret {
            name: ObjectName::parse("db-password").unwrap(),
            length: 32,
            alphabet: Alphabet::Alphanumeric,
            content_type: None,
            owner: Owner {
                namespace,
                namespace_uid: Uid::new("n1"),
                resource: "db-password".to_owned(),
            },
        },
        on_delete,
    }
}

/// A resource that was just applied to a vault that is ready.
fn fresh(on_delete: OnDelete) -> Seen {
    Seen {
        wanted: Ok(wanted(on_delete)),
        before: None,
        generation: Some(1),
        deleting: None,
        finalizer: false,
        terminating: false,
        vault: Vault::Ready,
        told: None,
        now: UnixSeconds(1_000),
    }
}

fn was_made() -> Option<SecretStatus> {
    let conditions = Standing::ready(Reason::Made, String::new()).conditions(&[], Some(1), UnixSeconds(0));
    Some(SecretStatus {
        conditions,
        ..SecretStatus::default()
    })
}

fn planned(seen: &Seen) -> (Vec<Step>, Option<Reason>) {
    let plan = plan(seen);
    (plan.steps, plan.standing.map(|standing| standing.reason))
}

#[test]
fn a_value_is_asked_for_once_the_vault_is_ready_and_not_again() {
    use OnDelete::{Delete, Retain};
    for (seen, expected) in [
        (fresh(Retain), (vec![Step::Ensure], None)),
        (
            fresh(Delete),
            (vec![Step::SetFinalizer(true), Step::Ensure], None),
        ),
        (
            Seen {
                vault: Vault::Missing,
                ..fresh(Retain)
            },
            (vec![], Some(Reason::VaultNotFound)),
        ),
        (
            Seen {
                vault: Vault::NotReady,
                ..fresh(Retain)
            },
            (vec![], Some(Reason::VaultNotReady)),
        ),
        (
            Seen {
                before: was_made(),
                ..fresh(Retain)
            },
            (vec![], None),
        ),
        (
            Seen {
                before: was_made(),
                told: Some(LIVE),
                ..fresh(Retain)
            },
            (vec![], Some(Reason::Made)),
        ),
        // The data plane is away for a while: what is there stays there.
        (
            Seen {
                before: was_made(),
                vault: Vault::NotReady,
                ..fresh(Retain)
            },
            (vec![], None),
        ),
        (
            Seen {
                before: was_made(),
                vault: Vault::Missing,
                ..fresh(Retain)
            },
            (vec![], Some(Reason::VaultNotFound)),
        ),
        // Its deletion policy was changed.
        (
            Seen {
                before: was_made(),
                finalizer: true,
                ..fresh(Retain)
            },
            (vec![Step::SetFinalizer(false)], None),
        ),
        (
            Seen {
                terminating: true,
                ..fresh(Delete)
            },
            (vec![], None),
        ),
    ] {
        assert_eq!(planned(&seen), expected, "{seen:?}");
    }
}

#[test]
fn what_became_of_the_object_is_told_and_it_is_not_made_again() {
    for (object, reason, condition) in [
        (OwnedSecret::Deleted, Reason::Deleted, ConditionType::Deleted),
        (OwnedSecret::Foreign, Reason::Foreign, ConditionType::Conflict),
    ] {
        let seen = Seen {
            before: was_made(),
            told: Some(object),
            ..fresh(OnDelete::Retain)
        };
        let plan = plan(&seen);
        let standing = plan.standing.unwrap();
        assert_eq!(
            (standing.ready, standing.stalled, standing.reason),
            (false, true, reason)
        );
        assert_eq!((plan.steps.len(), standing.also[0].0), (0, condition));
    }
}

#[test]
fn a_value_that_was_deleted_is_not_made_again_once_it_is_purged() {
    let was_deleted = Standing::stalled(Reason::Deleted, String::new())
        .and_so(ConditionType::Deleted)
        .conditions(&[], Some(1), UnixSeconds(0));
    let purged = || Seen {
        before: Some(SecretStatus {
            conditions: was_deleted.clone(),
            ..SecretStatus::default()
        }),
        ..fresh(OnDelete::Retain)
    };
    for (seen, expected) in [
        // Nothing is told of a name that is free, nor before the data plane has said anything.
        (purged(), (vec![], Some(Reason::Deleted))),
        (
            Seen {
                generation: Some(2),
                ..purged()
            },
            (vec![], Some(Reason::Deleted)),
        ),
        (
            Seen {
                wanted: Ok(wanted(OnDelete::Delete)),
                generation: Some(2),
                ..purged()
            },
            (vec![Step::SetFinalizer(true)], Some(Reason::Deleted)),
        ),
        (
            Seen {
                vault: Vault::NotReady,
                ..purged()
            },
            (vec![], Some(Reason::Deleted)),
        ),
        // It was recovered.
        (
            Seen {
                told: Some(LIVE),
                ..purged()
            },
            (vec![], Some(Reason::Made)),
        ),
        // With its vault everything that was known of it goes.
        (
            Seen {
                vault: Vault::Missing,
                ..purged()
            },
            (vec![], Some(Reason::VaultNotFound)),
        ),
        // The resource was deleted and applied again: that asks for a value anew.
        (fresh(OnDelete::Retain), (vec![Step::Ensure], None)),
    ] {
        assert_eq!(planned(&seen), expected, "{seen:?}");
    }
}

#[test]
fn a_resource_that_cannot_be_makes_nothing() {
    let wanted = Err(Unusable::Value {
        field: "spec.generate.length",
        allowed: "16 to 1024",
    });
    assert_eq!(
        planned(&Seen {
            wanted,
            ..fresh(OnDelete::Retain)
        }),
        (vec![], Some(Reason::Invalid))
    );
}

#[test]
fn deleting_the_resource_deletes_the_object_only_where_it_says_so() {
    use OnDelete::{Delete, Retain};
    let going = |on_delete| Seen {
        deleting: Some(UnixSeconds(990)),
        finalizer: true,
        ..fresh(on_delete)
    };
    let delete = Step::Delete { give_up: false };
    let off = Step::SetFinalizer(false);
    for (seen, steps) in [
        (going(Delete), vec![delete, off]),
        (going(Retain), vec![off]),
        (
            Seen {
                finalizer: false,
                ..going(Delete)
            },
            vec![],
        ),
        (
            Seen {
                vault: Vault::NotReady,
                ..going(Delete)
            },
            vec![delete, off],
        ),
    ] {
        assert_eq!(planned(&seen), (steps, None), "{seen:?}");
    }
}

#[test]
fn no_deletion_is_held_up() {
    let going = |since| Seen {
        deleting: Some(UnixSeconds(since)),
        finalizer: true,
        ..fresh(OnDelete::Delete)
    };
    let off = Step::SetFinalizer(false);
    assert_eq!(
        planned(&Seen {
            terminating: true,
            ..going(990)
        })
        .0,
        [off]
    );
    assert_eq!(
        planned(&Seen {
            vault: Vault::Missing,
            ..going(990)
        })
        .0,
        [off]
    );
    assert_eq!(
        planned(&going(1_000 - GIVE_UP_AFTER)).0,
        [Step::Delete { give_up: true }, off]
    );
    for kind in [Kind::Denied, Kind::NotFound, Kind::Conflict, Kind::Invalid] {
        assert!(!is_worth_waiting(kind), "{kind:?}");
    }
    assert!(is_worth_waiting(Kind::Unavailable));
}

#[test]
fn the_address_of_the_object_is_its_azure_id_without_a_version() {
    assert_eq!(
        id(&wanted(OnDelete::Retain)),
        "https://demo.shop.svc/secrets/db-password"
    );
}
