//! Backups: what goes out comes back as it was, and nowhere else.

use std::sync::Arc;

use proptest::prelude::*;

use super::support::*;
use crate::engine::limits::{MAX_BACKUP_VERSIONS, MAX_VALUE};
use crate::engine::{Engine, EngineParts, Error, Quotas};
use crate::model::{
    AttributesChange, Backup, Operation, Reply, Tags, Uid, UnixSeconds, UpdateSecret, VaultEntry, VaultId,
    VaultName,
};
use crate::store::memory::MemoryStore;

/// A vault with secret "Pw" of three versions, the middle one with everything that a version may have.
async fn world() -> (Engine, Arc<VaultEntry>) {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "Pw", "one").await.unwrap();
    let mut second = set_of("pw", "two");
    second.content_type = Some("text/plain".to_owned());
    second.tags = Tags::from([("team".to_owned(), "shop".to_owned())]);
    second.attributes = AttributesChange {
        enabled: Some(false),
        not_before: Some(UnixSeconds(5)),
        expires: Some(UnixSeconds(9_000)),
    };
    ask(&engine, &vault, Operation::SetSecret(second)).await.unwrap();
    set(&engine, &vault, "pw", "three").await.unwrap();
    (engine, vault)
}

/// Another vault; what differs is for the caller to say.
async fn second_vault(engine: &Engine, change: impl FnOnce(&mut VaultEntry)) -> Arc<VaultEntry> {
    let mut entry = VaultEntry::clone(&vault("second"));
    change(&mut entry);
    let entry = Arc::new(entry);
    ensure(engine, &entry).await;
    entry
}

#[tokio::test]
async fn a_secret_comes_back_with_all_its_versions_as_they_were() {
    let (engine, vault) = world().await;
    let second = second_vault(&engine, |_| {}).await;
    let backup = backup(&engine, &vault, "PW").await.unwrap();
    let restored = restore(&engine, &second, &backup).await.unwrap();
    assert!(restored.value.is_none());
    assert_eq!(restored.name.as_written(), "Pw");

    let (before, after) = (stored(&engine, &vault, "pw"), stored(&engine, &second, "pw"));
    assert_eq!((before.versions, after.life), (after.versions, Life::Live));
    let entries = |page: crate::model::Page<crate::model::SecretItem>| -> Vec<_> {
        page.items
            .into_iter()
            .map(|item| (item.version, item.attributes, item.content_type, item.tags))
            .collect()
    };
    assert_eq!(
        entries(
            list_versions(&engine, &vault, "pw", page(25, None))
                .await
                .unwrap()
        ),
        entries(
            list_versions(&engine, &second, "pw", page(25, None))
                .await
                .unwrap()
        )
    );
    assert_eq!(text(&get(&engine, &second, "pw", None).await.unwrap()), "three");
    set(&engine, &second, "pw", "four").await.unwrap();
    assert_eq!(versions(&engine, &second, "pw").await.len(), 4);
}

#[tokio::test]
async fn a_backup_outlives_the_purge_of_what_it_holds() {
    let (engine, vault) = world().await;
    let before = stored(&engine, &vault, "pw");
    let backup = backup(&engine, &vault, "pw").await.unwrap();
    delete(&engine, &vault, "pw").await.unwrap();
    let taken = Error::ObjectIsDeletedButRecoverable { name: name("pw") };
    assert_eq!(restore(&engine, &vault, &backup).await.unwrap_err(), taken);
    purge(&engine, &vault, "pw").await.unwrap();
    restore(&engine, &vault, &backup).await.unwrap();
    assert_eq!(stored(&engine, &vault, "pw").versions, before.versions);
    // Twice is once too often.
    let exists = Error::SecretExists { name: name("pw") };
    assert_eq!(restore(&engine, &vault, &backup).await.unwrap_err(), exists);
}

#[tokio::test]
async fn a_backup_opens_in_its_own_namespace_and_installation_alone() {
    let (first, vault) = world().await;
    let backup = backup(&first, &vault, "pw").await.unwrap();
    let recycled = second_vault(&first, |entry| entry.namespace_uid = Uid::new("recycled")).await;
    assert_eq!(
        restore(&first, &recycled, &backup).await.unwrap_err(),
        Error::BackupMalformed
    );
    // Another vault of the same namespace takes it, whatever its name.
    let other = second_vault(&first, |entry| {
        entry.id = VaultId {
            name: VaultName::parse("other").unwrap(),
            ..entry.id.clone()
        };
    })
    .await;
    restore(&first, &other, &backup).await.unwrap();

    let elsewhere = Engine::new(EngineParts {
        store: Arc::new(MemoryStore::new()),
        root: root(),
        installation: crate::crypto::InstallationId([8; 16]),
        quotas: Quotas::default(),
    });
    ensure(&elsewhere, &vault).await;
    assert_eq!(
        restore(&elsewhere, &vault, &backup).await.unwrap_err(),
        Error::BackupMalformed
    );
}

