//! Vaults: deleted, taken up again, purged.

use std::sync::Arc;
use std::time::Duration;

use super::shaky::{Fate, Mood, Shaky};
use super::support::*;
use crate::engine::index::VaultAddress;
use crate::engine::{Engine, Error, Quotas, Sizes};
use crate::model::{Caller, Moment, Operation, PurgeVault, Reply, StoredVault, Uid, UnixSeconds, VaultEntry};
use crate::policy::Index;
use crate::store::memory::MemoryStore;
use crate::store::{RecordName, SealedStore, StoreEvent};

const DAY: i64 = 86_400;

/// A vault with a secret of several versions on pages and in parts, a small one, a deleted and a purged one, and another
/// vault beside it.
async fn world<S: SealedStore + Clone + 'static>(store: &S) -> (Engine, Arc<VaultEntry>) {
    let (engine, vault) = (replica(store).await, vault("demo"));
    for entry in [&vault, &other()] {
        ensure(&engine, entry).await;
        for round in 0..12 {
            set(&engine, entry, "long", &format!("{round} {}", "x".repeat(200)))
                .await
                .unwrap();
        }
        for secret in ["a", "gone", "purged"] {
            set(&engine, entry, secret, "one").await.unwrap();
        }
        for secret in ["gone", "purged"] {
            delete(&engine, entry, secret).await.unwrap();
        }
        purge(&engine, entry, "purged").await.unwrap();
    }
    (engine, vault)
}

fn other() -> Arc<VaultEntry> {
    vault("other")
}

async fn replica<S: SealedStore + Clone + 'static>(store: &S) -> Engine {
    let sizes = Sizes {
        head: 700,
        body: 64,
        page: 600,
        ..Sizes::default()
    };
    let quotas = Quotas {
        sizes,
        ..Quotas::default()
    };
    let engine = engine_with(store, quotas);
    engine.relist().await.unwrap();
    engine
}

/// Does what the clock does.
async fn due(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    operation: Operation,
    seconds: i64,
) -> Result<Reply, Error> {
    let clock = Arc::new(Caller::Clock);
    let permit = Index::default().decide(&clock, vault, operation, 1).unwrap();
    engine.perform(permit, None, at(seconds)).await
}

fn kept(engine: &Engine, vault: &VaultEntry) -> StoredVault {
    let all = engine.stored_vaults().into_iter();
    let mut found = all.filter(|stored| stored.id == vault.id);
    found.next().unwrap()
}

async fn delete_vault(engine: &Engine, vault: &Arc<VaultEntry>, seconds: i64) -> Reply {
    let stored = kept(engine, vault);
    due(engine, vault, Operation::DeleteVault(stored), seconds)
        .await
        .unwrap()
}

async fn purge_vault(engine: &Engine, vault: &Arc<VaultEntry>, seconds: i64) -> Result<Reply, Error> {
    let stored = kept(engine, vault);
    let purge = PurgeVault {
        vault: stored,
        ordered: false,
    };
    due(engine, vault, Operation::PurgeVault(purge), seconds).await
}

/// As applied again under another UID.
fn again(vault: &VaultEntry) -> Arc<VaultEntry> {
    Arc::new(VaultEntry {
        uid: Uid::new("applied again"),
        ..vault.clone()
    })
}

fn not_ready(vault: &VaultEntry) -> Error {
    Error::VaultNotReady {
        vault: vault.id.clone(),
    }
}

async fn records(store: &impl SealedStore) -> Vec<RecordName> {
    let (records, _) = store.list().await.unwrap();
    records.into_iter().map(|record| record.name).collect()
}

