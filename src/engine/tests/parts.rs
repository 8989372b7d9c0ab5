//! Heads that stay small: large values and older versions in records of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};

use super::shaky::{Dice, Fate, Mood, Shaky};
use super::support::*;
use crate::crypto::{Header, RecordType};
use crate::engine::heads::{Body, FORMAT, VersionEntry, Versions};
use crate::engine::index::VaultAddress;
use crate::engine::limits::MAX_VALUE;
use crate::engine::{Damage, Engine, Error, Quotas, Sizes, Usage};
use crate::model::{Kind, Moment, Operation, Reply, Tags, UnixSeconds, UpdateSecret, VaultEntry, Version};
use crate::store::memory::MemoryStore;
use crate::store::{Record, SealedStore};

/// Sizes under which a few short values make parts and pages.
pub(super) const SMALL: Sizes = Sizes {
    head: 1_536,
    body: 110,
    page: 4_096,
    pages: 100,
};

fn small() -> Quotas {
    Quotas {
        sizes: SMALL,
        ..Quotas::default()
    }
}

async fn replica<S: SealedStore + Clone + 'static>(store: &S) -> Engine {
    let engine = engine_with(store, small());
    engine.relist().await.unwrap();
    engine
}

fn kind(record: &Record) -> RecordType {
    Header::peek(&record.envelope).unwrap().record_type
}

async fn of_kind(store: &impl SealedStore, wanted: RecordType) -> Vec<Record> {
    let (records, _) = store.list().await.unwrap();
    records
        .into_iter()
        .filter(|record| kind(record) == wanted)
        .collect()
}

async fn head_size(store: &impl SealedStore) -> usize {
    let heads = of_kind(store, RecordType::Object).await;
    heads.iter().map(|head| head.envelope.len()).max().unwrap()
}

/// Records that belong to a head, and how many of them the heads name.
fn parts(engine: &Engine, vault: &VaultEntry) -> usize {
    let snapshot = engine.index.load_full();
    assert!(snapshot.vault(&VaultAddress::of(vault)).is_some());
    snapshot.parts().count()
}

#[tokio::test]
async fn a_large_value_lies_in_a_record_of_its_own() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(MAX_VALUE);
    let first = set(&engine, &vault, "a", &large).await.unwrap();
    set(&engine, &vault, "a", "short").await.unwrap();
    assert_eq!(of_kind(&store, RecordType::Value).await.len(), 1);
    assert!(head_size(&store).await < 2_048);
    let restarted = replica(&store).await;
    for engine in [&engine, &restarted] {
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), "short");
        assert_eq!(text(&get(engine, &vault, "a", Some(first)).await.unwrap()), large);
    }
}

/// Random sets and updates against a plain list, read back in every way, also by a replica that starts anew.
#[tokio::test]
async fn whatever_is_on_pages_reads_as_if_it_were_in_the_head() {
    for seed in 0..6 {
        let store = MemoryStore::new();
        let (engine, vault) = (engine_with(&store, small()), vault("demo"));
        ensure(&engine, &vault).await;
        let mut dice = Dice::new(seed);
        let mut expected: Vec<(Version, String, Option<String>)> = Vec::new();
        for step in 0..300 {
            if expected.is_empty() || dice.one_in(3) {
                let value = "v".repeat(dice.below(60)) + &step.to_string();
                let version = set(&engine, &vault, "a", &value).await.unwrap();
                expected.push((version, value, None));
            } else {
                let at = dice.below(expected.len());
                let update = UpdateSecret {
                    version: Some(expected[at].0),
                    content_type: Some(format!("type-{step}")),
                    ..update_of("a")
                };
                ask(&engine, &vault, Operation::UpdateSecret(update))
                    .await
                    .unwrap();
                expected[at].2 = Some(format!("type-{step}"));
            }
        }
        assert!(of_kind(&store, RecordType::Page).await.len() < 20);
        assert!(head_size(&store).await <= SMALL.head);
        let restarted = replica(&store).await;
        for engine in [&engine, &restarted] {
            assert_eq!(stored(engine, &vault, "a").versions, expected, "seed {seed}");
            let mut listed = versions(engine, &vault, "a").await;
            listed.reverse();
            assert!(listed.iter().eq(expected.iter().map(|(version, ..)| version)));
            for (version, value, _) in expected.iter().step_by(17) {
                assert_eq!(
                    text(&get(engine, &vault, "a", Some(*version)).await.unwrap()),
                    *value
                );
            }
        }
        // Nothing is left that nobody names.
        let named: usize = parts(&engine, &vault);
        let stored_parts =
            of_kind(&store, RecordType::Page).await.len() + of_kind(&store, RecordType::Value).await.len();
        assert_eq!(named, stored_parts);
        assert_eq!(engine.tidy(at(1_000)).await, Ok(0));
    }
}

/// What one change cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    bytes: usize,
    /// Removals included.
    writes: usize,
}

impl Cost {
    fn so_far(store: &Shaky) -> Self {
        Self {
            bytes: store.bytes.load(Ordering::Relaxed),
            writes: store.writes.load(Ordering::Relaxed),
        }
    }

    fn since(store: &Shaky, before: Self) -> Self {
        let now = Self::so_far(store);
        Self {
            bytes: now.bytes - before.bytes,
            writes: now.writes - before.writes,
        }
    }
}