#[tokio::test]
async fn no_flipped_bit_and_no_cut_is_restored() {
    let (engine, vault) = world().await;
    let good = backup(&engine, &vault, "pw").await.unwrap();
    delete(&engine, &vault, "pw").await.unwrap();
    purge(&engine, &vault, "pw").await.unwrap();
    for at in (0..good.0.len()).step_by(3) {
        let mut bent = good.clone();
        bent.0[at] ^= 1 << (at % 8);
        assert_eq!(
            restore(&engine, &vault, &bent).await.unwrap_err(),
            Error::BackupMalformed,
            "{at}"
        );
        let cut = Backup(good.0[..at].to_vec());
        assert_eq!(
            restore(&engine, &vault, &cut).await.unwrap_err(),
            Error::BackupMalformed,
            "{at}"
        );
    }
    assert!(names(&engine, &vault, 25).await.is_empty());
    restore(&engine, &vault, &good).await.unwrap();
}

#[tokio::test]
async fn what_is_not_live_has_no_backup_and_neither_has_what_is_too_much() {
    let (engine, vault) = world().await;
    let missing = |secret| Error::SecretNotFound { name: name(secret) };
    assert_eq!(
        backup(&engine, &vault, "never").await.unwrap_err(),
        missing("never")
    );
    delete(&engine, &vault, "pw").await.unwrap();
    assert_eq!(backup(&engine, &vault, "pw").await.unwrap_err(), missing("pw"));
    for _ in 0..MAX_BACKUP_VERSIONS {
        set(&engine, &vault, "many", "x").await.unwrap();
    }
    let whole = backup(&engine, &vault, "many").await.unwrap();
    set(&engine, &vault, "many", "x").await.unwrap();
    let refused = Error::BackupTooManyVersions {
        count: MAX_BACKUP_VERSIONS + 1,
        limit: MAX_BACKUP_VERSIONS,
    };
    assert_eq!(backup(&engine, &vault, "many").await.unwrap_err(), refused);
    delete(&engine, &vault, "many").await.unwrap();
    purge(&engine, &vault, "many").await.unwrap();
    restore(&engine, &vault, &whole).await.unwrap();
    assert_eq!(versions(&engine, &vault, "many").await.len(), MAX_BACKUP_VERSIONS);
}

#[tokio::test]
async fn the_largest_value_comes_back() {
    let (engine, vault) = world().await;
    let value = "x".repeat(MAX_VALUE);
    set(&engine, &vault, "large", &value).await.unwrap();
    let backup = backup(&engine, &vault, "large").await.unwrap();
    let second = second_vault(&engine, |_| {}).await;
    restore(&engine, &second, &backup).await.unwrap();
    assert_eq!(text(&get(&engine, &second, "large", None).await.unwrap()), value);
}

#[tokio::test]
async fn a_restored_secret_is_nobodys_make_and_is_updated_as_any_other() {
    let (engine, vault) = world().await;
    let backup = backup(&engine, &vault, "pw").await.unwrap();
    let second = second_vault(&engine, |_| {}).await;
    restore(&engine, &second, &backup).await.unwrap();
    let oldest = *versions(&engine, &second, "pw").await.last().unwrap();
    let update = UpdateSecret {
        version: Some(oldest),
        content_type: Some("new".to_owned()),
        ..update_of("pw")
    };
    let Reply::Secret(updated) = ask(&engine, &second, Operation::UpdateSecret(update))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(updated.content_type.as_deref(), Some("new"));
    assert_eq!(
        text(&get(&engine, &second, "pw", Some(oldest)).await.unwrap()),
        "one"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_restore_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
        drive(ensure(&engine, &vault));
        let refused = drive(restore(&engine, &vault, &Backup(bytes)));
        prop_assert_eq!(refused.map(drop), Err(Error::BackupMalformed));
    }
}
