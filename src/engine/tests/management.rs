//! What `operate` asks for: vaults, generated secrets, summaries.

use std::sync::Arc;

use super::support::*;
use crate::engine::{Engine, Error, HeadChanged, MAX_VALUE, Quotas, Usage};
use crate::model::{
    Alphabet, DeleteOwned, EnsureGeneratedSecret, Nearest, Operation, OwnedSecret, Owner, QuotaOf,
    QuotaScope, Reply, Uid, UnixSeconds, VaultEntry, VaultSettings,
};
use crate::store::memory::MemoryStore;

fn owner(resource: &str, namespace_uid: &str) -> Owner {
    Owner {
        namespace: crate::model::Namespace::parse("shop").unwrap(),
        namespace_uid: Uid::new(namespace_uid),
        resource: resource.to_owned(),
    }
}

fn generated(secret: &str, owner: &Owner) -> EnsureGeneratedSecret {
    EnsureGeneratedSecret {
        name: name(secret),
        length: 40,
        alphabet: Alphabet::Hex,
        content_type: Some("text/plain".to_owned()),
        owner: owner.clone(),
    }
}

async fn generate(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
    owner: &Owner,
) -> Result<OwnedSecret, Error> {
    owned(
        ask(
            engine,
            vault,
            Operation::EnsureGeneratedSecret(generated(secret, owner)),
        )
        .await,
    )
}

async fn delete_owned(engine: &Engine, vault: &Arc<VaultEntry>, secret: &str, owner: &Owner) -> OwnedSecret {
    let delete = DeleteOwned {
        name: name(secret),
        owner: owner.clone(),
    };
    owned(ask(engine, vault, Operation::DeleteOwned(delete)).await).unwrap()
}

fn owned(reply: Result<Reply, Error>) -> Result<OwnedSecret, Error> {
    match reply? {
        Reply::Owned(owned) => Ok(owned),
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn a_generated_secret_is_made_once_and_taken_up_again() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let us = owner("db", "shop-uid");
    let OwnedSecret::Live { version } = generate(&engine, &vault, "db", &us).await.unwrap() else {
        panic!()
    };
    let made = get(&engine, &vault, "db", None).await.unwrap();
    assert_eq!(made.version, version);
    assert_eq!(made.content_type.as_deref(), Some("text/plain"));
    assert!(text(&made).len() == 40 && text(&made).bytes().all(|b| b.is_ascii_hexdigit()));
    let again = generate(&engine, &vault, "db", &us).await.unwrap();
    assert_eq!(again, OwnedSecret::Live { version });
    assert_eq!(
        text(&get(&engine, &vault, "db", None).await.unwrap()),
        text(&made),
        "not made anew"
    );
    let newest = set(&engine, &vault, "db", "set by hand").await.unwrap();
    let again = generate(&engine, &vault, "db", &us).await.unwrap();
    assert_eq!(again, OwnedSecret::Live { version: newest });
}

#[tokio::test]
async fn a_generated_secret_that_was_deleted_is_not_made_again() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let us = owner("db", "shop-uid");
    generate(&engine, &vault, "db", &us).await.unwrap();
    delete(&engine, &vault, "db").await.unwrap();
    assert_eq!(
        generate(&engine, &vault, "db", &us).await.unwrap(),
        OwnedSecret::Deleted
    );
    assert_eq!(
        delete_owned(&engine, &vault, "db", &us).await,
        OwnedSecret::Deleted
    );
}

#[tokio::test]
async fn what_somebody_else_made_stays_untouched() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "by-hand", "x").await.unwrap();
    generate(&engine, &vault, "db", &owner("db", "shop-uid"))
        .await
        .unwrap();
    for (secret, stranger) in [
        ("by-hand", owner("db", "shop-uid")),
        // An owner of another namespace has no permit for this vault at all: policy's own tests.
        ("db", owner("other", "shop-uid")),
    ] {
        assert_eq!(
            generate(&engine, &vault, secret, &stranger).await.unwrap(),
            OwnedSecret::Foreign
        );
        assert_eq!(
            delete_owned(&engine, &vault, secret, &stranger).await,
            OwnedSecret::Foreign
        );
    }
    assert_eq!(names(&engine, &vault, 25).await, ["by-hand", "db"]);
    assert_eq!(
        delete_owned(&engine, &vault, "absent", &owner("db", "shop-uid")).await,
        OwnedSecret::Absent
    );
}

