//! Sealed records in the cluster's own etcd.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use strongroom::cluster::Api;
use strongroom::store::{SealedStore, StoreError, conformance};

use super::proxy::{Cable, Proxy};
use super::{record_name, serve_api, serve_config, spread, store, unique};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_cluster_keeps_every_rule_of_a_store() {
    let api = serve_api().await;
    let began = Instant::now();
    let rules = conformance::check(&store(&api), &unique("c")).await.unwrap();
    println!(
        "the cluster keeps {} rules of a store, checked in {:?}",
        rules.len(),
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_change_whose_answer_was_lost_is_unknown_and_one_that_was_not_sent_is_surely_not_done() {
    let config = serve_config().await;
    let proxy = Proxy::before(&config).await;
    let through = store(&Api::connect(&proxy.through(config)).unwrap());
    let direct = store(&serve_api().await);
    let envelope = || Bytes::from_static(b"content");

    let lost = record_name(&unique("lost"));
    through.get(&lost).await.unwrap();
    proxy.is(Cable::AnswersLost);
    assert_eq!(through.create(&lost, envelope()).await, Err(StoreError::Unknown));
    let found = direct
        .get(&lost)
        .await
        .unwrap()
        .expect("it was made, as it may have been");
    direct.delete(&lost, &found.stamp).await.unwrap();

    proxy.is(Cable::Unplugged);
    let unsent = record_name(&unique("unsent"));
    assert_eq!(
        through.create(&unsent, envelope()).await,
        Err(StoreError::Unavailable)
    );
    assert_eq!(through.get(&unsent).await, Err(StoreError::Unavailable));
    assert_eq!(direct.get(&unsent).await, Ok(None));

    proxy.is(Cable::Whole);
    through.get(&unsent).await.unwrap();
    proxy.is(Cable::Hole);
    let began = Instant::now();
    assert_eq!(
        through.create(&unsent, envelope()).await,
        Err(StoreError::Unknown)
    );
    println!("a write into a hole was given up after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(6));
    proxy.is(Cable::Whole);
    // The request that lay in the cable may arrive now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Some(found) = direct.get(&unsent).await.unwrap() {
        direct.delete(&unsent, &found.stamp).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_watch_from_a_revision_that_is_gone_asks_for_a_list() {
    let store = store(&serve_api().await);
    let first = store.watch(1).next().await.unwrap();
    assert_eq!(first, Err(StoreError::Expired));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn many_writes_at_once_are_not_held_up_by_the_client() {
    const WRITES: usize = 400;
    let store = store(&serve_api().await);
    let prefix = unique("w");
    let made = |i: usize| {
        let (store, name) = (&store, record_name(&format!("{prefix}-{i}")));
        async move {
            let began = Instant::now();
            let stamp = store.create(&name, Bytes::from(vec![7; 2048])).await.unwrap();
            (name, stamp, began.elapsed())
        }
    };
    for at_once in [1, 32] {
        let count = if at_once == 1 { 40 } else { WRITES };
        let began = Instant::now();
        let done: Vec<_> = stream::iter(0..count)
            .map(made)
            .buffer_unordered(at_once)
            .collect()
            .await;
        let took = began.elapsed();
        let (median, worst) = spread(done.iter().map(|(_, _, took)| *took).collect());
        println!(
            "{count} records of 2 KiB, {at_once} at once: {:.0} a second, median {median:?}, worst {worst:?}",
            f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64()
        );
        stream::iter(&done)
            .for_each_concurrent(32, |(name, stamp, _)| async {
                store.delete(name, stamp).await.unwrap();
            })
            .await;
    }
}