#[tokio::test]
async fn ten_thousand_versions_cost_little_more_to_write_and_to_read_than_one() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    let sizes = Sizes::default();
    let mut tags = Tags::new();
    tags.insert("rotation".to_owned(), "nightly".to_owned());
    let (mut made, mut costs) = (Vec::new(), Vec::new());
    for i in 0..10_000 {
        let mut next = set_of("a", &format!("a value of some length, as passwords have: {i:06}"));
        next.tags = tags.clone();
        let before = Cost::so_far(&store);
        let reply = ask(&engine, &vault, Operation::SetSecret(next)).await.unwrap();
        costs.push(Cost::since(&store, before));
        let Reply::Secret(secret) = reply else { panic!() };
        made.push(secret.version);
    }
    // Nearly every change is one write of one head; some write a page as well, few merge pages.
    let plain = |cost: &&Cost| cost.writes == 1 && cost.bytes <= sizes.head;
    let plain = costs.iter().filter(plain).count();
    assert!(plain > 9_000, "{plain} changes were one write");
    let of = |range: std::ops::Range<usize>| {
        let some = &costs[range];
        let bytes: usize = some.iter().map(|cost| cost.bytes).sum();
        let writes: usize = some.iter().map(|cost| cost.writes).sum();
        (bytes / some.len(), writes * 100 / some.len())
    };
    let (first, last, all) = (of(1_000..2_000), of(9_000..10_000), of(0..10_000));
    assert!(
        all.0 < sizes.head && all.1 < 120,
        "bytes of a change, writes of a hundred: {all:?}"
    );
    assert!(
        last.0 < first.0 * 2 && last.1 < 130,
        "{first:?}, and later {last:?}"
    );
    let most = costs.iter().max().unwrap();
    assert!(most.bytes < 2 * sizes.page && most.writes <= 20, "{most:?}");
    assert!(head_size(&store.inner).await <= sizes.head);
    let pages = of_kind(&store.inner, RecordType::Page).await.len();
    assert!(pages <= 40, "{pages} pages");
    assert_eq!(
        set(&engine, &vault, "a", "x").await.unwrap_err(),
        Error::TooManyVersions { limit: 10_000 }
    );

    let restarted = replica(&store).await;
    let asked = store.gets.load(Ordering::Relaxed);
    for engine in [&engine, &restarted] {
        for at in [9_999, 0, 1, 4_999, 9_998] {
            let read = get(engine, &vault, "a", Some(made[at])).await.unwrap();
            assert!(text(&read).ends_with(&format!("{at:06}")));
        }
        let listed = versions(engine, &vault, "a").await;
        assert!(listed.iter().eq(made.iter().rev()), "400 pages of 25");
    }
    let gets = store.gets.load(Ordering::Relaxed);
    assert_eq!(gets, asked, "a replica that has listed asks the store no more");

    let before = Cost::so_far(&store);
    let update = UpdateSecret {
        version: Some(made[17]),
        content_type: Some("new".to_owned()),
        ..update_of("a")
    };
    ask(&restarted, &vault, Operation::UpdateSecret(update))
        .await
        .unwrap();
    let cost = Cost::since(&store, before);
    assert!(
        cost.bytes < sizes.head + sizes.page && cost.writes <= 20,
        "{cost:?}"
    );
}

/// Whatever is changed goes onto a page at once.
fn paging() -> Quotas {
    let sizes = Sizes { head: 1, ..SMALL };
    Quotas { sizes, ..small() }
}

/// Nothing ever goes onto a page.
fn roomy() -> Quotas {
    let sizes = Sizes {
        head: 512 * 1024,
        ..SMALL
    };
    Quotas { sizes, ..small() }
}

/// Makes a change whose part is written well, and whose head is written and said to be refused; other changes follow before
/// that is looked at, so many that the head knows nothing of it any more.
async fn refused_and_done_long_ago(
    store: &Shaky,
    (engine, other): (&Engine, &Engine),
    vault: &Arc<VaultEntry>,
    operation: Operation,
) -> Reply {
    let head = || async { of_kind(&store.inner, RecordType::Object).await.remove(0).stamp };
    let before = head().await;
    store.set_mood(Mood::After(1, Fate::DoneAndRefused));
    let mut late = Box::pin(ask(engine, vault, operation));
    while head().await == before {
        assert!(late.as_mut().now_or_never().is_none(), "it is not answered yet");
    }
    store.set_mood(Mood::Calm);
    for i in 0..60 {
        set(other, vault, "a", &i.to_string()).await.unwrap();
    }
    late.await.unwrap()
}

/// Versions that every replica can read, from the newest to the oldest.
async fn readable(engines: &[&Engine], vault: &Arc<VaultEntry>) -> Vec<Version> {
    let listed = versions(engines[0], vault, "a").await;
    for engine in engines {
        assert_eq!(versions(engine, vault, "a").await, listed);
        for version in &listed {
            get(engine, vault, "a", Some(*version)).await.unwrap();
        }
    }
    listed
}

