//! Replicas that hold two versions of the root key, and one that is behind and holds the first alone.

use std::sync::Arc;

use super::support::*;
use crate::crypto::RootKey;
use crate::engine::{Engine, Quotas};
use crate::model::{EnsureVault, Operation, SecretBytes};
use crate::store::memory::MemoryStore;

fn version(number: u8) -> RootKey {
    RootKey::of_version(&SecretBytes::new(vec![number; 32]), number.into()).unwrap()
}

/// A replica that seals under the first of these versions and opens under all, and has read what is there.
async fn replica(store: &MemoryStore, current: u8, other: Option<u8>) -> Engine {
    let root = match other {
        Some(other) => version(current).beside(&version(other)).unwrap(),
        None => version(current),
    };
    let engine = engine_under(store, Arc::new(root), Quotas::default());
    engine.relist().await.unwrap();
    engine
}

#[tokio::test]
async fn what_was_written_under_one_version_is_read_and_changed_under_the_next_and_back() {
    let (store, demo, second) = (MemoryStore::new(), vault("demo"), vault("second"));
    let large = "x".repeat(5000);
    let before = replica(&store, 1, None).await;
    ensure(&before, &demo).await;
    let one = set(&before, &demo, "pw", "one").await.unwrap();
    set(&before, &demo, "large", &large).await.unwrap();

    let next = replica(&store, 2, Some(1)).await;
    assert_eq!(next.damaged_records(), 0);
    assert_eq!(text(&get(&next, &demo, "pw", None).await.unwrap()), "one");
    assert_eq!(text(&get(&next, &demo, "large", None).await.unwrap()), large);
    set(&next, &demo, "pw", "two").await.unwrap();
    ensure(&next, &second).await;
    set(&next, &second, "pw", "three").await.unwrap();

    let back = replica(&store, 1, Some(2)).await;
    assert_eq!(back.damaged_records(), 0);
    assert_eq!(text(&get(&back, &demo, "pw", None).await.unwrap()), "two");
    assert_eq!(text(&get(&back, &demo, "pw", Some(one)).await.unwrap()), "one");
    assert_eq!(text(&get(&back, &second, "pw", None).await.unwrap()), "three");
    set(&back, &second, "pw", "four").await.unwrap();
    next.relist().await.unwrap();
    assert_eq!(text(&get(&next, &second, "pw", None).await.unwrap()), "four");
}

#[tokio::test]
async fn a_replica_without_the_next_version_fails_for_what_is_sealed_under_it_and_for_nothing_else() {
    let (store, demo, second) = (MemoryStore::new(), vault("demo"), vault("second"));
    let behind = replica(&store, 1, None).await;
    ensure(&behind, &demo).await;
    let next = replica(&store, 2, Some(1)).await;
    ensure(&next, &second).await;
    set(&next, &second, "pw", "of the second").await.unwrap();
    set(&next, &demo, "pw", "of the first").await.unwrap();

    behind.relist().await.unwrap();
    assert_eq!(
        text(&get(&behind, &demo, "pw", None).await.unwrap()),
        "of the first"
    );
    assert!(get(&behind, &second, "pw", None).await.is_err());
    assert!(set(&behind, &second, "pw", "changed").await.is_err());
    let resource_uid = second.uid.clone();
    let again = Operation::EnsureVault(EnsureVault { resource_uid });
    assert!(ask(&behind, &second, again).await.is_err());
    // Nothing that it did harmed what it could not read.
    next.relist().await.unwrap();
    assert_eq!(
        text(&get(&next, &second, "pw", None).await.unwrap()),
        "of the second"
    );
}

#[tokio::test]
async fn a_backup_of_the_first_version_is_restored_under_the_next() {
    let (store, demo) = (MemoryStore::new(), vault("demo"));
    let before = replica(&store, 1, None).await;
    ensure(&before, &demo).await;
    set(&before, &demo, "pw", "one").await.unwrap();
    let old = backup(&before, &demo, "pw").await.unwrap();

    let (elsewhere, after) = (MemoryStore::new(), vault("after"));
    let next = replica(&elsewhere, 2, Some(1)).await;
    ensure(&next, &after).await;
    restore(&next, &after, &old).await.unwrap();
    assert_eq!(text(&get(&next, &after, "pw", None).await.unwrap()), "one");
}
