//! Futures that are dropped at every await, whatever the store does: the change is made or not made, what was acknowledged
//! stays, and the replica goes on.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::shaky::{Fate, Mood, Shaky};
use super::support::*;
use crate::engine::tests::parts::SMALL;
use crate::engine::{Engine, Error, Quotas, Sizes};
use crate::model::{
    Alphabet, DeleteOwned, EnsureGeneratedSecret, EnsureVault, Namespace, Operation, Owner, Reply, Uid,
    VaultEntry,
};

const FATES: [Fate; 6] = [
    Fate::Well,
    Fate::Refused,
    Fate::Away,
    Fate::LostOnTheWay,
    Fate::LostOnTheWayBack,
    Fate::Late,
];

fn owner() -> Owner {
    Owner {
        namespace: Namespace::parse("shop").unwrap(),
        namespace_uid: Uid::new("shop-uid"),
        resource: "made".to_owned(),
    }
}

fn generate(secret: &str) -> Operation {
    Operation::EnsureGeneratedSecret(EnsureGeneratedSecret {
        name: name(secret),
        length: 32,
        alphabet: Alphabet::Hex,
        content_type: None,
        owner: owner(),
    })
}

fn operations() -> Vec<fn() -> Operation> {
    vec![
        || Operation::SetSecret(set_of("old", "dropped")),
        || Operation::SetSecret(set_of("new", "dropped")),
        || {
            let mut update = update_of("old");
            update.content_type = Some("dropped".to_owned());
            Operation::UpdateSecret(update)
        },
        || Operation::DeleteSecret { name: name("old") },
        || Operation::RecoverSecret { name: name("gone") },
        || Operation::PurgeSecret { name: name("gone") },
        || Operation::GetDeletedSecret { name: name("absent") },
        || Operation::GetSecret {
            name: name("absent"),
            version: None,
        },
        || Operation::ListSecretVersions {
            name: name("absent"),
            page: page(25, None),
        },
        || {
            Operation::EnsureVault(EnsureVault {
                resource_uid: Uid::new("another-resource"),
            })
        },
        || generate("new"),
        || generate("made"),
        || {
            Operation::DeleteOwned(DeleteOwned {
                name: name("made"),
                owner: owner(),
            })
        },
    ]
}

/// The vault of the operation: one that is not there yet for the one that makes it.
fn target(operation: &Operation, vault: &Arc<VaultEntry>) -> Arc<VaultEntry> {
    match operation {
        Operation::EnsureVault(ensure) => {
            let mut entry = VaultEntry::clone(&super::support::vault("fresh"));
            entry.uid = ensure.resource_uid.clone();
            Arc::new(entry)
        }
        _ => Arc::clone(vault),
    }
}

#[test]
fn a_future_dropped_at_any_await_leaves_the_change_made_or_not_made() {
    let mut drops = 0;
    for (number, operation) in operations().into_iter().enumerate() {
        for fate in FATES {
            for polls in 0.. {
                let finished = dropped_after(polls, operation, fate);
                if finished {
                    break;
                }
                drops += 1;
                assert!(
                    polls < 300,
                    "operation {number} never ends when each write is {fate:?}"
                );
            }
        }
    }
    assert!(drops > 200, "{drops}");
}

/// Whether the future was ready before it could be dropped.
fn dropped_after(polls: usize, operation: fn() -> Operation, fate: Fate) -> bool {
    let store = Shaky::new(1, Mood::Calm);
    // So that a value lies in a part, and a few versions go onto a page.
    let quotas = Quotas {
        sizes: Sizes {
            head: 500,
            body: 100,
            ..SMALL
        },
        ..Quotas::default()
    };
    let (replica, vault) = (engine_with(&store, quotas), vault("demo"));
    drive(ensure(&replica, &vault));
    let kept = drive(set(&replica, &vault, "old", "kept")).unwrap();
    drive(ask(&replica, &vault, generate("made"))).unwrap();
    drive(set(&replica, &vault, "gone", "once")).unwrap();
    drive(delete(&replica, &vault, "gone")).unwrap();

    store.set_mood(Mood::Always(fate));
    let target = target(&operation(), &vault);
    let mut future = Box::pin(ask(&replica, &target, operation()));
    let mut result = None;
    for _ in 0..polls {
        if let Poll::Ready(ready) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            result = Some(ready);
            break;
        }
    }
    drop(future);
    assert_eq!(replica.lanes.count(), 0, "nobody stays in a lane");
    store.set_mood(Mood::Calm);

    // The replica goes on, and whatever is late comes through or not.
    let late_first = usize::is_multiple_of(polls, 2);
    while late_first && store.land(0) {}
    drive(ensure(&replica, &target));
    let after = drive(set(&replica, &vault, "old", "after"));
    while store.land(0) {}
    let after = after.or_else(|_| drive(set(&replica, &vault, "other", "after")));
    check(&store, &replica, &vault, &result, (kept, after.unwrap()));
    result.is_some()
}

fn check(
    store: &Shaky,
    replica: &Engine,
    vault: &Arc<VaultEntry>,
    result: &Option<Result<Reply, Error>>,
    (kept, after): (crate::model::Version, crate::model::Version),
) {
    let restarted = engine(store);
    drive(restarted.relist()).unwrap();
    assert_eq!(restarted.damaged_records() + replica.damaged_records(), 0);
    for engine in [replica, &restarted] {
        let old = stored(engine, vault, "old");
        let versions: Vec<_> = old.versions.iter().map(|(version, ..)| *version).collect();
        assert_eq!(versions.first(), Some(&kept));
        let dropped = |secret: &str| {
            let stored = stored(engine, vault, secret);
            stored
                .versions
                .iter()
                .filter(|(_, value, _)| value == "dropped")
                .count()
        };
        assert!(dropped("old") + dropped("new") <= 1, "once at most");
        if let Some(Ok(Reply::Secret(secret))) = result {
            let made = ["old", "new", "gone"].map(|secret| stored(engine, vault, secret));
            assert!(
                made.iter()
                    .any(|stored| stored.position(secret.version).is_some()),
                "{result:?}"
            );
        }
        if matches!(result, Some(Ok(Reply::Deleted(_)))) {
            assert_eq!(old.life, Life::Deleted);
        }
        let gone = stored(engine, vault, "gone");
        assert_eq!(gone.versions.len(), usize::from(gone.life != Life::Absent));
        if matches!(result, Some(Ok(Reply::Purged))) {
            assert_eq!(gone.life, Life::Absent);
        }
        let other = stored(engine, vault, "other");
        assert!(
            versions.last() == Some(&after) || (old.life == Life::Deleted && other.position(after).is_some())
        );
        assert_eq!(
            stored(engine, vault, "made").versions.len(),
            1,
            "a generated value is made once"
        );
        assert!(stored(engine, vault, "new").versions.len() <= 1);
    }
}