#[tokio::test]
async fn parts_of_a_write_that_was_refused_and_done_long_ago_stay() {
    // A value, which lies on a page by then, in a part of its own: it is not written twice.
    let store = Shaky::new(1, Mood::Calm);
    let (engine, other) = (engine_with(&store, small()), engine_with(&store.inner, small()));
    let vault = vault("demo");
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", &"x".repeat(200)).await.unwrap();
    let large = "y".repeat(200);
    let second = Operation::SetSecret(set_of("a", &large));
    let told = refused_and_done_long_ago(&store, (&engine, &other), &vault, second).await;
    let Reply::Secret(second) = told else { panic!() };
    let read = get(&engine, &vault, "a", Some(second.version)).await.unwrap();
    assert_eq!(text(&read), large);
    let restarted = replica(&store.inner).await;
    let listed = readable(&[&engine, &restarted], &vault).await;
    assert_eq!((listed.len(), listed[60]), (62, second.version));

    // A page, of which nothing but the head says that it belongs to it.
    let store = Shaky::new(1, Mood::Calm);
    let (engine, other) = (engine_with(&store, paging()), engine_with(&store.inner, roomy()));
    ensure(&engine, &vault).await;
    let first = set(&engine, &vault, "a", "one").await.unwrap();
    set(&engine, &vault, "a", "two").await.unwrap();
    let update = Operation::UpdateSecret(UpdateSecret {
        version: Some(first),
        content_type: Some("new".to_owned()),
        ..update_of("a")
    });
    let told = refused_and_done_long_ago(&store, (&engine, &other), &vault, update).await;
    assert!(matches!(told, Reply::Secret(secret) if secret.content_type.as_deref() == Some("new")));
    assert!(of_kind(&store.inner, RecordType::Page).await.len() >= 2);
    let restarted = replica(&store.inner).await;
    assert_eq!(readable(&[&engine, &restarted], &vault).await.len(), 62);
    assert_eq!(
        stored(&restarted, &vault, "a").versions[0].2.as_deref(),
        Some("new")
    );
}

#[tokio::test]
async fn a_replica_that_lags_reads_what_it_lacks_from_the_store() {
    let store = Shaky::new(1, Mood::Calm);
    let (writer, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&writer, &vault).await;
    let large = "x".repeat(200);
    let mut made = Vec::new();
    for i in 0..30 {
        let value = if i % 3 == 0 { large.clone() } else { i.to_string() };
        made.push(set(&writer, &vault, "a", &value).await.unwrap());
    }
    // Knows nothing but what it asks for.
    let late = engine_with(&store, small());
    assert_eq!(
        text(&get(&late, &vault, "a", Some(made[0])).await.unwrap()),
        large
    );
    assert_eq!(text(&get(&late, &vault, "a", Some(made[1])).await.unwrap()), "1");
    assert_eq!(versions(&late, &vault, "a").await.len(), 30);
    let missing = get(&late, &vault, "a", Some(Version([9; 16]))).await.unwrap_err();
    assert!(matches!(missing, Error::SecretVersionNotFound { .. }));
    let before = store.gets.load(Ordering::Relaxed);
    get(&late, &vault, "a", Some(made[1])).await.unwrap();
    assert_eq!(store.gets.load(Ordering::Relaxed), before, "it knows by now");
    // Pages that it knows are merged meanwhile.
    for i in 30..90 {
        made.push(set(&writer, &vault, "a", &i.to_string()).await.unwrap());
    }
    assert_eq!(
        text(&get(&late, &vault, "a", Some(made[31])).await.unwrap()),
        "31"
    );
    let update = UpdateSecret {
        version: Some(made[2]),
        content_type: Some("new".to_owned()),
        ..update_of("a")
    };
    let third = engine_with(&store, small());
    ask(&third, &vault, Operation::UpdateSecret(update))
        .await
        .unwrap();
    for engine in [&writer, &late, &third] {
        tell(&store, engine);
        assert_eq!(stored(engine, &vault, "a").versions.len(), 90);
        assert_eq!(stored(engine, &vault, "a").versions[2].2.as_deref(), Some("new"));
        assert_eq!(engine.damaged_records(), 0);
        assert_eq!(engine.fill().installation, writer.fill().installation);
    }
}

#[tokio::test]
async fn nobody_else_waits_while_pages_are_put_together() {
    let store = MemoryStore::new();
    let (writer, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&writer, &vault).await;
    let first = set(&writer, &vault, "a", "one").await.unwrap();
    for i in 0..40 {
        set(&writer, &vault, "a", &i.to_string()).await.unwrap();
    }
    set(&writer, &vault, "b", "other").await.unwrap();
    let cold = replica(&store).await;
    let busy = cold.aside.stop();
    let mut old = Box::pin(get(&cold, &vault, "a", Some(first)));
    for _ in 0..10 {
        assert!(old.as_mut().now_or_never().is_none(), "it waits for its turn");
    }
    assert_eq!(text(&get(&cold, &vault, "a", None).await.unwrap()), "39");
    assert_eq!(text(&get(&cold, &vault, "b", None).await.unwrap()), "other");
    assert_eq!(names(&cold, &vault, 25).await, ["a", "b"]);
    drop(busy);
    assert_eq!(text(&old.await.unwrap()), "one");
}

#[tokio::test]
async fn a_replica_that_follows_opens_only_pages_that_are_new_to_it() {
    let store = MemoryStore::new();
    let (writer, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&writer, &vault).await;
    let follower = replica(&store).await;
    let mut feed = store.watch(0);
    let first = set(&writer, &vault, "a", "one").await.unwrap();
    let mut opened = 0;
    for i in 0..200 {
        if i % 7 == 6 {
            let update = UpdateSecret {
                version: Some(first),
                content_type: Some(i.to_string()),
                ..update_of("a")
            };
            ask(&writer, &vault, Operation::UpdateSecret(update))
                .await
                .unwrap();
        } else {
            set(&writer, &vault, "a", &i.to_string()).await.unwrap();
        }
        while let Some(Some(event)) = feed.next().now_or_never() {
            follower.apply(&event.unwrap());
        }
        let unknown = {
            let snapshot = follower.index.load_full();
            let found = snapshot.vault(&VaultAddress::of(&vault)).unwrap();
            let head = &found.object("a").unwrap().unwrap().head;
            head.secret.as_ref().unwrap().versions.unknown_pages().1.len()
        };
        assert!(unknown <= 1, "{i}: {unknown} pages after one change");
        opened += unknown;
        get(&follower, &vault, "a", Some(first)).await.unwrap();
    }
    assert!(opened > 10, "{opened}");
    let (of_writer, of_follower) = (stored(&writer, &vault, "a"), stored(&follower, &vault, "a"));
    assert_eq!(of_follower.versions, of_writer.versions);
    assert_eq!(
        of_follower.versions,
        stored(&replica(&store).await, &vault, "a").versions
    );
}