async fn is_whole(engine: &Engine, vault: &Arc<VaultEntry>) {
    assert_eq!(names(engine, vault, 25).await, ["a", "long"]);
    assert_eq!(deleted_names(engine, vault, 25).await, ["gone"]);
    let all = versions(engine, vault, "long").await;
    assert_eq!(all.len(), 12);
    for (round, version) in all.into_iter().rev().enumerate() {
        let read = get(engine, vault, "long", Some(version)).await.unwrap();
        assert!(text(&read).starts_with(&format!("{round} ")));
    }
    recover(engine, vault, "gone").await.unwrap();
    delete(engine, vault, "gone").await.unwrap();
}

#[tokio::test]
async fn a_deleted_vault_answers_nobody_and_comes_back_whole_with_its_resource() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let late = replica(&store).await;
    assert!(matches!(
        delete_vault(&engine, &vault, 2000).await,
        Reply::VaultDeleted
    ));
    tell(&store, &late);
    for engine in [&engine, &late, &replica(&store).await] {
        let read = get(engine, &vault, "a", None).await;
        assert_eq!(read.unwrap_err(), not_ready(&vault));
        let written = set(engine, &vault, "a", "two").await;
        assert_eq!(written.unwrap_err(), not_ready(&vault));
        let purged = purge(engine, &vault, "gone").await;
        assert_eq!(purged.unwrap_err(), not_ready(&vault));
        assert!(!engine.vault_ready(&vault.namespace_uid, &vault.id.name));
        assert_eq!(engine.network(&vault), None);
        assert_eq!(engine.summaries(UnixSeconds(2000)).len(), 1, "only the other");
        assert_eq!(engine.damaged_records(), 0);
        let stored = kept(engine, &vault);
        assert_eq!(stored.deletion.unwrap().purge_due, UnixSeconds(2000 + 30 * DAY));
        assert_eq!(stored.secrets, 3);
        is_whole(engine, &other()).await;
    }
    let vault = again(&vault);
    ensure(&engine, &vault).await;
    // The late one has not heard: it asks the store.
    is_whole(&late, &vault).await;
    for engine in [&engine, &late, &replica(&store).await] {
        tell(&store, engine);
        is_whole(engine, &vault).await;
        assert_eq!(engine.damaged_records(), 0);
    }
}

#[tokio::test]
async fn nothing_is_purged_before_its_date_and_nothing_is_left_after_but_a_receipt() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let late = replica(&store).await;
    let before = records(&store).await.len();
    delete_vault(&engine, &vault, 2000).await;
    let early = purge_vault(&engine, &vault, 1999 + 30 * DAY).await;
    assert!(matches!(early, Ok(Reply::NotDue)));
    assert_eq!(records(&store).await.len(), before);
    tell(&store, &late);
    let purged = purge_vault(&engine, &vault, 2000 + 30 * DAY).await;
    assert!(matches!(purged, Ok(Reply::Purged)));

    let vault_record = engine
        .seals
        .vault_record(&vault.namespace_uid, &vault.id.name)
        .unwrap();
    assert_eq!(
        records(&store).await.len(),
        before / 2 + 1,
        "the other vault's, and the receipt"
    );
    assert!(records(&store).await.contains(&vault_record));
    tell(&store, &late);
    let fresh = replica(&store).await;
    for engine in [&engine, &late, &fresh] {
        assert_eq!(engine.damaged_records(), 0);
        assert_eq!(engine.stored_vaults().len(), 1);
        assert_eq!(engine.fill().installation, fresh.fill().installation);
        let read = get(engine, &vault, "a", None).await;
        assert_eq!(read.unwrap_err(), not_ready(&vault));
        is_whole(engine, &other()).await;
    }

    let vault = again(&vault);
    ensure(&late, &vault).await;
    set(&late, &vault, "a", "anew").await.unwrap();
    for engine in [&engine, &late, &replica(&store).await] {
        tell(&store, engine);
        assert_eq!(names(engine, &vault, 25).await, ["a"]);
        assert!(deleted_names(engine, &vault, 25).await.is_empty());
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), "anew");
        assert_eq!(engine.damaged_records(), 0);
        is_whole(engine, &other()).await;
    }
}

