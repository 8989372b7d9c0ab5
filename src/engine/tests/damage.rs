//! Records that somebody changed behind our back: their own object is refused, everything else works.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;

use super::support::*;
use crate::engine::index::VaultAddress;
use crate::engine::{Damage, Engine, Error};
use crate::model::{UnixSeconds, VaultEntry, VaultSummary};
use crate::store::memory::MemoryStore;
use crate::store::{Record, RecordName, SealedStore, StoreEvent};

/// A vault with secrets "a" (two versions) and "b", a second vault with "a", and a replica that is told of every change.
struct World {
    store: MemoryStore,
    engine: Engine,
    vault: Arc<VaultEntry>,
    second: Arc<VaultEntry>,
    /// "a" when it had one version.
    older: Record,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let (engine, vault, second) = (engine(&store), vault("demo"), vault("second"));
        ensure(&engine, &vault).await;
        ensure(&engine, &second).await;
        set(&engine, &vault, "a", "one").await.unwrap();
        let older = record(&store, &engine, &vault, "a").await;
        set(&engine, &vault, "a", "two").await.unwrap();
        set(&engine, &vault, "b", "other").await.unwrap();
        set(&engine, &second, "a", "second's").await.unwrap();
        Self {
            store,
            engine,
            vault,
            second,
            older,
        }
    }

    async fn record(&self, secret: &str) -> Record {
        record(&self.store, &self.engine, &self.vault, secret).await
    }

    async fn overwrite(&self, name: &RecordName, envelope: &Bytes) {
        let found = self.store.get(name).await.unwrap().unwrap();
        self.store
            .update(name, &found.stamp, envelope.clone())
            .await
            .unwrap();
    }

    fn tell(&self) {
        tell(&self.store, &self.engine);
    }

    /// "a" is refused for this reason, in every way; all else works.
    async fn only_a_is_refused(&self, engine: &Engine, damage: Damage) {
        let refused = Error::RecordDamaged(damage);
        assert_eq!(get(engine, &self.vault, "a", None).await.unwrap_err(), refused);
        assert_eq!(set(engine, &self.vault, "a", "three").await.unwrap_err(), refused);
        assert_eq!(delete(engine, &self.vault, "a").await.unwrap_err(), refused);
        assert_eq!(names(engine, &self.vault, 25).await, ["b"]);
        self.all_but_a_works(engine).await;
    }

    async fn all_but_a_works(&self, engine: &Engine) {
        assert_eq!(text(&get(engine, &self.vault, "b", None).await.unwrap()), "other");
        assert_eq!(
            text(&get(engine, &self.second, "a", None).await.unwrap()),
            "second's"
        );
        set(engine, &self.vault, "b", "other").await.unwrap();
    }

    async fn restarted(&self) -> Engine {
        let engine = engine(&self.store);
        engine.relist().await.unwrap();
        engine
    }
}

async fn record(store: &MemoryStore, engine: &Engine, vault: &VaultEntry, secret: &str) -> Record {
    let uuid = engine
        .index
        .load()
        .vault(&VaultAddress::of(vault))
        .unwrap()
        .head
        .uuid;
    let name = engine.seals.object_record(uuid, secret).unwrap();
    store.get(&name).await.unwrap().unwrap()
}

async fn vault_record(store: &MemoryStore, engine: &Engine, vault: &VaultEntry) -> Record {
    let name = engine
        .seals
        .vault_record(&vault.namespace_uid, &vault.id.name)
        .unwrap();
    store.get(&name).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_record_with_changed_bytes_is_refused_before_and_after_a_restart() {
    let world = World::new().await;
    let mut envelope = world.record("a").await.envelope.to_vec();
    let last = envelope.len() - 1;
    envelope[last] ^= 1;
    world.overwrite(&world.older.name, &envelope.into()).await;
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::DoesNotOpen).await;
    world
        .only_a_is_refused(&world.restarted().await, Damage::DoesNotOpen)
        .await;
    assert_eq!(world.engine.damaged_records(), 1);
}