#[tokio::test]
async fn a_part_that_was_changed_moved_or_removed_fails_its_own_version_alone() {
    for harm in 0..3 {
        let store = MemoryStore::new();
        let (engine, vault) = (engine_with(&store, small()), vault("demo"));
        ensure(&engine, &vault).await;
        let large = "x".repeat(200);
        let harmed = set(&engine, &vault, "a", &large).await.unwrap();
        let part = of_kind(&store, RecordType::Value).await.remove(0);
        let good = set(&engine, &vault, "a", &"y".repeat(200)).await.unwrap();
        let other = of_kind(&store, RecordType::Value).await;
        let other = other.iter().find(|record| record.name != part.name).unwrap();
        let expected = match harm {
            0 => {
                let mut envelope = part.envelope.to_vec();
                envelope[100] ^= 1;
                store
                    .update(&part.name, &part.stamp, envelope.into())
                    .await
                    .unwrap();
                Damage::DoesNotOpen
            }
            1 => {
                let envelope = other.envelope.clone();
                store.update(&part.name, &part.stamp, envelope).await.unwrap();
                Damage::DoesNotOpen
            }
            _ => {
                store.delete(&part.name, &part.stamp).await.unwrap();
                Damage::Vanished
            }
        };
        tell(&store, &engine);
        for engine in [&engine, &replica(&store).await] {
            let refused = get(engine, &vault, "a", Some(harmed)).await.unwrap_err();
            assert_eq!(refused, Error::RecordDamaged(expected), "{harm}");
            assert_eq!(
                text(&get(engine, &vault, "a", Some(good)).await.unwrap()),
                "y".repeat(200)
            );
            assert_eq!(engine.damaged_records(), usize::from(harm < 2));
            set(engine, &vault, "b", "x").await.unwrap();
        }
        set(&engine, &vault, "a", "still writable").await.unwrap();
    }
}

#[tokio::test]
async fn parts_of_another_secret_or_life_are_not_taken_for_ones_own() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(200);
    set(&engine, &vault, "a", &large).await.unwrap();
    let old = of_kind(&store, RecordType::Value).await.remove(0);
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    assert!(of_kind(&store, RecordType::Value).await.is_empty());
    // Put back under its old name it is worth nothing, and it is collected.
    store.create(&old.name, old.envelope).await.unwrap();
    set(&engine, &vault, "a", "anew").await.unwrap();
    tell(&store, &engine);
    assert_eq!(parts(&engine, &vault), 1);
    let later = |minutes| Moment {
        monotonic: Instant::now() + Duration::from_mins(minutes),
        ..at(1_000)
    };
    assert_eq!(engine.tidy(later(0)).await, Ok(0));
    assert_eq!(engine.tidy(later(11)).await, Ok(1));
    assert_eq!(parts(&engine, &vault), 0);
    assert_eq!(text(&get(&engine, &vault, "a", None).await.unwrap()), "anew");
}

#[tokio::test]
async fn what_a_crash_left_between_part_and_head_is_collected_after_ten_minutes_and_nothing_else() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(200);
    set(&engine, &vault, "a", &large).await.unwrap();
    // The part is written, the head is not.
    store.set_mood(Mood::After(1, Fate::Away));
    assert!(set(&engine, &vault, "a", &large).await.is_err());
    assert!(set(&engine, &vault, "new", &large).await.is_err());
    store.set_mood(Mood::Calm);
    store.set_mood(Mood::After(1, Fate::Away));
    assert!(set(&engine, &vault, "new", &large).await.is_err());
    store.set_mood(Mood::Calm);
    let restarted = replica(&store).await;
    assert_eq!(of_kind(&store.inner, RecordType::Value).await.len(), 3);
    let start = at(1_000);
    let later = |minutes| Moment {
        monotonic: start.monotonic + Duration::from_mins(minutes),
        ..start
    };
    for (minutes, removed) in [(0, 0), (9, 0), (10, 2), (30, 0)] {
        assert_eq!(restarted.tidy(later(minutes)).await, Ok(removed), "{minutes}");
    }
    assert_eq!(of_kind(&store.inner, RecordType::Value).await.len(), 1);
    tell(&store, &engine);
    for engine in [&engine, &restarted] {
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), large);
        assert_eq!(versions(engine, &vault, "a").await.len(), 1);
        assert!(get(engine, &vault, "new", None).await.is_err());
    }
}

#[tokio::test]
async fn a_part_whose_head_was_not_heard_of_yet_is_no_orphan() {
    let store = MemoryStore::new();
    let (writer, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&writer, &vault).await;
    let late = replica(&store).await;
    let version = set(&writer, &vault, "a", &"x".repeat(200)).await.unwrap();
    // The feed told of the part, and then stalled for an hour.
    let part = of_kind(&store, RecordType::Value).await.remove(0);
    late.apply(&crate::store::StoreEvent::Put(part));
    assert_eq!(parts(&late, &vault), 1);
    let later = |minutes| Moment {
        monotonic: Instant::now() + Duration::from_mins(minutes),
        ..at(1_000)
    };
    assert_eq!(late.tidy(later(0)).await, Ok(0));
    assert_eq!(late.tidy(later(60)).await, Ok(0));
    assert_eq!(of_kind(&store, RecordType::Value).await.len(), 1);
    get(&late, &vault, "a", Some(version)).await.unwrap();
}