#[tokio::test]
async fn a_purge_of_a_vault_that_dies_anywhere_has_no_way_back_and_is_ended_by_the_next() {
    let quiet = Shaky::new(1, Mood::Calm);
    let (engine, vault) = world(&quiet).await;
    delete_vault(&engine, &vault, 2000).await;
    let writes = quiet.writes.load(std::sync::atomic::Ordering::SeqCst);
    purge_vault(&engine, &vault, 9_000_000).await.unwrap();
    let steps = quiet.writes.load(std::sync::atomic::Ordering::SeqCst) - writes;
    assert!(steps > 10, "{steps}");
    for fate in [Fate::Away, Fate::LostOnTheWay, Fate::LostOnTheWayBack] {
        for step in 1..steps {
            let store = Shaky::new(1, Mood::Calm);
            let (engine, vault) = world(&store).await;
            delete_vault(&engine, &vault, 2000).await;
            store.set_mood(Mood::After(step, fate));
            let cut = purge_vault(&engine, &vault, 9_000_000).await;
            store.set_mood(Mood::Calm);
            drop(engine);
            // Another replica, which knows nothing.
            let engine = replica(&store).await;
            let what = format!("{fate:?} after {step}: {cut:?}");
            assert_eq!(engine.damaged_records(), 0, "{what}");
            let up = again(&vault);
            let taken_up = ask(
                &engine,
                &up,
                Operation::EnsureVault(crate::model::EnsureVault {
                    resource_uid: up.uid.clone(),
                }),
            )
            .await;
            if engine
                .stored_vaults()
                .iter()
                .any(|stored| stored.id == vault.id && stored.deletion.is_some())
            {
                let busy = Error::VaultIsBeingPurged {
                    vault: vault.id.clone(),
                };
                assert_eq!(taken_up.unwrap_err(), busy, "{what}");
                let ended = purge_vault(&engine, &vault, 0).await;
                assert!(matches!(ended, Ok(Reply::Purged)), "{what}: {ended:?}");
                ensure(&engine, &up).await;
            }
            assert!(names(&engine, &up, 25).await.is_empty(), "{what}");
            assert_eq!(engine.damaged_records(), 0, "{what}");
            is_whole(&engine, &other()).await;
        }
    }
}

#[tokio::test]
async fn what_a_writer_that_had_not_heard_leaves_of_a_purged_vault_is_removed() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let (late, jumps) = (replica(&store).await, replica(&store).await);
    delete_vault(&engine, &vault, 2000).await;
    purge_vault(&engine, &vault, 9_000_000).await.unwrap();
    let before = records(&store).await.len();
    // It takes the vault for live, and the name for free.
    set(&late, &vault, "late", "x").await.unwrap();
    let left = records(&store).await.len() - before;
    assert!(left > 0);
    jumps.relist().await.unwrap();
    tell(&store, &engine);
    for engine in [&engine, &jumps, &replica(&store).await] {
        assert_eq!(engine.damaged_records(), 0);
        let read = get(engine, &vault, "late", None).await;
        assert_eq!(read.unwrap_err(), not_ready(&vault));
    }
    assert_eq!(engine.tidy(at(9_000_000)).await, Ok(left));
    assert_eq!(records(&store).await.len(), before);
    for engine in [&late, &jumps] {
        tell(&store, engine);
        assert_eq!(engine.damaged_records(), 0);
        assert_eq!(engine.tidy(at(9_000_000)).await, Ok(0));
    }
}