#[tokio::test]
async fn a_record_of_garbage_is_refused() {
    for garbage in [&b""[..], b"x", &[0; 4096]] {
        let world = World::new().await;
        world
            .overwrite(&world.older.name, &Bytes::copy_from_slice(garbage))
            .await;
        world.tell();
        world.only_a_is_refused(&world.engine, Damage::DoesNotOpen).await;
        world
            .only_a_is_refused(&world.restarted().await, Damage::DoesNotOpen)
            .await;
    }
}

#[tokio::test]
async fn a_record_that_was_rolled_back_is_refused_by_who_saw_the_newer_one() {
    let world = World::new().await;
    let newest = world.record("a").await;
    world.overwrite(&world.older.name, &world.older.envelope).await;
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::RolledBack).await;
    let restarted = world.restarted().await;
    assert_eq!(
        text(&get(&restarted, &world.vault, "a", None).await.unwrap()),
        "one",
        "nothing else is known there"
    );
    // Putting the newest state back heals it.
    world.overwrite(&newest.name, &newest.envelope).await;
    world.tell();
    assert_eq!(
        text(&get(&world.engine, &world.vault, "a", None).await.unwrap()),
        "two"
    );
    assert_eq!(world.engine.damaged_records(), 0);
    set(&world.engine, &world.vault, "a", "three").await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_copied_to_another_name_opens_only_where_it_belongs() {
    let world = World::new().await;
    let b = world.record("b").await;
    world.overwrite(&world.older.name, &b.envelope).await;
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::DoesNotOpen).await;
    world
        .only_a_is_refused(&world.restarted().await, Damage::DoesNotOpen)
        .await;
}

#[tokio::test]
async fn a_record_that_was_copied_from_another_vault_does_not_open() {
    let world = World::new().await;
    let seconds = record(&world.store, &world.engine, &world.second, "a").await;
    world.overwrite(&world.older.name, &seconds.envelope).await;
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::DoesNotOpen).await;
    world
        .only_a_is_refused(&world.restarted().await, Damage::DoesNotOpen)
        .await;
}

#[tokio::test]
async fn a_record_that_vanished_is_refused_by_who_saw_it() {
    let world = World::new().await;
    let a = world.record("a").await;
    world.store.delete(&a.name, &a.stamp).await.unwrap();
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::Vanished).await;
    let restarted = world.restarted().await;
    let absent = Error::SecretNotFound { name: name("a") };
    assert_eq!(
        get(&restarted, &world.vault, "a", None).await.unwrap_err(),
        absent
    );
}

#[tokio::test]
async fn a_record_that_vanished_unheard_is_noticed_by_the_next_write_and_by_a_list() {
    let world = World::new().await;
    let a = world.record("a").await;
    world.store.delete(&a.name, &a.stamp).await.unwrap();
    assert_eq!(
        text(&get(&world.engine, &world.vault, "a", None).await.unwrap()),
        "two",
        "nobody has told yet"
    );
    world.only_a_is_refused_after_a_write().await;
    let world = World::new().await;
    let a = world.record("a").await;
    world.store.delete(&a.name, &a.stamp).await.unwrap();
    world.engine.relist().await.unwrap();
    world.only_a_is_refused(&world.engine, Damage::Vanished).await;
}

impl World {
    async fn only_a_is_refused_after_a_write(&self) {
        let refused = Error::RecordDamaged(Damage::Vanished);
        assert_eq!(
            set(&self.engine, &self.vault, "a", "three").await.unwrap_err(),
            refused
        );
        self.only_a_is_refused(&self.engine, Damage::Vanished).await;
    }
}

#[tokio::test]
async fn another_life_of_a_name_is_refused_by_who_saw_the_one_before() {
    let world = World::new().await;
    let a = world.record("a").await;
    world.store.delete(&a.name, &a.stamp).await.unwrap();
    set(&world.restarted().await, &world.vault, "a", "reborn")
        .await
        .unwrap();
    world.tell();
    world.only_a_is_refused(&world.engine, Damage::Replaced).await;
    let restarted = world.restarted().await;
    assert_eq!(
        text(&get(&restarted, &world.vault, "a", None).await.unwrap()),
        "reborn"
    );
}

#[tokio::test]
async fn a_record_restored_as_it_was_is_good_again() {
    let world = World::new().await;
    let a = world.record("a").await;
    world.store.delete(&a.name, &a.stamp).await.unwrap();
    world.tell();
    world.store.create(&a.name, a.envelope).await.unwrap();
    world.tell();
    assert_eq!(
        text(&get(&world.engine, &world.vault, "a", None).await.unwrap()),
        "two"
    );
    set(&world.engine, &world.vault, "a", "three").await.unwrap();
}