#[tokio::test]
async fn a_head_that_stood_still_while_its_parts_were_collected_does_not_come_through() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(200);
    let first = set(&engine, &vault, "a", &large).await.unwrap();
    for secret in ["a", "new"] {
        // The part is there, the head is on its way.
        store.set_mood(Mood::After(1, Fate::Late));
        let refused = set(&engine, &vault, secret, &large).await.unwrap_err();
        assert_eq!(refused, Error::OutcomeUnknown);
    }
    store.set_mood(Mood::Calm);
    let later = |minutes| Moment {
        monotonic: Instant::now() + Duration::from_mins(minutes),
        ..at(1_000)
    };
    let other = replica(&store).await;
    assert_eq!(other.tidy(later(0)).await, Ok(0));
    assert_eq!(other.tidy(later(11)).await, Ok(2));
    while store.land(0) {}
    tell(&store, &engine);
    for engine in [&engine, &replica(&store).await] {
        assert_eq!(text(&get(engine, &vault, "a", None).await.unwrap()), large);
        assert_eq!(versions(engine, &vault, "a").await, [first]);
        let missing = get(engine, &vault, "new", None).await.unwrap_err();
        assert!(matches!(missing, Error::SecretNotFound { .. }), "{missing:?}");
        assert_eq!(engine.damaged_records(), 0);
    }
    // What was still on its way as a part alone goes as well, and the name is as free as it was.
    let last = replica(&store).await;
    assert_eq!(last.tidy(later(0)).await, Ok(0));
    last.tidy(later(11)).await.unwrap();
    assert_eq!(parts(&last, &vault), 1);
    set(&last, &vault, "new", &large).await.unwrap();
    assert_eq!(text(&get(&last, &vault, "new", None).await.unwrap()), large);
}

#[tokio::test]
async fn parts_of_a_head_that_this_version_cannot_read_are_kept() {
    for newer in [false, true] {
        let store = MemoryStore::new();
        let (engine, vault) = (engine_with(&store, small()), vault("demo"));
        ensure(&engine, &vault).await;
        let large = "x".repeat(200);
        set(&engine, &vault, "a", &large).await.unwrap();
        let good = of_kind(&store, RecordType::Object).await.remove(0);
        let envelope: Bytes = if newer {
            // It names its part in a place that this version passes over.
            let snapshot = engine.index.load_full();
            let found = snapshot.vault(&VaultAddress::of(&vault)).unwrap();
            let mut head = found.object("a").unwrap().unwrap().head.clone();
            let state = head.secret.as_mut().unwrap();
            let newest = VersionEntry {
                body: Body::Inline(Bytes::new()),
                ..VersionEntry::clone(state.versions.newest())
            };
            state.versions = Versions::first(newest);
            head.format = FORMAT + 1;
            head.rev += 1;
            let content = head.encode().unwrap();
            let uuid = found.head.uuid;
            engine
                .seals
                .seal_object(uuid, found.key().unwrap(), &good.name, &head, &content)
                .unwrap()
        } else {
            let mut bent = good.envelope.to_vec();
            bent[100] ^= 1;
            bent.into()
        };
        store.update(&good.name, &good.stamp, envelope).await.unwrap();
        let restarted = replica(&store).await;
        let later = |minutes| Moment {
            monotonic: Instant::now() + Duration::from_mins(minutes),
            ..at(1_000)
        };
        for minutes in [0, 11, 60] {
            assert_eq!(restarted.tidy(later(minutes)).await, Ok(0), "{newer} {minutes}");
        }
        assert_eq!(of_kind(&store, RecordType::Value).await.len(), 1, "{newer}");
        // Put right, it is read as before.
        let bent = store.get(&good.name).await.unwrap().unwrap();
        store
            .update(&bent.name, &bent.stamp, good.envelope)
            .await
            .unwrap();
        let restarted = replica(&store).await;
        assert_eq!(text(&get(&restarted, &vault, "a", None).await.unwrap()), large);
    }
}