#[tokio::test]
async fn the_receipt_of_a_vault_goes_after_a_day_of_both_clocks() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    delete_vault(&engine, &vault, 2000).await;
    purge_vault(&engine, &vault, 9_000_000).await.unwrap();
    let late = replica(&store).await;
    let start = at(9_000_000);
    let moment = |seconds: i64, minutes: u64| Moment {
        wall: UnixSeconds(9_000_000 + seconds),
        monotonic: start.monotonic + Duration::from_mins(minutes),
        ..start
    };
    let record = engine
        .seals
        .vault_record(&vault.namespace_uid, &vault.id.name)
        .unwrap();
    for (seconds, minutes, there) in [
        (DAY - 1, 0, true),
        (DAY, 10, true),
        (DAY, 69, true),
        (DAY, 71, false),
    ] {
        engine.tidy(moment(seconds, minutes)).await.unwrap();
        let found = store.get(&record).await.unwrap();
        assert_eq!(found.is_some(), there, "{seconds} {minutes}");
    }
    tell(&store, &late);
    for engine in [&engine, &late, &replica(&store).await] {
        assert_eq!(engine.damaged_records(), 0);
        assert!(engine.index.load().vault(&VaultAddress::of(&vault)).is_none());
    }
    ensure(&late, &again(&vault)).await;
    assert!(names(&late, &again(&vault), 25).await.is_empty());
}

#[tokio::test]
async fn what_a_vault_was_before_its_purge_cannot_be_put_back() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let record = engine
        .seals
        .vault_record(&vault.namespace_uid, &vault.id.name)
        .unwrap();
    let old = store.get(&record).await.unwrap().unwrap();
    delete_vault(&engine, &vault, 2000).await;
    purge_vault(&engine, &vault, 9_000_000).await.unwrap();
    let receipt = store.get(&record).await.unwrap().unwrap();
    let put = store.update(&record, &receipt.stamp, old.envelope.clone()).await;
    put.unwrap();
    tell(&store, &engine);
    assert_eq!(engine.damaged_records(), 1);
    assert!(get(&engine, &vault, "a", None).await.is_err());
    is_whole(&engine, &other()).await;
}

#[tokio::test]
async fn a_vaults_record_that_is_gone_without_a_purge_is_damage() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    delete_vault(&engine, &vault, 2000).await;
    let record = engine
        .seals
        .vault_record(&vault.namespace_uid, &vault.id.name)
        .unwrap();
    let found = store.get(&record).await.unwrap().unwrap();
    store.delete(&record, &found.stamp).await.unwrap();
    engine.apply(&StoreEvent::Deleted {
        name: record,
        stamp: crate::store::Stamp {
            revision: found.stamp.revision + 1,
            ..found.stamp
        },
    });
    assert_eq!(engine.damaged_records(), 1);
}

#[tokio::test]
async fn deleted_secrets_go_at_their_date_whatever_protects_them_before() {
    let store = MemoryStore::new();
    let (engine, vault) = world(&store).await;
    let mut protected = VaultEntry::clone(&vault);
    protected.settings.purge_protection = Some(true);
    let vault = Arc::new(protected);
    ensure(&engine, &vault).await;
    let of_vault = |seconds: i64| {
        let mut due = engine.due_secrets(UnixSeconds(seconds));
        due.retain(|(id, _)| *id == vault.id);
        due.into_iter()
            .map(|(_, name)| name.to_string())
            .collect::<Vec<_>>()
    };
    let date = 1000 + 30 * DAY;
    assert_eq!(of_vault(date - 1), Vec::<String>::new());
    assert_eq!(of_vault(date), ["gone"]);
    let purge_at = |seconds| {
        let operation = Operation::PurgeDueSecret { name: name("gone") };
        due(&engine, &vault, operation, seconds)
    };
    assert!(matches!(purge_at(date - 1).await, Ok(Reply::NotDue)));
    recover(&engine, &vault, "gone").await.unwrap();
    assert!(matches!(purge_at(date).await, Ok(Reply::NotDue)), "it lives");
    delete(&engine, &vault, "gone").await.unwrap();
    assert!(matches!(purge_at(date).await, Ok(Reply::Purged)));
    assert!(deleted_names(&engine, &vault, 25).await.is_empty());
    assert_eq!(of_vault(date), Vec::<String>::new());
    set(&engine, &vault, "gone", "anew").await.unwrap();
}