#[tokio::test]
async fn a_record_that_a_storage_migration_rewrote_as_it_was_stays_good() {
    let world = World::new().await;
    let a = world.record("a").await;
    world.overwrite(&a.name, &a.envelope).await;
    assert_eq!(
        text(&get(&world.engine, &world.vault, "a", None).await.unwrap()),
        "two"
    );
    set(&world.engine, &world.vault, "a", "three").await.unwrap();
    world.tell();
    assert_eq!(
        text(&get(&world.engine, &world.vault, "a", None).await.unwrap()),
        "three"
    );
}

#[tokio::test]
async fn a_damaged_vault_is_refused_whole_and_the_others_work() {
    let world = World::new().await;
    let other = vault_record(&world.store, &world.engine, &world.second).await;
    let own = vault_record(&world.store, &world.engine, &world.vault).await;
    for envelope in [Bytes::from_static(b"garbage"), other.envelope] {
        world.overwrite(&own.name, &envelope).await;
        world.tell();
        for engine in [&world.engine, &world.restarted().await] {
            let refused = Error::RecordDamaged(Damage::DoesNotOpen);
            assert_eq!(get(engine, &world.vault, "a", None).await.unwrap_err(), refused);
            assert!(set(engine, &world.vault, "a", "x").await.is_err());
            assert!(list(engine, &world.vault, page(25, None)).await.is_err());
            assert!(!engine.vault_ready(&world.vault.namespace_uid, &world.vault.id.name));
            assert_eq!(
                text(&get(engine, &world.second, "a", None).await.unwrap()),
                "second's"
            );
        }
    }
    world.overwrite(&own.name, &own.envelope).await;
    world.tell();
    for engine in [&world.engine, &world.restarted().await] {
        assert_eq!(
            text(&get(engine, &world.vault, "a", None).await.unwrap()),
            "two",
            "healed, with all its objects"
        );
    }
}

#[tokio::test]
async fn of_each_vault_it_is_told_how_many_of_its_records_are_refused_and_whether_its_own_is() {
    let world = World::new().await;
    let told = |engine: &Engine| -> Vec<_> {
        let summaries = engine.summaries(UnixSeconds(0));
        let of = |told: &VaultSummary| (told.vault.name.to_string(), told.damaged, told.refused);
        summaries.iter().map(of).collect()
    };
    let second = || ("second".to_owned(), 0, false);
    assert_eq!(told(&world.engine), [("demo".to_owned(), 0, false), second()]);
    let mut envelope = world.record("a").await.envelope.to_vec();
    let last = envelope.len() - 1;
    envelope[last] ^= 1;
    world.overwrite(&world.older.name, &envelope.into()).await;
    world.tell();
    for engine in [&world.engine, &world.restarted().await] {
        assert_eq!(told(engine), [("demo".to_owned(), 1, false), second()]);
    }
    let own = vault_record(&world.store, &world.engine, &world.vault).await;
    world.overwrite(&own.name, &Bytes::from_static(b"garbage")).await;
    world.tell();
    assert_eq!(told(&world.engine), [("demo".to_owned(), 2, true), second()]);
    world.overwrite(&own.name, &own.envelope).await;
    world.tell();
    assert_eq!(told(&world.engine), [("demo".to_owned(), 1, false), second()]);
}

#[tokio::test]
async fn a_value_that_was_swapped_with_another_versions_is_refused() {
    let world = World::new().await;
    let snapshot = world.engine.index.load_full();
    let vault = snapshot.vault(&VaultAddress::of(&world.vault)).unwrap();
    let object = vault.object("a").unwrap().unwrap();
    let mut head = object.head.clone();
    let state = head.secret.as_mut().unwrap();
    let entries = state.versions.inline().to_vec();
    let mut swapped = crate::engine::heads::VersionEntry::clone(&entries[1]);
    swapped.body = entries[0].body.clone();
    state.versions = state.versions.with(swapped);
    head.rev += 1;
    let name = world.older.name.clone();
    let envelope = world
        .engine
        .seals
        .seal_object(
            vault.head.uuid,
            vault.key().unwrap(),
            &name,
            &head,
            &head.encode().unwrap(),
        )
        .unwrap();
    world.overwrite(&name, &envelope).await;
    world.tell();
    let refused = Error::RecordDamaged(Damage::DoesNotOpen);
    assert_eq!(
        get(&world.engine, &world.vault, "a", None).await.unwrap_err(),
        refused
    );
    assert_eq!(
        text(
            &get(&world.engine, &world.vault, "a", Some(entries[0].id))
                .await
                .unwrap()
        ),
        "one"
    );
}

