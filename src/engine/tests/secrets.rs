//! What a user of a vault gets.

use super::support::*;
use crate::engine::Error;
use crate::model::{AttributesChange, Operation, RecoveryLevel, Reply, Tags, UnixSeconds, UpdateSecret};
use crate::store::memory::MemoryStore;

#[tokio::test]
async fn a_secret_is_set_read_and_set_again() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut first = set_of("Db-Password", "one");
    first.content_type = Some("text/plain".to_owned());
    first.tags = Tags::from([("team".to_owned(), "shop".to_owned())]);
    let Reply::Secret(first) = ask(&engine, &vault, Operation::SetSecret(first)).await.unwrap() else {
        panic!()
    };
    assert_eq!(text(&first), "one");
    assert_eq!(first.name.as_written(), "Db-Password");
    assert_eq!(first.attributes.recoverable_days, 30);
    assert_eq!(
        first.attributes.recovery_level,
        RecoveryLevel::CustomizedRecoverablePurgeable
    );
    let second = set(&engine, &vault, "DB-PASSWORD", "two").await.unwrap();
    let newest = get(&engine, &vault, "db-password", None).await.unwrap();
    assert_eq!((newest.version, text(&newest).as_str()), (second, "two"));
    assert_eq!(newest.name.as_written(), "Db-Password", "shown as first written");
    assert!(
        newest.content_type.is_none() && newest.tags.is_empty(),
        "a version takes nothing over"
    );
    let older = get(&engine, &vault, "db-password", Some(first.version))
        .await
        .unwrap();
    assert_eq!(text(&older), "one");
    assert_eq!(older.content_type.as_deref(), Some("text/plain"));
    assert_eq!(
        versions(&engine, &vault, "db-password").await,
        [second, first.version]
    );
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut first = set_of("a", "one");
    first.content_type = Some("x".to_owned());
    first.attributes.expires = Some(UnixSeconds(5000));
    let Reply::Secret(first) = ask(&engine, &vault, Operation::SetSecret(first)).await.unwrap() else {
        panic!()
    };
    let second = set(&engine, &vault, "a", "two").await.unwrap();
    let update = UpdateSecret {
        version: Some(first.version),
        tags: Some(Tags::from([("k".to_owned(), "v".to_owned())])),
        attributes: AttributesChange {
            not_before: Some(UnixSeconds(10)),
            ..AttributesChange::default()
        },
        ..update_of("A")
    };
    let updated = ask_at(&engine, &vault, Operation::UpdateSecret(update), 2000)
        .await
        .unwrap();
    let Reply::Secret(updated) = updated else { panic!() };
    assert!(updated.value.is_none(), "an update discloses no value");
    assert_eq!(updated.version, first.version);
    assert_eq!(updated.content_type.as_deref(), Some("x"));
    assert_eq!(updated.attributes.expires, Some(UnixSeconds(5000)));
    assert_eq!(updated.attributes.not_before, Some(UnixSeconds(10)));
    assert_eq!(
        (updated.attributes.created, updated.attributes.updated),
        (UnixSeconds(1000), UnixSeconds(2000))
    );
    assert_eq!(
        text(&get(&engine, &vault, "a", Some(first.version)).await.unwrap()),
        "one"
    );
    assert_eq!(versions(&engine, &vault, "a").await, [second, first.version]);
}

#[tokio::test]
async fn a_deleted_secret_is_gone_from_reads_and_keeps_its_name() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", "one").await.unwrap();
    let newest = set(&engine, &vault, "a", "two").await.unwrap();
    let Reply::Deleted(deleted) = delete(&engine, &vault, "A").await.unwrap() else {
        panic!()
    };
    assert_eq!(deleted.secret.version, newest);
    assert!(deleted.secret.value.is_none());
    assert_eq!(deleted.deleted, UnixSeconds(1000));
    assert_eq!(deleted.scheduled_purge, UnixSeconds(1000 + 30 * 86_400));
    let not_found = Error::SecretNotFound { name: name("a") };
    assert_eq!(get(&engine, &vault, "a", None).await.unwrap_err(), not_found);
    assert_eq!(
        get(&engine, &vault, "a", Some(newest)).await.unwrap_err(),
        not_found
    );
    assert_eq!(delete(&engine, &vault, "a").await.unwrap_err(), not_found);
    let update = ask(&engine, &vault, Operation::UpdateSecret(update_of("a"))).await;
    assert_eq!(update.unwrap_err(), not_found);
    let taken = Error::ObjectIsDeletedButRecoverable { name: name("a") };
    assert_eq!(set(&engine, &vault, "a", "three").await.unwrap_err(), taken);
    assert!(names(&engine, &vault, 25).await.is_empty());
    assert!(versions(&engine, &vault, "a").await.is_empty());
}

#[tokio::test]
async fn a_value_is_read_only_while_it_is_enabled_and_valid() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut first = set_of("a", "one");
    first.attributes = AttributesChange {
        enabled: None,
        not_before: Some(UnixSeconds(2000)),
        expires: Some(UnixSeconds(3000)),
    };
    ask(&engine, &vault, Operation::SetSecret(first)).await.unwrap();
    let get = |seconds| {
        ask_at(
            &engine,
            &vault,
            Operation::GetSecret {
                name: name("a"),
                version: None,
            },
            seconds,
        )
    };
    assert_eq!(get(1999).await.unwrap_err(), Error::SecretNotYetValid);
    assert!(get(2000).await.is_ok());
    assert!(get(2999).await.is_ok());
    assert_eq!(get(3000).await.unwrap_err(), Error::SecretExpired);
    let mut disable = update_of("a");
    disable.attributes.enabled = Some(false);
    ask(&engine, &vault, Operation::UpdateSecret(disable))
        .await
        .unwrap();
    assert_eq!(get(2500).await.unwrap_err(), Error::SecretDisabled);
    assert_eq!(names(&engine, &vault, 25).await, ["a"], "lists show it still");
    let mut first = set_of("a", "two");
    first.attributes.enabled = Some(false);
    ask(&engine, &vault, Operation::SetSecret(first)).await.unwrap();
    assert_eq!(
        get(2500).await.unwrap_err(),
        Error::SecretDisabled,
        "the newest counts, even if disabled"
    );
}
