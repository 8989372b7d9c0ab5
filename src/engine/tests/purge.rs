//! Deleted secrets: brought back, or gone for good.

use std::sync::Arc;
use std::time::Duration;

use super::shaky::{Fate, Mood, Shaky};
use super::support::*;
use crate::engine::index::VaultAddress;
use crate::engine::{Damage, Engine, Error};
use crate::model::{Moment, Operation, Reply, UnixSeconds, VaultEntry};
use crate::store::memory::MemoryStore;
use crate::store::{RecordName, SealedStore};

const DAY: i64 = 86_400;

fn not_found() -> Error {
    Error::SecretNotFound { name: name("a") }
}

fn not_deleted() -> Error {
    Error::DeletedSecretNotFound { name: name("a") }
}

fn busy() -> Error {
    Error::ObjectIsBeingDeleted { name: name("a") }
}

/// A vault with secret "a" of two versions.
async fn world<S: SealedStore + Clone + 'static>(store: &S) -> (Engine, Arc<VaultEntry>) {
    let (engine, vault) = (engine(store), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", "one").await.unwrap();
    set(&engine, &vault, "a", "two").await.unwrap();
    (engine, vault)
}

/// A replica that has taken in everything so far.
async fn replica<S: SealedStore + Clone + 'static>(store: &S) -> Engine {
    let engine = engine(store);
    engine.relist().await.unwrap();
    engine
}

fn record(engine: &Engine, vault: &VaultEntry, secret: &str) -> RecordName {
    let snapshot = engine.index.load_full();
    let uuid = snapshot.vault(&VaultAddress::of(vault)).unwrap().head.uuid;
    engine.seals.object_record(uuid, secret).unwrap()
}

fn incarnation(engine: &Engine, vault: &VaultEntry) -> [u8; 16] {
    let snapshot = engine.index.load_full();
    let vault = snapshot.vault(&VaultAddress::of(vault)).unwrap();
    vault.object("a").unwrap().unwrap().head.incarnation
}

#[tokio::test]
async fn a_deleted_secret_is_seen_as_such_and_comes_back_whole() {
    let (engine, vault) = world(&MemoryStore::new()).await;
    let before = versions(&engine, &vault, "a").await;
    assert_eq!(
        get_deleted(&engine, &vault, "a").await.unwrap_err(),
        not_deleted()
    );
    assert_eq!(recover(&engine, &vault, "a").await.unwrap_err(), not_deleted());
    assert_eq!(purge(&engine, &vault, "a").await.unwrap_err(), not_deleted());

    delete(&engine, &vault, "A").await.unwrap();
    let deleted = get_deleted(&engine, &vault, "A").await.unwrap();
    assert_eq!(
        (deleted.secret.version, deleted.secret.value.is_none()),
        (before[0], true)
    );
    assert_eq!(
        (deleted.deleted, deleted.scheduled_purge),
        (UnixSeconds(1000), UnixSeconds(1000 + 30 * DAY))
    );
    assert_eq!(deleted_names(&engine, &vault, 25).await, ["a"]);
    assert_eq!(delete(&engine, &vault, "a").await.unwrap_err(), not_found());

    let Reply::Secret(recovered) = recover(&engine, &vault, "a").await.unwrap() else {
        panic!()
    };
    assert_eq!((recovered.version, recovered.value.is_none()), (before[0], true));
    assert_eq!(versions(&engine, &vault, "a").await, before);
    assert_eq!(
        text(&get(&engine, &vault, "a", Some(before[1])).await.unwrap()),
        "one"
    );
    assert!(deleted_names(&engine, &vault, 25).await.is_empty());
}