#[tokio::test]
async fn a_head_in_a_form_of_a_newer_version_is_refused_clearly_and_nothing_of_it_is_harmed() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(200);
    let version = set(&engine, &vault, "a", &large).await.unwrap();
    let good = of_kind(&store, RecordType::Object).await.remove(0);
    set(&engine, &vault, "b", "of a form that all know")
        .await
        .unwrap();
    let write = |rev, content: Option<&'static [u8]>| {
        let snapshot = engine.index.load_full();
        let found = snapshot.vault(&VaultAddress::of(&vault)).unwrap();
        let mut head = found.objects.get("a").unwrap().head.clone();
        head.rev = rev;
        let content = content.map_or_else(|| head.encode().unwrap(), <[u8]>::to_vec);
        let (uuid, key) = (found.head.uuid, found.key().unwrap());
        engine
            .seals
            .seal_object(uuid, key, &good.name, &head, &content)
            .unwrap()
    };
    // Writers and readers must know format 4; nothing else of it is understood.
    assert_eq!(FORMAT, 3);
    let newer = write(2, Some(&[0xa2, 0x00, 0x04, 0x08, 0x04]));
    let stamp = store.update(&good.name, &good.stamp, newer).await.unwrap();
    tell(&store, &engine);
    let restarted = replica(&store).await;
    for engine in [&engine, &restarted] {
        let page = page(25, None);
        let refusals = [
            get(engine, &vault, "a", None).await.map(drop),
            get(engine, &vault, "a", Some(version)).await.map(drop),
            list_versions(engine, &vault, "a", page).await.map(drop),
            set(engine, &vault, "a", "next").await.map(drop),
            delete(engine, &vault, "a").await.map(drop),
            get_deleted(engine, &vault, "a").await.map(drop),
            recover(engine, &vault, "a").await.map(drop),
            purge(engine, &vault, "a").await.map(drop),
            backup(engine, &vault, "a").await.map(drop),
        ];
        for refusal in refusals {
            let refusal = refusal.unwrap_err();
            assert_eq!(
                (refusal.kind(), &refusal),
                (Kind::Unavailable, &Error::NewerFormat)
            );
        }
        assert_eq!(
            (
                engine.damaged_records(),
                engine.summaries(UnixSeconds(0))[0].damaged
            ),
            (0, 0)
        );
        set(engine, &vault, "b", "still writable").await.unwrap();
        for minutes in [0, 11, 22] {
            let later = Moment {
                monotonic: Instant::now() + Duration::from_mins(minutes),
                ..at(1_000)
            };
            assert_eq!(engine.tidy(later).await, Ok(0), "{minutes}");
        }
    }
    // Once it needs nothing newer any more, all know it again.
    store.update(&good.name, &stamp, write(3, None)).await.unwrap();
    for engine in [&engine, &restarted] {
        tell(&store, engine);
        assert_eq!(
            text(&get(engine, &vault, "a", Some(version)).await.unwrap()),
            large
        );
        set(engine, &vault, "a", "next").await.unwrap();
        tell(&store, engine);
    }
}

#[tokio::test]
async fn a_head_that_was_written_and_is_said_to_be_refused_keeps_its_parts() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    for (secret, count) in [("a", 1), ("a", 2), ("b", 1)] {
        store.set_mood(Mood::After(1, Fate::DoneAndRefused));
        let made = set(&engine, &vault, secret, &"x".repeat(200)).await.unwrap();
        store.set_mood(Mood::Calm);
        assert_eq!(versions(&engine, &vault, secret).await.len(), count);
        let restarted = replica(&store).await;
        let read = get(&restarted, &vault, secret, Some(made)).await.unwrap();
        assert_eq!(text(&read), "x".repeat(200));
    }
}

/// Secret "a" with values of both sizes and with pages, deleted; and secret "b".
async fn before_a_purge() -> (Shaky, Engine, Arc<VaultEntry>) {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    for i in 0..20 {
        let value = if i % 3 == 0 {
            "x".repeat(200)
        } else {
            i.to_string()
        };
        set(&engine, &vault, "a", &value).await.unwrap();
    }
    set(&engine, &vault, "b", &"y".repeat(200)).await.unwrap();
    delete(&engine, &vault, "a").await.unwrap();
    (store, engine, vault)
}

/// How many values and pages there are.
async fn counts(store: &Shaky) -> (usize, usize) {
    let values = of_kind(&store.inner, RecordType::Value).await.len();
    (values, of_kind(&store.inner, RecordType::Page).await.len())
}

/// What an interrupted purge of "a" left is in order: nothing is removed before there is no way back, and no page before all
/// values that it may name. Ended by another replica, it leaves nothing.
async fn ends_well(store: &Shaky, engines: &[&Engine], vault: &Arc<VaultEntry>, whole: (usize, usize)) {
    let second = replica(store).await;
    let (values, pages) = counts(store).await;
    match stored(&second, vault, "a").life {
        Life::Deleted => assert_eq!((values, pages), whole),
        Life::Purging => assert!(values == 1 || pages == whole.1, "{values} {pages}"),
        Life::Absent => assert_eq!((values, pages), (1, 0)),
        Life::Live => panic!("it is back"),
    }
    if stored(&second, vault, "a").life != Life::Absent {
        assert!(matches!(purge(&second, vault, "a").await, Ok(Reply::Purged)));
    }
    // Whatever was still on its way comes too late.
    while store.land(0) {}
    assert_eq!(counts(store).await, (1, 0), "b's own");
    let (records, _) = store.inner.list().await.unwrap();
    assert_eq!(
        records.len(),
        4,
        "the vault, b and its value, and the receipt of a"
    );
    for engine in engines.iter().copied().chain([&second]) {
        tell(store, engine);
        assert_eq!(parts(engine, vault), 1);
        let read = get(engine, vault, "b", None).await.unwrap();
        assert_eq!(text(&read), "y".repeat(200));
    }
    // The receipt goes a day later, and then nothing is left.
    let later = |hours| Moment {
        monotonic: Instant::now() + Duration::from_hours(hours),
        ..at(1_000 + 86_400)
    };
    assert_eq!(second.tidy(later(0)).await, Ok(0));
    assert_eq!(second.tidy(later(1)).await, Ok(1));
    assert_eq!(store.inner.list().await.unwrap().0.len(), 3);
    for engine in engines.iter().copied().chain([&second]) {
        tell(store, engine);
        set(engine, vault, "a", &"anew".repeat(50)).await.unwrap();
        tell(store, engine);
    }
}

