//! Secrets over the wire: what is set can be read, listed, changed and deleted as in Azure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Rig, request, skip_token};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_lives_as_in_azure() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let body = json!({
        "value": "hunter2", "contentType": "text/plain", "tags": {"team": "a"},
        "attributes": {"enabled": true, "nbf": 10, "exp": 4_000_000_000_u64},
    });
    let set = rig
        .ask(
            "PUT",
            "/secrets/Pw?api-version=7.4",
            Some(&writer),
            &body.to_string(),
        )
        .await
        .json();
    assert_eq!(set["value"], "hunter2");
    assert_eq!(
        (&set["attributes"]["nbf"], &set["attributes"]["exp"]),
        (&json!(10), &json!(4_000_000_000_u64))
    );
    assert_eq!(
        set["attributes"]["recoveryLevel"],
        "CustomizedRecoverable+Purgeable"
    );
    assert_eq!(set["attributes"]["recoverableDays"], 7);
    assert!(set["attributes"]["created"].is_i64() && set["attributes"]["updated"].is_i64());
    assert_eq!(rig.get("pw").await.json(), set);

    let patch = json!({"contentType": "new", "attributes": {"enabled": false}}).to_string();
    let patched = rig
        .ask("PATCH", "/secrets/pw/?api-version=7.4", Some(&writer), &patch)
        .await
        .json();
    assert_eq!(
        (
            patched.get("value"),
            &patched["contentType"],
            &patched["tags"]["team"]
        ),
        (None, &json!("new"), &json!("a"))
    );
    assert_eq!(patched["attributes"]["enabled"], false);
    let disabled = rig.get("pw").await;
    assert_eq!(
        (disabled.status, disabled.code().as_str()),
        (403, "Forbidden/SecretDisabled")
    );

    let second = rig.set("pw", "second").await;
    assert_ne!(second["id"], set["id"]);
    assert_eq!(rig.get("pw").await.json()["value"], "second");

    let deleted = rig.delete("pw").await;
    assert_eq!(
        deleted["recoveryId"],
        format!("https://{}/deletedsecrets/Pw", rig.host())
    );
    let days = deleted["scheduledPurgeDate"].as_i64().unwrap() - deleted["deletedDate"].as_i64().unwrap();
    assert_eq!((days, deleted.get("value")), (7 * 86_400, None));
    let gone = rig.get("pw").await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "SecretNotFound"));
    let put = rig
        .ask(
            "PUT",
            "/secrets/PW?api-version=7.4",
            Some(&writer),
            r#"{"value":"x"}"#,
        )
        .await;
    assert_eq!(
        (put.status, put.code().as_str()),
        (409, "Conflict/ObjectIsDeletedButRecoverable")
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_outside_its_dates_is_not_read() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    for (attributes, code) in [
        (json!({"exp": 1}), "Forbidden/SecretExpired"),
        (json!({"nbf": 4_000_000_000_u64}), "Forbidden/SecretNotYetValid"),
    ] {
        let body = json!({"value": "x", "attributes": attributes}).to_string();
        assert_eq!(
            rig.ask("PUT", "/secrets/dated?api-version=7.4", Some(&writer), &body)
                .await
                .status,
            200
        );
        let answer = rig.get("dated").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, code));
        // Where the vault says so the dates inform, as in Azure.
        for (method, body) in [("PUT", body.as_str()), ("GET", "")] {
            let target = "/secrets/dated?api-version=7.4";
            let answer = rig.ask_in("strict", method, target, Some(&writer), body).await;
            assert_eq!(
                (answer.status, &answer.json()["value"]),
                (200, &json!("x")),
                "{method}"
            );
        }
    }
    rig.dev.stop().await;
}

/// Follows next links as an SDK does: as they are, with the same credential.
pub(super) async fn all_pages(rig: &Rig, first: &str) -> Vec<Vec<Value>> {
    let writer = rig.token("writer");
    let base = format!("https://{}", rig.host());
    let mut target = first.to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = rig.ask("GET", &target, Some(&writer), "").await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        let page = answer.json();
        pages.push(page["value"].as_array().unwrap().clone());
        match page["nextLink"].as_str() {
            Some(link) => {
                target = link
                    .strip_prefix(&base)
                    .unwrap_or_else(|| panic!("another host: {link}"))
                    .to_owned()
            }
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_that_lead_to_each_other() {
    let rig = Rig::start().await;
    for number in 0..60 {
        rig.set(&format!("secret-{number:02}"), "x").await;
    }
    for _ in 0..7 {
        rig.set("secret-00", "x").await;
    }
    for (first, sizes) in [
        ("/secrets?api-version=7.4", vec![25, 25, 10]),
        ("/secrets?api-version=7.4&maxresults=20", vec![20, 20, 20]),
        (
            "/secrets/secret-00/versions?api-version=7.4&maxresults=3",
            vec![3, 3, 2],
        ),
        ("/secrets/never-made/versions?api-version=7.4", vec![0]),
    ] {
        let pages = all_pages(&rig, first).await;
        let found: Vec<_> = pages
            .iter()
            .map(Vec::len)
            .filter(|size| *size > 0 || pages.len() == 1)
            .collect();
        assert_eq!(found, sizes, "{first}");
        let ids: BTreeSet<_> = pages
            .iter()
            .flatten()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), sizes.iter().sum::<usize>(), "each once: {first}");
        assert!(
            pages
                .iter()
                .flatten()
                .all(|item| item.get("value").is_none() && item["attributes"]["enabled"] == true)
        );
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_for_its_own_list_alone() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    for number in 0..3 {
        rig.set("one", &number.to_string()).await;
        rig.set(&format!("other-{number}"), "x").await;
    }
    let page = rig
        .ask(
            "GET",
            "/secrets/one/versions?api-version=7.4&maxresults=1",
            Some(&writer),
            "",
        )
        .await
        .json();
    let token = skip_token(&page);
    let mut bent = token.to_owned();
    let last = bent.pop().unwrap();
    bent.push(if last == 'A' { 'B' } else { 'A' });
    for target in [
        format!("/secrets?api-version=7.4&$skiptoken={token}"),
        format!("/secrets/other-0/versions?api-version=7.4&$skiptoken={token}"),
        format!("/secrets/one/versions?api-version=7.4&$skiptoken={bent}"),
        "/secrets/one/versions?api-version=7.4&$skiptoken=".to_owned(),
    ] {
        let answer = rig.ask("GET", &target, Some(&writer), "").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "BadParameter"),
            "{target}"
        );
    }
    rig.dev.stop().await;
}

#[tokio::test]
async fn a_replica_that_can_do_nothing_on_record_ends_the_connection_so_that_a_retry_finds_another() {
    let rig = Rig::start().await;
    rig.set("db", "value").await;
    let reader = rig.token("reader");
    let get = request(
        "GET",
        "/secrets/db?api-version=7.4",
        &rig.host(),
        Some(&reader),
        b"",
    );
    let mut connection = rig.connect().await;
    assert_eq!(connection.ask(&get).await.unwrap().status, 200);

    let (dir, kept) = (rig.audit_dir(), rig.audit_dir().with_extension("kept"));
    std::fs::rename(&dir, &kept).unwrap();
    std::fs::write(&dir, "no folder").unwrap();
    let refused = connection.ask(&get).await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(!String::from_utf8_lossy(&refused.body).contains("value\":"));
    assert!(connection.is_closed_within(Duration::from_secs(1)).await);

    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&kept, &dir).unwrap();
    assert_eq!(rig.connect().await.ask(&get).await.unwrap().status, 200);
}
