//! Deleted secrets over the wire: seen, brought back, and gone for good.

use serde_json::json;

use super::secrets::all_pages;
use super::{Rig, request, skip_token};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_can_be_seen_and_recovered() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let first = rig.set("Pw", "first").await;
    rig.set("pw", "second").await;
    let deleted = rig.delete("PW").await;

    // Every SDK polls this until it answers 200.
    let polled = rig
        .ask("GET", "/deletedsecrets/pw?api-version=7.4", Some(&writer), "")
        .await;
    assert_eq!(polled.status, 200);
    assert_eq!(polled.json(), deleted);
    assert_eq!(deleted.get("value"), None);
    assert_eq!(
        deleted["recoveryId"],
        format!("https://{}/deletedsecrets/Pw", rig.host())
    );

    let recovered = rig
        .ask(
            "POST",
            "/deletedsecrets/PW/recover?api-version=7.4",
            Some(&writer),
            "",
        )
        .await;
    assert_eq!(recovered.status, 200, "{recovered:?}");
    let recovered = recovered.json();
    assert_eq!((&recovered["id"], recovered.get("value")), (&deleted["id"], None));
    assert_eq!(recovered.get("recoveryId"), None);
    assert_eq!(rig.get("pw").await.json()["value"], "second");
    let path = rig.path(&first["id"]);
    let older = rig
        .ask("GET", &format!("{path}?api-version=7.4"), Some(&writer), "")
        .await;
    assert_eq!(older.json()["value"], "first");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_name_is_free_and_every_refusal_is_azures() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let ask = async |method: &str, target: &str| {
        let answer = rig
            .ask(method, &format!("{target}?api-version=7.4"), Some(&writer), "")
            .await;
        let code = if answer.status < 300 {
            String::new()
        } else {
            answer.code()
        };
        (answer.status, code)
    };
    let missing = (404, "SecretNotFound".to_owned());
    for (method, target) in [
        ("GET", "/deletedsecrets/pw"),
        ("DELETE", "/deletedsecrets/pw"),
        ("POST", "/deletedsecrets/pw/recover"),
    ] {
        assert_eq!(
            ask(method, target).await,
            missing,
            "never made: {method} {target}"
        );
    }
    rig.set("pw", "x").await;
    for (method, target) in [
        ("GET", "/deletedsecrets/pw"),
        ("DELETE", "/deletedsecrets/pw"),
        ("POST", "/deletedsecrets/pw/recover"),
    ] {
        assert_eq!(ask(method, target).await, missing, "live: {method} {target}");
    }
    rig.delete("pw").await;
    assert_eq!(ask("DELETE", "/secrets/pw").await, missing, "deleted already");

    let mut connection = rig.connect().await;
    let purge = request(
        "DELETE",
        "/deletedsecrets/pw?api-version=7.4",
        &rig.host(),
        Some(&writer),
        b"",
    );
    let purged = connection.ask(&purge).await.unwrap();
    assert_eq!((purged.status, purged.body.len()), (204, 0), "{purged:?}");
    assert_eq!(purged.header("content-type"), None);
    assert!(purged.header("x-ms-request-id").is_some());
    // The connection goes on.
    let again = connection.ask(&purge).await.unwrap();
    assert_eq!((again.status, again.code()), missing);
    for (method, target) in [
        ("GET", "/secrets/pw"),
        ("GET", "/deletedsecrets/pw"),
        ("POST", "/deletedsecrets/pw/recover"),
    ] {
        assert_eq!(ask(method, target).await, missing, "purged: {method} {target}");
    }
    assert_eq!(rig.set("PW", "anew").await["value"], "anew");
    assert_eq!(rig.get("pw").await.json()["value"], "anew");
    let audit = rig.audit();
    for operation in ["SecretGetDeleted", "SecretPurge", "SecretRecover"] {
        assert!(
            audit.contains(&format!("\"operationName\":\"{operation}\"")),
            "{operation}"
        );
    }
    assert!(audit.contains("\"resultSignature\":\"No Content\""));
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_secrets_are_listed_in_pages_of_their_own() {
    let rig = Rig::start().await;
    for number in 0..30 {
        let name = format!("secret-{number:02}");
        rig.set(&name, "x").await;
        if number < 27 {
            rig.delete(&name).await;
        }
    }
    for (first, sizes) in [
        ("/deletedsecrets?api-version=7.4", vec![25, 2]),
        ("/deletedsecrets/?api-version=7.4&maxresults=10", vec![10, 10, 7]),
        ("/secrets?api-version=7.4", vec![3]),
    ] {
        let pages = all_pages(&rig, first).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{first}");
    }
    let pages = all_pages(&rig, "/deletedsecrets?api-version=7.4").await;
    let line = &pages[0][0];
    assert_eq!(line["id"], format!("https://{}/secrets/secret-00", rig.host()));
    assert_eq!(
        line["recoveryId"],
        format!("https://{}/deletedsecrets/secret-00", rig.host())
    );
    let days = line["scheduledPurgeDate"].as_i64().unwrap() - line["deletedDate"].as_i64().unwrap();
    assert_eq!(
        (days, &line["attributes"]["recoverableDays"]),
        (7 * 86_400, &json!(7))
    );

    // A token is good for its own list of its own vault.
    let writer = rig.token("writer");
    let page = rig
        .ask(
            "GET",
            "/deletedsecrets?api-version=7.4&maxresults=1",
            Some(&writer),
            "",
        )
        .await
        .json();
    let token = skip_token(&page);
    let elsewhere = rig
        .ask(
            "GET",
            &format!("/secrets?api-version=7.4&$skiptoken={token}"),
            Some(&writer),
            "",
        )
        .await;
    assert_eq!(
        (elsewhere.status, elsewhere.code().as_str()),
        (400, "BadParameter")
    );
    let target = format!("/deletedsecrets?api-version=7.4&$skiptoken={token}");
    let keeper = rig.token("keeper");
    let answer = rig.ask_in("other", "GET", &target, Some(&keeper), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "BadParameter"));
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_vault_purges_nothing_and_says_so() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let ask = async |method: &str, target: &str, body: &str| {
        let target = format!("{target}?api-version=7.4");
        rig.ask_in("strict", method, &target, Some(&writer), body).await
    };
    let set = ask("PUT", "/secrets/pw", r#"{"value":"x"}"#).await.json();
    assert_eq!(
        (
            &set["attributes"]["recoveryLevel"],
            &set["attributes"]["recoverableDays"]
        ),
        (&json!("Recoverable"), &json!(90))
    );
    assert_eq!(ask("DELETE", "/secrets/pw", "").await.status, 200);
    let purge = ask("DELETE", "/deletedsecrets/pw", "").await;
    assert_eq!((purge.status, purge.code().as_str()), (403, "Forbidden"));
    let message = purge.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("Operation \"purge\" is not allowed because purge protection"),
        "{message}"
    );
    assert_eq!(ask("DELETE", "/deletedsecrets/never", "").await.status, 404);
    assert_eq!(ask("POST", "/deletedsecrets/pw/recover", "").await.status, 200);
    rig.dev.stop().await;
}