#[tokio::test]
async fn a_purge_leaves_nothing_whatever_becomes_of_each_of_its_writes() {
    let (store, engine, vault) = before_a_purge().await;
    let (whole, before) = (counts(&store).await, store.writes.load(Ordering::Relaxed));
    assert!(whole.0 > 5 && whole.1 > 0, "{whole:?}");
    purge(&engine, &vault, "a").await.unwrap();
    let writes = store.writes.load(Ordering::Relaxed) - before;
    assert!(
        writes > whole.0 + whole.1,
        "a mark, all parts but b's, and the receipt"
    );
    for fate in [Fate::Away, Fate::LostOnTheWay, Fate::LostOnTheWayBack, Fate::Late] {
        for after in 0..writes {
            let (store, engine, vault) = before_a_purge().await;
            store.set_mood(Mood::After(after, fate));
            let told = purge(&engine, &vault, "a").await;
            store.set_mood(Mood::Calm);
            assert!(
                fate == Fate::LostOnTheWayBack || told.is_err(),
                "{fate:?} {after}"
            );
            ends_well(&store, &[&engine], &vault, whole).await;
        }
    }
}

#[tokio::test]
async fn a_purge_leaves_nothing_wherever_it_was_cut_off() {
    for polls in 0.. {
        let (store, engine, vault) = before_a_purge().await;
        let whole = counts(&store).await;
        let mut running = Box::pin(tokio::task::unconstrained(purge(&engine, &vault, "a")));
        let ended = (0..polls).any(|_| running.as_mut().now_or_never().is_some());
        drop(running);
        ends_well(&store, &[&engine], &vault, whole).await;
        if ended {
            assert!(polls > 10, "it has as many steps");
            return;
        }
    }
}

#[tokio::test]
async fn a_part_that_was_on_its_way_while_its_secret_was_purged_goes_as_well() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", "short").await.unwrap();
    store.set_mood(Mood::Always(Fate::Late));
    set(&engine, &vault, "a", &"x".repeat(200)).await.unwrap_err();
    store.set_mood(Mood::Calm);
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    while store.land(0) {}
    tell(&store, &engine);
    assert_eq!((counts(&store).await, parts(&engine, &vault)), ((1, 0), 1));
    let later = |minutes| Moment {
        monotonic: Instant::now() + Duration::from_mins(minutes),
        ..at(1_000)
    };
    assert_eq!(engine.tidy(later(0)).await, Ok(0));
    assert_eq!(engine.tidy(later(11)).await, Ok(1));
    let (records, _) = store.inner.list().await.unwrap();
    assert_eq!(records.len(), 2, "the vault, and the receipt of a");
}

#[tokio::test]
async fn what_is_as_large_as_it_may_be_is_still_disabled_deleted_and_purged() {
    let store = MemoryStore::new();
    let sizes = Sizes {
        page: 1_024,
        pages: 4,
        ..SMALL
    };
    let quotas = Quotas { sizes, ..small() };
    let (engine, vault) = (engine_with(&store, quotas), vault("demo"));
    ensure(&engine, &vault).await;
    let refused = loop {
        if let Err(refused) = set(&engine, &vault, "a", "x").await {
            break refused;
        }
    };
    assert!(matches!(refused, Error::HeadTooLarge { .. }), "{refused:?}");
    let made = versions(&engine, &vault, "a").await;
    for version in made.iter().step_by(5) {
        let mut update = update_of("a");
        update.version = Some(*version);
        update.attributes.enabled = Some(false);
        ask(&engine, &vault, Operation::UpdateSecret(update))
            .await
            .unwrap();
    }
    for (at, version) in made.iter().enumerate() {
        let read = get(&engine, &vault, "a", Some(*version)).await;
        assert_eq!(read.err(), (at % 5 == 0).then_some(Error::SecretDisabled), "{at}");
    }
    delete(&engine, &vault, "a").await.unwrap();
    recover(&engine, &vault, "a").await.unwrap();
    assert_eq!(versions(&replica(&store).await, &vault, "a").await, made);
    delete(&engine, &vault, "a").await.unwrap();
    purge(&engine, &vault, "a").await.unwrap();
    let (records, _) = store.list().await.unwrap();
    assert_eq!(records.len(), 2, "the vault, and the receipt");
}

#[tokio::test]
async fn pages_that_are_merged_again_and_again_are_not_taken_for_lost() {
    let quotas = Quotas {
        sizes: Sizes {
            page: Sizes::default().page,
            ..paging().sizes
        },
        ..Quotas::default()
    };
    let store = Shaky::new(1, Mood::Calm);
    let (writer, vault) = (engine_with(&store.inner, quotas), vault("demo"));
    ensure(&writer, &vault).await;
    let first = set(&writer, &vault, "a", "one").await.unwrap();
    set(&writer, &vault, "a", "two").await.unwrap();
    // It knows heads only, and asks the store for each page.
    let late = engine_with(&store, quotas);
    for kind in [RecordType::Vault, RecordType::Object] {
        for record in of_kind(&store.inner, kind).await {
            late.apply(&crate::store::StoreEvent::Put(record));
        }
    }
    let head = || async { of_kind(&store.inner, RecordType::Object).await.remove(0) };
    let mut reading = Box::pin(tokio::task::unconstrained(get(&late, &vault, "a", Some(first))));
    // Whenever it asks and has the newest head, all pages that this names are merged before it gets an answer.
    let (mut asked, mut due) = (0, vec![600, 70, 10]);
    let told = loop {
        if let Some(told) = reading.as_mut().now_or_never() {
            break told;
        }
        let (head, gets) = (head().await, store.gets.load(Ordering::Relaxed));
        let newest = late.index.load().stamp(&head.name) == Some(&head.stamp);
        if gets > asked
            && newest
            && let Some(sets) = due.pop()
        {
            let before = of_kind(&store.inner, RecordType::Page).await;
            for i in 0..sets {
                set(&writer, &vault, "a", &i.to_string()).await.unwrap();
            }
            let after = of_kind(&store.inner, RecordType::Page).await;
            let kept = after
                .iter()
                .any(|page| before.iter().any(|other| other.name == page.name));
            assert!(!kept, "all pages were merged");
        }
        asked = gets;
    };
    assert!(due.is_empty(), "{due:?}");
    assert_eq!(text(&told.unwrap()), "one");
    assert_eq!(late.damaged_records(), 0);
}