#[tokio::test]
async fn a_resource_that_goes_takes_its_own_secret_along() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let us = owner("db", "shop-uid");
    generate(&engine, &vault, "db", &us).await.unwrap();
    assert_eq!(
        delete_owned(&engine, &vault, "db", &us).await,
        OwnedSecret::Deleted
    );
    assert!(get(&engine, &vault, "db", None).await.is_err());
    let taken = Error::ObjectIsDeletedButRecoverable { name: name("db") };
    assert_eq!(
        set(&engine, &vault, "db", "x").await.unwrap_err(),
        taken,
        "soft-deleted, not purged"
    );
}

#[tokio::test]
async fn lengths_of_generated_values_have_limits() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    for (length, good) in [(15, false), (16, true), (1024, true), (1025, false)] {
        let us = owner(&format!("r-{length}"), "shop-uid");
        let ensure = EnsureGeneratedSecret {
            length,
            ..generated(&format!("s-{length}"), &us)
        };
        let found = ask(&engine, &vault, Operation::EnsureGeneratedSecret(ensure)).await;
        assert_eq!(
            found.map(drop),
            if good { Ok(()) } else { Err(Error::GeneratedLength) },
            "{length}"
        );
    }
}

#[tokio::test]
async fn a_vault_that_is_applied_again_finds_its_own_and_a_recycled_namespace_does_not() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    set(&engine, &vault, "a", "one").await.unwrap();
    let writes = store_revision(&store).await;
    ensure(&engine, &vault).await;
    assert_eq!(
        store_revision(&store).await,
        writes,
        "there already: nothing is written"
    );
    let mut again = VaultEntry::clone(&vault);
    again.uid = Uid::new("applied-again");
    again.settings = VaultSettings {
        retention_days: Some(7),
        ..VaultSettings::default()
    };
    let again = Arc::new(again);
    ensure(&engine, &again).await;
    let found = get(&engine, &again, "a", None).await.unwrap();
    assert_eq!(
        (text(&found).as_str(), found.attributes.recoverable_days),
        ("one", 30),
        "the head's retention holds"
    );
    let mut recycled = VaultEntry::clone(&vault);
    recycled.namespace_uid = Uid::new("another-tenant");
    let recycled = Arc::new(recycled);
    assert!(!engine.vault_ready(&recycled.namespace_uid, &recycled.id.name));
    ensure(&engine, &recycled).await;
    assert!(
        get(&engine, &recycled, "a", None).await.is_err(),
        "another tenant's vault is empty"
    );
    assert!(names(&engine, &recycled, 25).await.is_empty());
    assert_eq!(text(&get(&engine, &vault, "a", None).await.unwrap()), "one");
}

async fn store_revision(store: &MemoryStore) -> u64 {
    use crate::store::SealedStore as _;
    store.list().await.unwrap().1
}

#[tokio::test]
async fn a_summary_counts_and_names_owners_alone() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    ensure(&engine, &super::support::vault("empty")).await;
    for (secret, expires) in [
        ("a", Some(5000)),
        ("b", Some(3000)),
        ("c", None),
        ("past", Some(500)),
        ("gone", Some(2000)),
    ] {
        let mut set = set_of(secret, "x");
        set.attributes.expires = expires.map(UnixSeconds);
        ask(&engine, &vault, Operation::SetSecret(set)).await.unwrap();
    }
    delete(&engine, &vault, "gone").await.unwrap();
    let us = owner("db", "shop-uid");
    let live = generate(&engine, &vault, "db", &us).await.unwrap();
    let summaries = engine.summaries(UnixSeconds(1000));
    let [demo, empty] = summaries.as_slice() else {
        panic!("{summaries:?}")
    };
    assert_eq!((demo.secrets, demo.deleted_secrets), (5, 1));
    assert_eq!(demo.next_expiry, Some(UnixSeconds(3000)));
    assert_eq!(demo.owned, [(us, live)]);
    assert_eq!(
        (empty.vault.name.as_str(), empty.secrets, empty.next_expiry),
        ("empty", 0, None)
    );
}

