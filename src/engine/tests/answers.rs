//! Answers of the store that get lost on the way.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::shaky::{Dice, Fate, Mood, Shaky};
use super::support::*;
use crate::engine::Error;
use crate::model::{Operation, Reply, UnixSeconds};
use crate::store::StoreError;
use crate::store::installation::{Installation, InstallationError, load_or_create};

/// Starts an operation whose first write comes through without an answer, lets `meanwhile` others change the same secret, and
/// hands back what is told in the end.
async fn lost_answer(operation: Operation, meanwhile: usize) -> Result<Reply, Error> {
    let store = Shaky::new(1, Mood::Calm);
    let (slow, other, vault) = (engine(&store), engine(&store), vault("demo"));
    ensure(&slow, &vault).await;
    set(&slow, &vault, "a", "first").await.unwrap();
    store.set_mood(Mood::Always(Fate::LostOnTheWayBack));
    let before = store.inner.clone();
    let revision = || async { crate::store::SealedStore::list(&before).await.unwrap().1 };
    let written = revision().await;
    let mut asked = Box::pin(ask(&slow, &vault, operation));
    while revision().await == written {
        assert!(
            asked
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    store.set_mood(Mood::Calm);
    for i in 0..meanwhile {
        set(&other, &vault, "a", &format!("meanwhile-{i}")).await.unwrap();
    }
    asked.await
}

fn update() -> Operation {
    let mut update = update_of("a");
    update.content_type = Some("changed".to_owned());
    Operation::UpdateSecret(update)
}

#[tokio::test]
async fn a_write_without_an_answer_is_found_by_its_id() {
    for meanwhile in [0, 1, 31] {
        assert!(
            matches!(lost_answer(update(), meanwhile).await, Ok(Reply::Secret(_))),
            "{meanwhile}"
        );
    }
}

#[tokio::test]
async fn nobody_claims_to_know_what_became_of_a_write_that_33_others_followed() {
    assert_eq!(
        lost_answer(update(), 33).await.unwrap_err(),
        Error::OutcomeUnknown
    );
}

#[tokio::test]
async fn a_version_without_an_answer_is_found_however_many_followed() {
    let operation = || Operation::SetSecret(set_of("a", "second"));
    for meanwhile in [0, 1, 40] {
        let found = lost_answer(operation(), meanwhile).await.unwrap();
        let Reply::Secret(secret) = found else {
            panic!("{found:?}")
        };
        assert_eq!(text(&secret), "second");
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_not_taken_for_one_that_did_nothing() {
    let store = Shaky::new(1, Mood::Calm);
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    for (fate, expected) in [
        (Fate::Away, Error::Store(StoreError::Unavailable)),
        (Fate::Refused, Error::Contention),
        (Fate::LostOnTheWay, Error::OutcomeUnknown),
        (Fate::Late, Error::OutcomeUnknown),
    ] {
        store.set_mood(Mood::Always(fate));
        assert_eq!(
            set(&engine, &vault, "a", "x").await.unwrap_err(),
            expected,
            "{fate:?}"
        );
    }
    store.set_mood(Mood::Calm);
    assert!(get(&engine, &vault, "a", None).await.is_err());
    while store.land(0) {}
    assert_eq!(
        versions(&engine, &vault, "a").await.len(),
        1,
        "of all the late writes of one call one comes through"
    );
}

/// Replicas that start together on an empty store which loses answers: all that start agree, and nothing is made twice.
#[test]
fn replicas_that_start_together_agree_on_the_installation_whatever_the_store_does() {
    type Starting<'a> = Pin<Box<dyn Future<Output = Result<Installation, InstallationError>> + 'a>>;
    let root = root();
    let mut agreed = 0;
    for seed in 0..500 {
        let store = Shaky::new(seed, Mood::Rough(10));
        let mut dice = Dice::new(seed);
        let mut starting: Vec<Starting<'_>> = (0..3)
            .map(|i| -> Starting<'_> { Box::pin(load_or_create(&store, &root, i == 0, UnixSeconds(1000))) })
            .collect();
        let mut found = Vec::new();
        while !starting.is_empty() {
            let at = dice.below(starting.len());
            if dice.one_in(9) {
                store.land(seed as usize);
            }
            if let Poll::Ready(result) = starting[at]
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                drop(starting.swap_remove(at));
                found.push(result);
            }
        }
        while store.land(0) {}
        store.set_mood(Mood::Calm);
        let last = drive(load_or_create(&store, &root, false, UnixSeconds(2000))).unwrap();
        for result in found {
            match result {
                Ok(installation) => {
                    assert_eq!(installation, last, "seed {seed}");
                    agreed += 1;
                }
                Err(InstallationError::Store(StoreError::Unavailable) | InstallationError::Contention) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    assert!(agreed > 300, "{agreed}");
}
