//! Every route x every way in which a caller may be nobody, or nobody here.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::json;
use strongroom::crypto::{IssuerKey, SigningAlgorithm};
use strongroom::dataplane::{Action, ROUTES};

use super::{Rig, claims, request};

/// One row for each route: the request that reaches it.
pub(super) fn rows() -> Vec<(Action, &'static str, &'static str, &'static str)> {
    vec![
        (Action::ListSecrets, "GET", "/secrets?api-version=7.4", ""),
        (
            Action::ListSecretVersions,
            "GET",
            "/secrets/a/versions?api-version=7.4",
            "",
        ),
        (Action::GetSecret, "GET", "/secrets/a/?api-version=7.4", ""),
        (
            Action::SetSecret,
            "PUT",
            "/secrets/a?api-version=7.4",
            r#"{"value":"new"}"#,
        ),
        (
            Action::UpdateSecret,
            "PATCH",
            "/secrets/a/?api-version=7.4",
            r#"{"tags":{}}"#,
        ),
        (Action::DeleteSecret, "DELETE", "/secrets/a?api-version=7.4", ""),
        (
            Action::BackupSecret,
            "POST",
            "/secrets/a/backup?api-version=7.4",
            "",
        ),
        (
            Action::RestoreSecret,
            "POST",
            "/secrets/restore?api-version=7.4",
            r#"{"value":"AAAA"}"#,
        ),
        (
            Action::ListDeletedSecrets,
            "GET",
            "/deletedsecrets?api-version=7.4",
            "",
        ),
        (
            Action::GetDeletedSecret,
            "GET",
            "/deletedsecrets/gone?api-version=7.4",
            "",
        ),
        (
            Action::RecoverSecret,
            "POST",
            "/deletedsecrets/gone/recover?api-version=7.4",
            "",
        ),
        (
            Action::PurgeSecret,
            "DELETE",
            "/deletedsecrets/gone?api-version=7.4",
            "",
        ),
    ]
}

#[test]
fn every_route_has_its_row() {
    let rows = rows();
    let covered: HashSet<_> = rows
        .iter()
        .map(|(action, method, ..)| (*action, (*method).to_owned()))
        .collect();
    let routes: HashSet<_> = ROUTES
        .iter()
        .map(|row| (row.action, row.method.to_string()))
        .collect();
    assert_eq!(covered, routes, "a route without a row, or a row without a route");
}

/// HMAC-SHA-256, with the issuer's public key as the secret: what a careless verifier accepts.
fn hs256(rig: &Rig, claims: &serde_json::Value) -> String {
    let header = json!({"alg": "HS256", "kid": rig.dev.issuer.kid(), "typ": "JWT"});
    let text = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let key = jsonwebtoken::EncodingKey::from_secret(&rig.dev.issuer.jwks());
    let signature =
        jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{text}.{signature}")
}

