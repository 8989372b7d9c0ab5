//! Lists, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::support::*;
use crate::engine::Error;
use crate::store::memory::MemoryStore;

#[tokio::test]
async fn pages_of_any_size_give_every_live_secret_once_in_the_order_of_names() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut expected: Vec<String> = (0..60)
        .map(|i| format!("{}-{i:02}", if i % 2 == 0 { "Even" } else { "odd" }))
        .collect();
    for secret in expected.iter().rev() {
        set(&engine, &vault, secret, "x").await.unwrap();
    }
    for gone in ["even-00", "ODD-31", "odd-59"] {
        delete(&engine, &vault, gone).await.unwrap();
        expected.retain(|name| !name.eq_ignore_ascii_case(gone));
    }
    expected.sort_by_key(|name| name.to_ascii_lowercase());
    for limit in [1, 2, 7, 19, 25] {
        assert_eq!(names(&engine, &vault, limit).await, expected, "pages of {limit}");
    }
}

#[tokio::test]
async fn a_full_last_page_has_no_token() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    assert!(
        list(&engine, &vault, page(25, None))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for secret in ["a", "b", "c", "d"] {
        set(&engine, &vault, secret, "x").await.unwrap();
    }
    delete(&engine, &vault, "d").await.unwrap();
    let full = list(&engine, &vault, page(3, None)).await.unwrap();
    assert_eq!((full.items.len(), full.next), (3, None));
}

#[tokio::test]
async fn a_list_goes_on_where_it_was_although_names_come_and_go() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    for secret in ["b", "d", "f"] {
        set(&engine, &vault, secret, "x").await.unwrap();
    }
    let first = list(&engine, &vault, page(2, None)).await.unwrap();
    delete(&engine, &vault, "d").await.unwrap();
    set(&engine, &vault, "a", "x").await.unwrap();
    set(&engine, &vault, "e", "x").await.unwrap();
    let second = list(&engine, &vault, page(2, first.next)).await.unwrap();
    let names: Vec<_> = second.items.iter().map(|item| item.name.to_string()).collect();
    assert_eq!(names, ["e", "f"]);
}

#[tokio::test]
async fn among_thousands_of_deleted_secrets_a_page_is_short_and_goes_on() {
    let store = MemoryStore::new();
    let (engine, vault) = (engine(&store), vault("demo"));
    ensure(&engine, &vault).await;
    for i in 0..1_100 {
        let secret = format!("gone-{i:04}");
        set(&engine, &vault, &secret, "x").await.unwrap();
        delete(&engine, &vault, &secret).await.unwrap();
    }
    set(&engine, &vault, "here", "x").await.unwrap();
    let first = list(&engine, &vault, page(25, None)).await.unwrap();
    assert!(first.items.is_empty() && first.next.is_some());
    assert_eq!(names(&engine, &vault, 25).await, ["here"]);
}

#[tokio::test]
async fn versions_come_page_by_page_from_the_newest() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    let mut made = Vec::new();
    for i in 0..60 {
        made.push(set(&engine, &vault, "a", &i.to_string()).await.unwrap());
    }
    made.reverse();
    assert_eq!(versions(&engine, &vault, "A").await, made);
    let first = list_versions(&engine, &vault, "a", page(25, None)).await.unwrap();
    set(&engine, &vault, "a", "newer").await.unwrap();
    let second = list_versions(&engine, &vault, "a", page(25, first.next))
        .await
        .unwrap();
    assert_eq!(
        second.items.first().and_then(|item| item.version),
        Some(made[25]),
        "what is newer shifts nothing"
    );
    assert!(
        list_versions(&engine, &vault, "absent", page(25, None))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn a_token_is_good_for_its_own_list_alone() {
    let (engine, vault, second) = (engine(&MemoryStore::new()), vault("demo"), vault("second"));
    for vault in [&vault, &second] {
        ensure(&engine, vault).await;
        for i in 0..3 {
            set(&engine, vault, "a", "x").await.unwrap();
            set(&engine, vault, &format!("b-{i}"), "x").await.unwrap();
        }
        set(&engine, vault, "b-0", "x").await.unwrap();
    }
    let of_secrets = list(&engine, &vault, page(1, None)).await.unwrap().next.unwrap();
    let of_versions = list_versions(&engine, &vault, "a", page(1, None))
        .await
        .unwrap()
        .next
        .unwrap();
    assert!(
        of_secrets
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );
    assert!(
        !of_secrets.contains('a') || !URL_SAFE_NO_PAD.decode(&of_secrets).unwrap().ends_with(b"a"),
        "sealed"
    );
    let mut changed = of_secrets.clone().into_bytes();
    let at = changed.len() / 2;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let forged = [
        &of_versions,
        &changed,
        "",
        "x",
        "äöü",
        "====",
        &"A".repeat(100_000),
    ]
    .map(|token| page(5, Some(token.to_owned())));
    for page in forged {
        assert_eq!(
            list(&engine, &vault, page).await.unwrap_err(),
            Error::SkipTokenInvalid
        );
    }
    let of_secrets = page(5, Some(of_secrets));
    assert!(
        list(&engine, &second, of_secrets.clone()).await.is_err(),
        "another vault"
    );
    assert!(
        list_versions(&engine, &vault, "a", of_secrets.clone())
            .await
            .is_err(),
        "another list"
    );
    let of_versions = page(5, Some(of_versions));
    assert!(
        list_versions(&engine, &vault, "b-0", of_versions.clone())
            .await
            .is_err(),
        "another object"
    );
    assert!(list(&engine, &vault, of_secrets).await.is_ok());
    assert!(list_versions(&engine, &vault, "a", of_versions).await.is_ok());
}

#[tokio::test]
async fn a_page_has_25_items_at_most() {
    let (engine, vault) = (engine(&MemoryStore::new()), vault("demo"));
    ensure(&engine, &vault).await;
    assert_eq!(
        list(&engine, &vault, page(26, None)).await.unwrap_err(),
        Error::PageSize
    );
    assert_eq!(
        list_versions(&engine, &vault, "a", page(26, None))
            .await
            .unwrap_err(),
        Error::PageSize
    );
}
