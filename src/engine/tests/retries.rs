//! Requests that are asked again by a client that heard nothing.

use std::sync::Arc;

use super::shaky::{Fate, Mood, Shaky};
use super::support::*;
use crate::engine::{Engine, Error};
use crate::model::{AttributesChange, Caller, Operation, Reply, Tags, Uid, UnixSeconds, VaultEntry, Version};
use crate::store::SealedStore as _;
use crate::store::memory::MemoryStore;

async fn set_as(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    operation: Operation,
    asker: (Caller, Option<&str>),
    seconds: i64,
) -> Version {
    match ask_as(engine, vault, operation, asker, seconds).await.unwrap() {
        Reply::Secret(secret) => secret.version,
        reply => panic!("{reply:?}"),
    }
}

type Asked = fn() -> Operation;

fn set_operation(value: &str) -> Operation {
    Operation::SetSecret(set_of("a", value))
}

#[tokio::test]
async fn a_repetition_makes_no_second_version_on_any_replica() {
    let store = MemoryStore::new();
    let (first, late, vault) = (engine(&store), engine(&store), vault("demo"));
    ensure(&first, &vault).await;
    let made = set_as(
        &first,
        &vault,
        set_operation("x"),
        (workload(), Some("id-1")),
        1000,
    )
    .await;
    for engine in [&first, &late] {
        let again = set_as(
            engine,
            &vault,
            set_operation("x"),
            (workload(), Some("id-1")),
            1299,
        )
        .await;
        assert_eq!(again, made);
    }
    let restarted = engine(&store);
    restarted.relist().await.unwrap();
    let again = set_as(
        &restarted,
        &vault,
        set_operation("x"),
        (workload(), Some("id-1")),
        1299,
    )
    .await;
    assert_eq!(again, made);
    assert_eq!(versions(&first, &vault, "a").await, [made]);
    let Reply::Secret(told) = ask_as(
        &late,
        &vault,
        set_operation("x"),
        (workload(), Some("id-1")),
        1200,
    )
    .await
    .unwrap() else {
        panic!()
    };
    assert_eq!(
        (text(&told).as_str(), told.attributes.created),
        ("x", UnixSeconds(1000))
    );
}

#[tokio::test]
async fn what_differs_in_anything_is_another_request() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    let first = set_as(
        &engine,
        &vault,
        set_operation("x"),
        (workload(), Some("id-1")),
        1000,
    )
    .await;
    let other_account = match workload() {
        Caller::ServiceAccount(account) => Caller::ServiceAccount(crate::model::ServiceAccountCaller {
            uid: Uid::new("made-anew"),
            ..account
        }),
        caller @ (Caller::Operator | Caller::Clock) => caller,
    };
    let with = |change: fn(&mut crate::model::SetSecret)| {
        let mut set = set_of("a", "x");
        change(&mut set);
        Operation::SetSecret(set)
    };
    let mut made = vec![first];
    for (operation, asker, seconds) in [
        (set_operation("x"), (workload(), Some("id-2")), 1000),
        (set_operation("x"), (workload(), None), 1000),
        (set_operation("x"), (workload(), None), 1000),
        (set_operation("x"), (other_account, Some("id-1")), 1000),
        (set_operation("y"), (workload(), Some("id-1")), 1000),
        (
            with(|set| set.content_type = Some(String::new())),
            (workload(), Some("id-1")),
            1000,
        ),
        (
            with(|set| set.tags = Tags::from([("k".to_owned(), "v".to_owned())])),
            (workload(), Some("id-1")),
            1000,
        ),
        (
            with(|set| set.tags = Tags::from([("kv".to_owned(), String::new())])),
            (workload(), Some("id-1")),
            1000,
        ),
        (
            with(|set| {
                set.attributes = AttributesChange {
                    enabled: Some(true),
                    ..AttributesChange::default()
                }
            }),
            (workload(), Some("id-1")),
            1000,
        ),
        (
            with(|set| {
                set.attributes = AttributesChange {
                    expires: Some(UnixSeconds(0)),
                    ..AttributesChange::default()
                };
            }),
            (workload(), Some("id-1")),
            1000,
        ),
        (
            with(|set| {
                set.attributes = AttributesChange {
                    not_before: Some(UnixSeconds(0)),
                    ..AttributesChange::default()
                };
            }),
            (workload(), Some("id-1")),
            1000,
        ),
        (set_operation("x"), (workload(), Some("id-1")), 1300),
    ] {
        made.push(set_as(&engine, &vault, operation, asker, seconds).await);
    }
    made.reverse();
    assert_eq!(versions(&engine, &vault, "a").await, made);
}