#[tokio::test]
async fn a_purged_name_is_free_and_begins_a_new_life_on_every_replica() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let late = replica(&store).await;
    let before = (versions(&engine, &vault, "a").await, incarnation(&engine, &vault));
    delete(&engine, &vault, "a").await.unwrap();
    assert!(matches!(purge(&engine, &vault, "a").await, Ok(Reply::Purged)));

    assert_eq!(
        text(&get(&late, &vault, "a", None).await.unwrap()),
        "two",
        "nobody has told it yet"
    );
    for engine in [&engine, &late, &replica(&store).await] {
        assert_eq!(purge(engine, &vault, "a").await.unwrap_err(), not_deleted());
        assert_eq!(get(engine, &vault, "a", None).await.unwrap_err(), not_found());
        assert_eq!(get_deleted(engine, &vault, "a").await.unwrap_err(), not_deleted());
        assert!(names(engine, &vault, 25).await.is_empty());
        assert!(deleted_names(engine, &vault, 25).await.is_empty());
        assert!(versions(engine, &vault, "a").await.is_empty());
        assert_eq!(engine.damaged_records(), 0);
    }
    let anew = set(&late, &vault, "A", "anew").await.unwrap();
    for engine in [&engine, &late, &replica(&store).await] {
        tell(&store, engine);
        let read = get(engine, &vault, "a", None).await.unwrap();
        assert_eq!(
            (read.version, text(&read).as_str(), read.name.as_written()),
            (anew, "anew", "A")
        );
        assert_eq!(versions(engine, &vault, "a").await, [anew]);
        assert!(get(engine, &vault, "a", Some(before.0[0])).await.is_err());
        assert_ne!(incarnation(engine, &vault), before.1);
        assert_eq!(engine.damaged_records(), 0);
    }
}

#[tokio::test]
async fn a_replica_that_missed_several_lives_takes_the_newest_for_good() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let late = replica(&store).await;
    for round in 0..3 {
        delete(&engine, &vault, "a").await.unwrap();
        purge(&engine, &vault, "a").await.unwrap();
        set(&engine, &vault, "a", &format!("life {round}")).await.unwrap();
    }
    // By a quorum read, by a list, by the feed.
    let by_read = set(&late, &vault, "a", "next").await.unwrap();
    assert_eq!(versions(&late, &vault, "a").await[0], by_read);
    late.relist().await.unwrap();
    tell(&store, &engine);
    for engine in [&engine, &late] {
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), "next");
        assert_eq!(engine.damaged_records(), 0);
    }
}

#[tokio::test]
async fn what_was_purged_cannot_be_put_back() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let old = store.get(&record(&engine, &vault, "a")).await.unwrap().unwrap();
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    let receipt = store.get(&old.name).await.unwrap().unwrap();
    store
        .update(&old.name, &receipt.stamp, old.envelope.clone())
        .await
        .unwrap();
    tell(&store, &engine);
    let refused = Error::RecordDamaged(Damage::RolledBack);
    assert_eq!(get(&engine, &vault, "a", None).await.unwrap_err(), refused);
    assert_eq!(set(&engine, &vault, "a", "x").await.unwrap_err(), refused);
    assert_eq!(engine.damaged_records(), 1);
}

#[tokio::test]
async fn a_purge_that_was_begun_has_no_way_back_and_is_ended_by_the_next() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = world(&store).await;
    delete(&engine, &vault, "a").await.unwrap();
    store.set_mood(Mood::After(1, Fate::Away));
    assert_eq!(
        purge(&engine, &vault, "a").await.unwrap_err(),
        Error::PurgeUnfinished
    );
    store.set_mood(Mood::Calm);
    for engine in [&engine, &replica(&store).await] {
        assert_eq!(set(engine, &vault, "a", "x").await.unwrap_err(), busy());
        assert_eq!(recover(engine, &vault, "a").await.unwrap_err(), busy());
        assert_eq!(delete(engine, &vault, "a").await.unwrap_err(), busy());
        assert_eq!(
            ask(engine, &vault, Operation::UpdateSecret(update_of("a")))
                .await
                .unwrap_err(),
            busy()
        );
        assert_eq!(get(engine, &vault, "a", None).await.unwrap_err(), not_found());
        assert_eq!(get_deleted(engine, &vault, "a").await.unwrap_err(), not_deleted());
        assert!(deleted_names(engine, &vault, 25).await.is_empty());
        let counts = &engine.summaries(UnixSeconds(1000))[0];
        assert_eq!((counts.secrets, counts.deleted_secrets), (0, 0));
    }
    let second = replica(&store).await;
    assert!(matches!(purge(&second, &vault, "a").await, Ok(Reply::Purged)));
    set(&second, &vault, "a", "anew").await.unwrap();
    assert_eq!(
        purge(&engine, &vault, "a").await.unwrap_err(),
        not_deleted(),
        "it lives again"
    );
}