#[tokio::test]
async fn subscribers_hear_of_own_and_of_others_changes() {
    let store = MemoryStore::new();
    let (writer, other, vault) = (engine(&store), engine(&store), vault("demo"));
    let (mut own, mut others) = (writer.subscribe(), other.subscribe());
    ensure(&writer, &vault).await;
    set(&writer, &vault, "Db-Password", "one").await.unwrap();
    let expected = HeadChanged {
        vault: vault.id.clone(),
        name: "db-password".into(),
    };
    assert_eq!(own.try_recv(), Ok(expected.clone()));
    other.relist().await.unwrap();
    assert_eq!(others.try_recv(), Ok(expected.clone()));
    other.relist().await.unwrap();
    assert!(
        others.try_recv().is_err(),
        "what has not changed is not told again"
    );
    delete(&other, &vault, "db-password").await.unwrap();
    assert_eq!(others.try_recv(), Ok(expected));
}

fn usage(kibibytes: u64, records: u64) -> Usage {
    Usage {
        bytes: kibibytes * 1024,
        records,
    }
}

#[tokio::test]
async fn quotas_refuse_growth_and_nothing_else() {
    let quotas = Quotas {
        versions: 3,
        vault: usage(76, 1_000),
        ..Quotas::default()
    };
    let (engine, vault) = (engine_with(&MemoryStore::new(), quotas), vault("demo"));
    ensure(&engine, &vault).await;
    for i in 0..3 {
        set(&engine, &vault, "many", &i.to_string()).await.unwrap();
    }
    assert_eq!(
        set(&engine, &vault, "many", "x").await.unwrap_err(),
        Error::TooManyVersions { limit: 3 }
    );
    let large = "x".repeat(MAX_VALUE);
    set(&engine, &vault, "large", &large).await.unwrap();
    set(&engine, &vault, "large", &large).await.unwrap();
    let refusal = set(&engine, &vault, "another", &large).await.unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::QuotaExceeded { scope: QuotaScope::Vault, of: QuotaOf::Bytes, limit: 77_824, used } if used < limit_of(&refusal)
        ),
        "{refusal:?}"
    );
    let mut disable = update_of("large");
    disable.attributes.enabled = Some(false);
    assert!(
        ask(&engine, &vault, Operation::UpdateSecret(disable))
            .await
            .is_ok()
    );
    delete(&engine, &vault, "large").await.unwrap();
    get(&engine, &vault, "many", None).await.unwrap();
    // A purge makes room.
    purge(&engine, &vault, "large").await.unwrap();
    set(&engine, &vault, "another", &large).await.unwrap();
}

const fn limit_of(refusal: &Error) -> u64 {
    match refusal {
        Error::QuotaExceeded { limit, .. } => *limit,
        _ => 0,
    }
}

