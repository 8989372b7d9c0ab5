//! Replicas whose memory lags: refusals are never stale, and cost one quorum read however many ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use futures::future::join_all;

use super::shaky::{Mood, Shaky};
use super::support::*;
use crate::engine::Error;
use crate::model::{AttributesChange, Operation, UpdateSecret};

#[tokio::test]
async fn what_another_replica_made_is_found_before_the_watch_tells() {
    let store = Shaky::new(1, Mood::Calm);
    let (first, late, vault) = (engine(&store), engine(&store), vault("demo"));
    ensure(&first, &vault).await;
    let version = set(&first, &vault, "a", "one").await.unwrap();
    assert_eq!(
        text(&get(&late, &vault, "a", None).await.unwrap()),
        "one",
        "vault and secret were both unknown here"
    );
    let second = set(&first, &vault, "a", "two").await.unwrap();
    assert_eq!(
        text(&get(&late, &vault, "a", Some(second)).await.unwrap()),
        "two",
        "a version that is new"
    );
    assert_eq!(versions(&late, &vault, "a").await, [second, version]);
    let disable = |enabled| {
        let attributes = AttributesChange {
            enabled: Some(enabled),
            ..AttributesChange::default()
        };
        Operation::UpdateSecret(UpdateSecret {
            attributes,
            ..update_of("a")
        })
    };
    ask(&late, &vault, disable(false)).await.unwrap();
    ask(&first, &vault, disable(true)).await.unwrap();
    assert_eq!(
        text(&get(&late, &vault, "a", None).await.unwrap()),
        "two",
        "enabled again meanwhile"
    );
    delete(&first, &vault, "a").await.unwrap();
    let taken = Error::ObjectIsDeletedButRecoverable { name: name("a") };
    assert_eq!(set(&late, &vault, "a", "three").await.unwrap_err(), taken);
}

#[tokio::test]
async fn a_positive_read_asks_nobody() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", "one").await.unwrap();
    let before = store.gets.load(Ordering::Relaxed);
    get(&engine, &vault, "a", None).await.unwrap();
    names(&engine, &vault, 25).await;
    versions(&engine, &vault, "a").await;
    assert_eq!(store.gets.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_hundred_refusals_at_once_cost_two_reads_at_most() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    let before = store.gets.load(Ordering::Relaxed);
    let refusals = join_all((0..100).map(|_| get(&engine, &vault, "absent", None))).await;
    assert!(
        refusals
            .iter()
            .all(|refusal| matches!(refusal, Err(Error::SecretNotFound { .. })))
    );
    assert!(
        store.gets.load(Ordering::Relaxed) <= before + 2,
        "{}",
        store.gets.load(Ordering::Relaxed)
    );
    assert_eq!(engine.lanes.count(), 0);
}

#[tokio::test]
async fn a_read_that_began_before_the_request_does_not_confirm_its_refusal() {
    let store = Shaky::new(1, Mood::Calm);
    let (writer, reader, vault) = (engine(&store), engine(&store), vault("demo"));
    ensure(&writer, &vault).await;
    reader.relist().await.unwrap();
    let mut waker = Context::from_waker(Waker::noop());
    let mut early = Box::pin(get(&reader, &vault, "a", None));
    // Up to where the store has been read and the answer is on its way.
    assert!(early.as_mut().poll(&mut waker).is_pending());
    assert!(early.as_mut().poll(&mut waker).is_pending());
    set(&writer, &vault, "a", "one").await.unwrap();
    let mut late = Box::pin(get(&reader, &vault, "a", None));
    assert!(
        late.as_mut().poll(&mut waker).is_pending(),
        "waits for the read under way, then makes its own"
    );
    assert!(
        matches!(early.await, Err(Error::SecretNotFound { .. })),
        "true when it was read"
    );
    assert_eq!(text(&late.await.unwrap()), "one");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_confirmed_is_not_told() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    store.set_mood(Mood::Rough(1));
    let refusal = get(&engine, &vault, "absent", None).await.unwrap_err();
    assert_eq!(refusal, Error::Store(crate::store::StoreError::Unavailable));
}

#[tokio::test]
async fn a_vault_without_a_head_is_not_ready() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    let not_ready = Error::VaultNotReady {
        vault: vault.id.clone(),
    };
    assert_eq!(get(&engine, &vault, "a", None).await.unwrap_err(), not_ready);
    assert_eq!(set(&engine, &vault, "a", "x").await.unwrap_err(), not_ready);
    assert_eq!(
        list(&engine, &vault, page(25, None)).await.unwrap_err(),
        not_ready
    );
    assert!(!engine.vault_ready(&vault.namespace_uid, &vault.id.name));
}

#[tokio::test]
async fn writers_of_one_replica_take_turns_instead_of_failing_each_other() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (Arc::new(engine(&store)), vault("demo"));
    ensure(&engine, &vault).await;
    let before = store.writes.load(Ordering::Relaxed);
    let made = join_all((0..50).map(|i| {
        let (engine, vault) = (Arc::clone(&engine), Arc::clone(&vault));
        async move { set(&engine, &vault, "a", &format!("value-{i}")).await.unwrap() }
    }))
    .await;
    assert_eq!(
        store.writes.load(Ordering::Relaxed) - before,
        50,
        "one write each"
    );
    let mut listed = versions(&engine, &vault, "a").await;
    listed.reverse();
    assert_eq!(listed, made);
}