fn unsigned(rig: &Rig, claims: &serde_json::Value) -> String {
    let header = json!({"alg": "none", "kid": rig.dev.issuer.kid(), "typ": "JWT"});
    format!(
        "{}.{}.",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_anywhere_without_a_good_token_and_a_policy() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    rig.set("gone", "kept too").await;
    rig.delete("gone").await;
    let bent = |bend: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = claims("writer");
        bend(&mut claims);
        claims
    };
    let sign = |claims: &serde_json::Value| rig.dev.issuer.sign(claims).unwrap();
    let strange_key = IssuerKey::generate(SigningAlgorithm::ES256).unwrap();
    let mut damaged = sign(&claims("writer"));
    let last = damaged.pop().unwrap();
    damaged.push(if last == 'A' { 'Q' } else { 'A' });
    let now = strongroom::telemetry::clock::system().now().wall.0;

    let unauthorized = (401, "Unauthorized");
    let forbidden = (403, "Forbidden/ForbiddenByPolicy");
    let callers: Vec<(&str, Option<String>, (u16, &str))> = vec![
        ("no token", None, unauthorized),
        ("an empty token", Some(" ".into()), unauthorized),
        ("no token at all", Some("not-a-token".into()), unauthorized),
        (
            "another audience",
            Some(sign(&bent(&|c| c["aud"] = json!(["https://vault.azure.net"])))),
            unauthorized,
        ),
        (
            "ours and another audience",
            Some(sign(&bent(&|c| c["aud"] = json!(["strongroom.dev", "x"])))),
            unauthorized,
        ),
        (
            "the internal audience",
            Some(rig.dev.own_token("strongroom-operate").unwrap()),
            unauthorized,
        ),
        (
            "no audience",
            Some(sign(&bent(&|c| c["aud"] = json!([])))),
            unauthorized,
        ),
        (
            "another issuer",
            Some(sign(&bent(&|c| c["iss"] = json!("https://example.com")))),
            unauthorized,
        ),
        (
            "expired",
            Some(sign(&bent(&|c| c["exp"] = json!(now - 11)))),
            unauthorized,
        ),
        (
            "no expiry",
            Some(sign(&bent(&|c| {
                c.as_object_mut().unwrap().remove("exp");
            }))),
            unauthorized,
        ),
        (
            "not yet valid",
            Some(sign(&bent(&|c| c["nbf"] = json!(now + 60)))),
            unauthorized,
        ),
        ("alg none", Some(unsigned(&rig, &claims("writer"))), unauthorized),
        ("HS256", Some(hs256(&rig, &claims("writer"))), unauthorized),
        (
            "an unknown key",
            Some(strange_key.sign(&claims("writer")).unwrap()),
            unauthorized,
        ),
        ("a damaged signature", Some(damaged), unauthorized),
        (
            "a pod that is gone",
            Some(sign(&bent(&|c| c["kubernetes.io"]["pod"]["uid"] = json!("gone")))),
            unauthorized,
        ),
        (
            "an account made anew",
            Some(sign(&bent(&|c| {
                c["kubernetes.io"]["serviceaccount"]["uid"] = json!("older")
            }))),
            unauthorized,
        ),
        (
            "an account that its pod does not have",
            Some(sign(&bent(&|c| {
                c["kubernetes.io"]["pod"] = json!({"name": "reader-0", "uid": "pod/team/reader"})
            }))),
            unauthorized,
        ),
        (
            "bound to a Secret",
            Some(sign(&bent(&|c| {
                c["kubernetes.io"]["secret"] = json!({"name": "s", "uid": "s"})
            }))),
            unauthorized,
        ),
        (
            "bound to no pod",
            Some(sign(&bent(&|c| {
                c["kubernetes.io"]
                    .as_object_mut()
                    .unwrap()
                    .retain(|k, _| k == "namespace" || k == "serviceaccount");
            }))),
            forbidden,
        ),
        ("no permission", Some(rig.token("stranger")), forbidden),
    ];
    for (action, method, target, body) in rows() {
        for (caller, token, (status, code)) in &callers {
            let answer = rig.ask(method, target, token.as_deref(), body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (*status, *code),
                "{action:?}, {caller}"
            );
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.is_some(), *status == 401, "{action:?}, {caller}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("kept"));
        }
        // One permission gives that and nothing else.
        let reader = rig.ask(method, target, Some(&rig.token("reader")), body).await;
        let reads = matches!(action, Action::GetSecret | Action::GetDeletedSecret);
        let expected = if reads { 200 } else { 403 };
        assert_eq!(reader.status, expected, "{action:?}");
        // The same caller, in a vault where nobody gave them anything.
        let writer = rig.token("writer");
        let answer = rig.ask_in("other", method, target, Some(&writer), body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "Forbidden/ForbiddenByPolicy"),
            "{action:?}"
        );
        // A vault that is not there, in the caller's own namespace.
        let answer = rig.ask_in("missing", method, target, Some(&writer), body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "VaultNotFound"),
            "{action:?}"
        );
    }
    assert_eq!(
        rig.get("a").await.json()["value"],
        "kept",
        "nothing of all that changed anything"
    );
    let gone = rig
        .ask(
            "GET",
            "/deletedsecrets/gone?api-version=7.4",
            Some(&rig.token("writer")),
            "",
        )
        .await;
    assert_eq!(gone.status, 200, "it is deleted still, and can be recovered");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_pod_on_an_open_connection() {
    let rig = Rig::start().await;
    rig.set("a", "x").await;
    let token = rig.token("reader");
    let mut connection = rig.connect().await;
    let get = request(
        "GET",
        "/secrets/a?api-version=7.4",
        &rig.host(),
        Some(&token),
        b"",
    );
    assert_eq!(connection.ask(&get).await.unwrap().status, 200);
    rig.dev.world.update(|world| {
        world
            .liveness
            .remove_pod(&strongroom::model::Uid::new("pod/team/reader"))
    });
    let answer = connection.ask(&get).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (401, "Unauthorized"));
    rig.dev.stop().await;
}