#[tokio::test]
async fn each_scope_has_its_own_quota_and_says_which_it_was() {
    let refused = async |quotas: Quotas| {
        let engine = engine_with(&MemoryStore::new(), quotas);
        let (one, two) = (vault("one"), vault("two"));
        let mut stranger = VaultEntry::clone(&vault("three"));
        stranger.namespace_uid = Uid::new("another");
        let stranger = Arc::new(stranger);
        for vault in [&one, &two, &stranger] {
            ensure(&engine, vault).await;
        }
        let mut refusals = Vec::new();
        for vault in [&one, &one, &one, &two, &two, &stranger, &stranger] {
            let secret = format!("s-{}", engine.fill().installation.records);
            let refusal = set(&engine, vault, &secret, "x").await.err();
            refusals.push(refusal.map(|refusal| match refusal {
                Error::QuotaExceeded {
                    scope,
                    of: QuotaOf::Records,
                    used,
                    limit,
                } => (scope, used, limit),
                refusal => panic!("{refusal:?}"),
            }));
        }
        refusals
    };
    let plenty = usage(1024, 1_000);
    let all = Quotas {
        installation: plenty,
        namespace: plenty,
        vault: plenty,
        ..Quotas::default()
    };
    let vault_full = Some((QuotaScope::Vault, 2, 2));
    assert_eq!(
        refused(Quotas {
            vault: usage(1024, 2),
            ..all
        })
        .await,
        [None, None, vault_full, None, None, None, None]
    );
    // Two heads of vaults, and objects.
    let namespace_full = Some((QuotaScope::Namespace, 6, 6));
    assert_eq!(
        refused(Quotas {
            namespace: usage(1024, 6),
            ..all
        })
        .await,
        [None, None, None, None, namespace_full, None, None]
    );
    let full = Some((QuotaScope::Installation, 5, 5));
    assert_eq!(
        refused(Quotas {
            installation: usage(1024, 5),
            ..all
        })
        .await,
        [None, None, full, full, full, full, full]
    );
}

#[tokio::test]
async fn a_vault_tells_of_the_quota_that_it_is_nearest_to() {
    let quotas = Quotas {
        vault: usage(1024, 10),
        namespace: usage(1024, 13),
        ..Quotas::default()
    };
    let (engine, vault) = (engine_with(&MemoryStore::new(), quotas), vault("demo"));
    ensure(&engine, &vault).await;
    let nearest = || engine.summaries(UnixSeconds(0))[0].nearest_quota;
    for i in 0..7 {
        set(&engine, &vault, &format!("s-{i}"), "x").await.unwrap();
    }
    assert_eq!(nearest(), None);
    let at = |percent| {
        Some(Nearest {
            scope: QuotaScope::Vault,
            of: QuotaOf::Records,
            percent,
        })
    };
    set(&engine, &vault, "s-7", "x").await.unwrap();
    assert_eq!(nearest(), at(80));
    set(&engine, &vault, "s-8", "x").await.unwrap();
    set(&engine, &vault, "s-9", "x").await.unwrap();
    assert_eq!(nearest(), at(100));
    let fill = engine.fill();
    assert!(
        (fill.fullest_vault - 1.0).abs() < 1e-9 && fill.fullest_namespace > 0.84,
        "{fill:?}"
    );
    let refusal = set(&engine, &vault, "s-10", "x").await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Nothing more can be stored: of the 10 sealed records that this vault may hold, 10 are used. Purge deleted secrets \
         that nobody needs, or ask the platform team to raise quotas.vault."
    );
}

#[tokio::test]
async fn what_was_counted_is_what_is_stored() {
    use crate::store::SealedStore as _;
    let store = MemoryStore::new();
    let (engine, vault) = (engine_with(&store, Quotas::default()), vault("demo"));
    ensure(&engine, &vault).await;
    for i in 0..20 {
        set(&engine, &vault, &format!("s-{}", i % 7), &"x".repeat(i * 10))
            .await
            .unwrap();
    }
    delete(&engine, &vault, "s-3").await.unwrap();
    purge(&engine, &vault, "s-3").await.unwrap();
    let restarted = engine_with(&store, Quotas::default());
    restarted.relist().await.unwrap();
    let (records, _) = store.list().await.unwrap();
    let stored = Usage {
        bytes: records.iter().map(|record| record.envelope.len() as u64).sum(),
        records: records.len() as u64,
    };
    for engine in [&engine, &restarted] {
        assert_eq!(engine.fill().installation, stored);
        let snapshot = engine.index.load();
        assert_eq!(snapshot.usage_of_namespace(&vault.namespace_uid), stored);
        let of_vaults: Vec<_> = snapshot.usages_of_vaults().collect();
        assert_eq!(of_vaults.len(), 1);
        assert_eq!(
            of_vaults[0].records,
            stored.records - 1,
            "its own head is the namespace's"
        );
    }
}
