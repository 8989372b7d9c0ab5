//! Backup and restore over the wire.

use serde_json::{Value, json};

use super::{Rig, request};

async fn ask_in(rig: &Rig, vault: &str, target: &str, body: &str) -> super::Answer {
    let target = format!("{target}?api-version=7.4");
    rig.ask_in(vault, "POST", &target, Some(&rig.token("writer")), body)
        .await
}

async fn backup(rig: &Rig, name: &str) -> String {
    let answer = ask_in(rig, "demo", &format!("/secrets/{name}/backup"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let blob = answer.json();
    assert_eq!(blob.as_object().unwrap().len(), 1);
    blob["value"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_a_secret_back_under_its_old_ids() {
    let rig = Rig::start().await;
    let first = rig.set("Pw", "first").await;
    let second = rig.set("pw", "second").await;
    let blob = backup(&rig, "pw").await;
    assert!(!blob.contains(['=', '+', '/']), "base64url without padding");
    let body = json!({ "value": blob }).to_string();

    let exists = ask_in(&rig, "demo", "/secrets/restore", &body).await;
    assert_eq!((exists.status, exists.code().as_str()), (409, "Conflict"));
    rig.delete("pw").await;
    let deleted = ask_in(&rig, "demo", "/secrets/restore", &body).await;
    assert_eq!(
        (deleted.status, deleted.code().as_str()),
        (409, "Conflict/ObjectIsDeletedButRecoverable")
    );
    let writer = rig.token("writer");
    let purged = rig
        .ask("DELETE", "/deletedsecrets/pw?api-version=7.4", Some(&writer), "")
        .await;
    assert_eq!(purged.status, 204);

    let restored = ask_in(&rig, "demo", "/secrets/restore", &body).await;
    assert_eq!(restored.status, 200, "{restored:?}");
    let restored = restored.json();
    assert_eq!((&restored["id"], restored.get("value")), (&second["id"], None));
    assert_eq!(restored["attributes"], second["attributes"]);
    let path = rig.path(&first["id"]);
    let older = rig
        .ask("GET", &format!("{path}?api-version=7.4"), Some(&writer), "")
        .await;
    assert_eq!(older.json()["value"], "first");

    // Into another vault of the same namespace, too.
    let other = ask_in(&rig, "strict", "/secrets/restore", &body).await;
    assert_eq!(other.status, 200, "{other:?}");
    let id = other.json()["id"].as_str().unwrap().to_owned();
    assert!(
        id.contains("strict.vault.localhost") && id.ends_with(path_end(&second)),
        "{id}"
    );

    // What was restored is on record under its name, although no request named it.
    let audit = rig.audit();
    let restores: Vec<Value> = audit
        .lines()
        .filter(|line| line.contains("SecretRestore") && line.contains("\"Success\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(restores.len(), 2);
    assert!(restores.iter().all(|line| {
        let id = line["properties"]["id"].as_str().unwrap();
        id.contains("/secrets/Pw/")
    }));
    assert!(!audit.contains(&blob));
    rig.dev.stop().await;
}

fn path_end(secret: &Value) -> &str {
    secret["id"].as_str().unwrap().rsplit('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_of_ours_is_refused_in_azures_words() {
    let rig = Rig::start().await;
    rig.set("pw", "x").await;
    let blob = backup(&rig, "pw").await;
    let mut bent = blob.clone().into_bytes();
    bent[40] = if bent[40] == b'A' { b'B' } else { b'A' };
    let bent = String::from_utf8(bent).unwrap();
    for value in [
        json!({ "value": bent }),
        json!({ "value": &blob[..blob.len() / 2] }),
        json!({ "value": "" }),
        json!({ "value": "no base64!" }),
        json!({ "value": 7 }),
        json!({}),
    ] {
        let answer = ask_in(&rig, "strict", "/secrets/restore", &value.to_string()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "BadParameter"),
            "{value}"
        );
    }
    let answer = ask_in(
        &rig,
        "strict",
        "/secrets/restore",
        &json!({ "value": bent }).to_string(),
    )
    .await;
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Malformed backup blob"), "{message}");
    let missing = ask_in(&rig, "demo", "/secrets/never/backup", "").await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "SecretNotFound"));
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backup_is_taken_from_who_may_restore_and_from_nobody_else() {
    let rig = Rig::start().await;
    let large = json!({ "value": "A".repeat(8 * 1024 * 1024) }).to_string();
    // Who may: the whole blob was read, and is none.
    let answer = ask_in(&rig, "demo", "/secrets/restore", &large).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "BadParameter"));
    // Who may not is told so before the body has come.
    for (account, status) in [("reader", 403), ("stranger", 403)] {
        let mut connection = rig.connect().await;
        let all = request(
            "POST",
            "/secrets/restore?api-version=7.4",
            &rig.host(),
            Some(&rig.token(account)),
            large.as_bytes(),
        );
        connection.send(&all[..64 * 1024]).await.unwrap();
        let answer = connection.answer(false).await.unwrap();
        assert_eq!(answer.status, status, "{account}");
    }
    let too_large = json!({ "value": "A".repeat(21 * 1024 * 1024) }).to_string();
    let answer = ask_in(&rig, "demo", "/secrets/restore", &too_large).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "BadParameter"));
    rig.dev.stop().await;
}