#[tokio::test]
async fn parts_count_against_the_quotas() {
    let quotas = Quotas {
        vault: Usage {
            bytes: 60 * 1024,
            records: 5,
        },
        ..Quotas::default()
    };
    let store = MemoryStore::new();
    let (engine, vault) = (engine_with(&store, quotas), vault("demo"));
    ensure(&engine, &vault).await;
    let large = "x".repeat(MAX_VALUE);
    set(&engine, &vault, "a", &large).await.unwrap();
    set(&engine, &vault, "a", &large).await.unwrap();
    let refusal = set(&engine, &vault, "a", &large).await.unwrap_err();
    assert!(matches!(refusal, Error::QuotaExceeded { .. }), "{refusal:?}");
    let (records, _) = store.list().await.unwrap();
    let bytes: usize = records.iter().map(|record| record.envelope.len()).sum();
    assert_eq!(engine.fill().installation.bytes, bytes as u64);
    assert_eq!(engine.fill().installation.records, 4, "vault, head, two values");
    set(&engine, &vault, "a", "short").await.unwrap();
}

/// A head as an older version wrote it: everything inline, however much.
#[tokio::test]
async fn a_long_head_of_an_older_version_is_read_and_made_small_by_the_next_write() {
    let store = MemoryStore::new();
    let huge = Quotas {
        sizes: Sizes {
            head: 512 * 1024,
            body: 64 * 1024,
            ..Sizes::default()
        },
        ..Quotas::default()
    };
    let (old, vault) = (engine_with(&store, huge), vault("demo"));
    ensure(&old, &vault).await;
    let mut expected = BTreeMap::new();
    for i in 0..120 {
        let value = if i % 10 == 0 {
            "x".repeat(10_000)
        } else {
            i.to_string()
        };
        expected.insert(set(&old, &vault, "a", &value).await.unwrap(), value);
    }
    assert!(of_kind(&store, RecordType::Page).await.is_empty());
    let new = engine(&store);
    new.relist().await.unwrap();
    for _ in 0..2 {
        for (version, value) in &expected {
            assert_eq!(
                text(&get(&new, &vault, "a", Some(*version)).await.unwrap()),
                *value
            );
        }
        expected.insert(set(&new, &vault, "a", "next").await.unwrap(), "next".to_owned());
        assert!(head_size(&store).await <= Sizes::default().head);
    }
    assert_eq!(of_kind(&store, RecordType::Value).await.len(), 12);
    assert_eq!(versions(&new, &vault, "a").await.len(), 122);
}

#[tokio::test]
async fn tags_of_the_greatest_size_are_kept_for_every_version() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    let tags: Tags = (0..15).map(|i| (format!("{i:0>512}"), "ä".repeat(512))).collect();
    for i in 0..40 {
        let mut next = set_of("a", &i.to_string());
        next.tags = tags.clone();
        ask(&engine, &vault, Operation::SetSecret(next)).await.unwrap();
    }
    let restarted = replica(&store).await;
    for engine in [&engine, &restarted] {
        let page = list_versions(engine, &vault, "a", page(25, None)).await.unwrap();
        assert!(page.items.iter().all(|item| *item.tags == tags));
        assert_eq!(versions(engine, &vault, "a").await.len(), 40);
    }
    set(&engine, &vault, "a", "short again").await.unwrap();
    assert!(head_size(&store).await <= Sizes::default().head);
    let summary = &engine.summaries(UnixSeconds(0))[0];
    assert_eq!(summary.secrets, 1);
}

#[tokio::test]
async fn a_part_whose_answer_was_lost_is_written_once() {
    for fate in [Fate::LostOnTheWayBack, Fate::LostOnTheWay, Fate::Late] {
        let store = Shaky::new(1, Mood::Calm);
        let (engine, vault) = (engine_with(&store, small()), vault("demo"));
        ensure(&engine, &vault).await;
        store.set_mood(Mood::Once(fate));
        let version = set(&engine, &vault, "a", &"x".repeat(200)).await.unwrap();
        while store.land(0) {}
        assert_eq!(
            of_kind(&store.inner, RecordType::Value).await.len(),
            1,
            "{fate:?}"
        );
        assert_eq!(versions(&engine, &vault, "a").await, [version]);
    }
}

fn arc(vault: &VaultEntry) -> Arc<VaultEntry> {
    Arc::new(vault.clone())
}

#[tokio::test]
async fn a_backup_of_what_lies_on_pages_is_whole() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine_with(&store, small()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut second = VaultEntry::clone(&super::support::vault("second"));
    second.uid = crate::model::Uid::new("second-resource");
    let second = arc(&second);
    ensure(&engine, &second).await;
    for i in 0..60 {
        let value = if i % 3 == 0 {
            "x".repeat(200)
        } else {
            i.to_string()
        };
        set(&engine, &vault, "a", &value).await.unwrap();
    }
    // By a replica that knows nothing yet.
    let late = engine_with(&store, small());
    let blob = backup(&late, &vault, "a").await.unwrap();
    restore(&late, &second, &blob).await.unwrap();
    assert_eq!(
        stored(&late, &second, "a").versions,
        stored(&engine, &vault, "a").versions
    );
    assert!(head_size(&store).await <= SMALL.head);
}