#[tokio::test]
async fn receipts_are_removed_after_a_day_of_both_clocks() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    set(&engine, &vault, "b", "stays").await.unwrap();
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    let (late, bytes) = (replica(&store).await, engine.fill().installation);
    let receipt = record(&engine, &vault, "a");
    let start = at(1000);
    let moment = |wall: i64, minutes: u64| Moment {
        wall: UnixSeconds(wall),
        monotonic: start.monotonic + Duration::from_mins(minutes),
        ..start
    };
    for (wall, minutes, removed) in [
        (1000 + DAY - 1, 0, 0),
        (1000 + DAY, 10, 0),
        (1000 + DAY, 69, 0),
        (1000, 100, 0),
        (1000 + 9 * DAY, 110, 0),
        (1000 + 9 * DAY, 170, 1),
        (1000 + 9 * DAY, 300, 0),
    ] {
        assert_eq!(
            engine.tidy(moment(wall, minutes)).await,
            Ok(removed),
            "{wall} {minutes}"
        );
    }
    assert_eq!(store.get(&receipt).await, Ok(None));
    assert!(engine.fill().installation.bytes < bytes.bytes);
    assert_eq!(engine.fill().installation.records, bytes.records - 1);
    // The feed tells, or a list does not have it any more.
    tell(&store, &late);
    let later = replica(&store).await;
    assert_eq!(set(&engine, &vault, "a", "anew").await.map(drop), Ok(()));
    later.relist().await.unwrap();
    for engine in [&engine, &late, &later] {
        engine.relist().await.unwrap();
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), "anew");
        assert_eq!(text(&get(engine, &vault, "b", None).await.unwrap()), "stays");
        assert_eq!(engine.damaged_records(), 0);
        assert_eq!(engine.fill().installation, later.fill().installation);
    }
}

#[tokio::test]
async fn a_receipt_that_was_replaced_unheard_by_a_new_life_is_no_damage() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    let late = replica(&store).await;
    let receipt = store.get(&record(&engine, &vault, "a")).await.unwrap().unwrap();
    store.delete(&receipt.name, &receipt.stamp).await.unwrap();
    let second = replica(&store).await;
    set(&second, &vault, "a", "anew").await.unwrap();
    late.relist().await.unwrap();
    assert_eq!(text(&get(&late, &vault, "a", None).await.unwrap()), "anew");
    assert_eq!(
        set(&engine, &vault, "a", "more").await.map(drop),
        Ok(()),
        "by a quorum read"
    );
    assert_eq!(engine.damaged_records() + late.damaged_records(), 0);
}

#[tokio::test]
async fn pages_of_deleted_secrets_give_each_once_and_their_tokens_fit_no_other_list() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    for secret in ["e", "B", "d", "a", "c", "live"] {
        set(&engine, &vault, secret, "x").await.unwrap();
    }
    for secret in ["a", "b", "c", "d", "e"] {
        delete(&engine, &vault, secret).await.unwrap();
    }
    purge(&engine, &vault, "c").await.unwrap();
    for limit in [1, 2, 25] {
        assert_eq!(deleted_names(&engine, &vault, limit).await, ["a", "B", "d", "e"]);
    }
    let first = Operation::ListDeletedSecrets(page(1, None));
    let Reply::DeletedPage(first) = ask(&engine, &vault, first).await.unwrap() else {
        panic!()
    };
    let elsewhere = list(&engine, &vault, page(1, first.next)).await;
    assert_eq!(elsewhere.map(drop), Err(Error::SkipTokenInvalid));
    set(&engine, &vault, "live2", "x").await.unwrap();
    let live = list(&engine, &vault, page(1, None)).await.unwrap();
    let deleted = Operation::ListDeletedSecrets(page(1, live.next));
    assert_eq!(
        ask(&engine, &vault, deleted).await.map(drop),
        Err(Error::SkipTokenInvalid)
    );
}

#[tokio::test]
async fn protection_that_another_replica_switched_on_holds_before_the_watch_tells() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    delete(&engine, &vault, "a").await.unwrap();
    let other = replica(&store).await;
    let mut protected = VaultEntry::clone(&vault);
    protected.settings.purge_protection = Some(true);
    ensure(&other, &Arc::new(protected)).await;
    assert_eq!(
        purge(&engine, &vault, "a").await.unwrap_err(),
        Error::PurgeProtected
    );
    let deleted = get_deleted(&engine, &vault, "a").await.unwrap();
    assert_eq!(
        deleted.secret.attributes.recovery_level.as_str(),
        "CustomizedRecoverable"
    );
    // The resource cannot take it back.
    ensure(&engine, &vault).await;
    assert_eq!(
        purge(&engine, &vault, "a").await.unwrap_err(),
        Error::PurgeProtected
    );
    recover(&engine, &vault, "a").await.unwrap();
}