#[tokio::test]
async fn nothing_is_served_from_a_store_that_was_restored_to_an_older_state() {
    let world = World::new().await;
    world.engine.apply(&StoreEvent::Bookmark(1_000_000));
    assert_eq!(world.engine.relist().await, Err(Error::StoreRolledBack));
    assert_eq!(
        get(&world.engine, &world.vault, "b", None).await.unwrap_err(),
        Error::StoreRolledBack
    );
    assert_eq!(
        set(&world.engine, &world.vault, "b", "x").await.unwrap_err(),
        Error::StoreRolledBack
    );
    assert!(world.restarted().await.relist().await.is_ok());
}

#[tokio::test]
async fn records_may_come_in_any_order_and_more_than_once() {
    let world = World::new().await;
    let events: Vec<_> = {
        let watch = world.store.watch(0);
        watch
            .take(world.engine.revision() as usize)
            .map(Result::unwrap)
            .collect()
            .await
    };
    let late = engine(&world.store);
    for event in events.iter().rev().chain(&events) {
        late.apply(event);
    }
    assert_eq!(late.damaged_records(), 0);
    assert_eq!(late.fill().installation, world.engine.fill().installation);
    assert_eq!(text(&get(&late, &world.vault, "a", None).await.unwrap()), "two");
    assert_eq!(names(&late, &world.vault, 25).await, ["a", "b"]);
    assert_eq!(versions(&late, &world.vault, "a").await.len(), 2);
}

#[tokio::test]
async fn a_quorum_read_that_finds_an_older_state_is_not_believed() {
    let world = World::new().await;
    let known = world.record("a").await.stamp;
    world
        .engine
        .index
        .confirm(&world.older.name, Some(&known), Some(&world.older));
    let refused = Error::RecordDamaged(Damage::RolledBack);
    let snapshot = world.engine.index.load_full();
    let vault = snapshot.vault(&VaultAddress::of(&world.vault)).unwrap();
    assert_eq!(vault.object("a").map(drop), Err(refused));
    assert!(vault.object("b").is_ok());
}

#[tokio::test]
async fn a_list_that_looks_new_and_shows_an_older_state_of_one_record_damages_that_one() {
    let world = World::new().await;
    let (mut records, revision) = world.store.list().await.unwrap();
    for record in &mut records {
        if record.name == world.older.name {
            *record = world.older.clone();
        }
    }
    assert_eq!(world.engine.damaged_records(), 0);
    // As after a restore that moved the revisions on (etcdutl snapshot restore --bump-revision).
    world.engine.replace_all(&records, revision + 1_000_000);
    assert_eq!(world.engine.damaged_records(), 1);
    world.all_but_a_works(&world.engine).await;
}

#[tokio::test]
async fn purge_protection_is_not_taken_back_with_an_older_head_of_the_vault() {
    let world = World::new().await;
    delete(&world.engine, &world.vault, "a").await.unwrap();
    let unprotected = vault_record(&world.store, &world.engine, &world.vault).await;
    let mut protected = VaultEntry::clone(&world.vault);
    protected.settings.purge_protection = Some(true);
    ensure(&world.engine, &Arc::new(protected)).await;
    world.overwrite(&unprotected.name, &unprotected.envelope).await;
    // Nobody has told this engine of it: it asks the store itself.
    let refused = Error::RecordDamaged(Damage::RolledBack);
    assert_eq!(
        purge(&world.engine, &world.vault, "a").await.unwrap_err(),
        refused
    );
    world.tell();
    assert_eq!(
        purge(&world.engine, &world.vault, "a").await.unwrap_err(),
        refused
    );
}