#[tokio::test]
async fn each_kind_of_change_may_be_repeated() {
    let store = MemoryStore::new();
    let (first, late, vault) = (engine(&store), engine(&store), vault("demo"));
    ensure(&first, &vault).await;
    set(&first, &vault, "a", "x").await.unwrap();
    let blob = backup(&first, &vault, "a").await.unwrap();
    let operations: [(&str, Asked); 4] = [
        ("update", || {
            let mut update = update_of("a");
            update.content_type = Some("once".to_owned());
            Operation::UpdateSecret(update)
        }),
        ("delete", || Operation::DeleteSecret { name: name("a") }),
        ("recover", || Operation::RecoverSecret { name: name("a") }),
        ("delete again", || Operation::DeleteSecret { name: name("a") }),
    ];
    for (id, operation) in operations {
        let before = store.list().await.unwrap().1;
        ask_as(&first, &vault, operation(), (workload(), Some(id)), 1000)
            .await
            .unwrap();
        for engine in [&first, &late] {
            ask_as(engine, &vault, operation(), (workload(), Some(id)), 1000)
                .await
                .unwrap();
        }
        assert_eq!(store.list().await.unwrap().1, before + 1, "{id}: one write");
    }
    let purge = || Operation::PurgeSecret { name: name("a") };
    let restore = || Operation::RestoreSecret { backup: blob.clone() };
    for engine in [&first, &late, &first] {
        let purged = ask_as(engine, &vault, purge(), (workload(), Some("purge")), 1000).await;
        assert!(matches!(purged, Ok(Reply::Purged)), "{purged:?}");
    }
    for engine in [&first, &late] {
        let restored = ask_as(engine, &vault, restore(), (workload(), Some("restore")), 1000).await;
        assert!(matches!(restored, Ok(Reply::Secret(_))), "{restored:?}");
    }
    // Not asked again, but asked anew.
    let anew = ask_as(&late, &vault, restore(), (workload(), Some("another")), 1000).await;
    assert_eq!(anew.map(drop), Err(Error::SecretExists { name: name("a") }));
}

#[tokio::test]
async fn a_set_whose_answer_was_lost_is_made_once_however_often_it_is_asked() {
    for fate in [Fate::LostOnTheWay, Fate::LostOnTheWayBack, Fate::Late, Fate::Away] {
        let store = Shaky::new(1, Mood::Calm);
        let (first, late, vault) = (engine(&store), engine(&store), vault("demo"));
        ensure(&first, &vault).await;
        store.set_mood(Mood::Always(fate));
        let _ = ask_as(&first, &vault, set_operation("x"), (workload(), Some("id")), 1000).await;
        store.set_mood(Mood::Calm);
        for engine in [&late, &first] {
            ask_as(engine, &vault, set_operation("x"), (workload(), Some("id")), 1001)
                .await
                .unwrap();
        }
        while store.land(0) {}
        assert_eq!(versions(&first, &vault, "a").await.len(), 1, "{fate:?}");
        late.relist().await.unwrap();
        assert_eq!(versions(&late, &vault, "a").await.len(), 1, "{fate:?}");
    }
}
