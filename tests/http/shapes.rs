//! What SDKs write and read: challenge, paths, hosts, headers, errors.

use serde_json::json;

use super::{Rig, request};

#[tokio::test(flavor = "multi_thread")]
async fn an_unauthenticated_request_is_challenged_whatever_else_is_wrong_with_it() {
    let rig = Rig::start().await;
    let port = rig.dev.address.port();
    let expected = format!(
        r#"Bearer authorization="https://strongroom-token.strongroom-system.svc/{}", resource="https://vault.localhost:{port}""#,
        rig.dev.tenant
    );
    for (method, target, body) in [
        ("GET", "/secrets/a/?api-version=7.4", ""),
        ("PUT", "/secrets/a?api-version=7.4", ""),
        ("PUT", "/secrets/a?api-version=7.4", "no json"),
        ("GET", "/", ""),
        ("GET", "/secrets/a", ""),
        ("GET", "/secrets/a?api-version=x", ""),
        ("GET", "/secrets/..%2f?api-version=x", ""),
        ("POST", "/keys/k//sign?api-version=7.4", "{}"),
        ("DELETE", "/nothing", ""),
        ("OPTIONS", "/secrets/a", ""),
    ] {
        let answer = rig.ask(method, target, None, body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "Unauthorized"),
            "{method} {target}"
        );
        assert_eq!(
            answer.header("www-authenticate"),
            Some(expected.as_str()),
            "{method} {target}"
        );
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("AKV10000"), "{message}");
    }
    // An SDK's two steps on one connection: challenged, then served.
    let mut connection = rig.connect().await;
    let first = request("PUT", "/secrets/a?api-version=7.4", &rig.host(), None, b"");
    assert_eq!(connection.ask(&first).await.unwrap().status, 401);
    let second = request(
        "PUT",
        "/secrets/a?api-version=7.4",
        &rig.host(),
        Some(&rig.token("writer")),
        br#"{"value":"x"}"#,
    );
    assert_eq!(connection.ask(&second).await.unwrap().status, 200);
    rig.dev.stop().await;
}

/// Splits the challenge as the strictest of the SDKs do (see the table of parsers in the wire reference).
#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_is_what_every_sdks_parser_reads() {
    let rig = Rig::start().await;
    let answer = rig.ask("GET", "/secrets/a", None, "").await;
    let challenge = answer.header("www-authenticate").unwrap();
    let go: Vec<Vec<&str>> = challenge
        .strip_prefix("Bearer ")
        .unwrap()
        .split(' ')
        .map(|part| part.split('=').collect())
        .collect();
    assert!(
        go.iter().all(|part| part.len() == 2),
        "Go wants exactly one '=' in each part: {challenge}"
    );
    let javascript: Vec<&str> = challenge.strip_prefix("Bearer ").unwrap().split(", ").collect();
    assert_eq!(
        javascript.len(),
        2,
        "JavaScript wants a space after each comma: {challenge}"
    );
    let resource = javascript[1]
        .strip_prefix("resource=\"https://")
        .unwrap()
        .strip_suffix('"')
        .unwrap();
    assert!(
        rig.host().ends_with(&format!(".{resource}")),
        "the vault is a child of the resource: {resource}"
    );
    let authority = javascript[0]
        .strip_prefix("authorization=\"https://")
        .unwrap()
        .strip_suffix('"')
        .unwrap();
    assert_eq!(
        authority.split('/').nth(1),
        Some(rig.dev.tenant.as_str()),
        "the path is the tenant alone"
    );
    assert_eq!(authority.split('/').count(), 2);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_path_that_an_sdk_writes_is_served_on_one_connection() {
    let rig = Rig::start().await;
    let set = rig.set("Db-Password", "x").await;
    let version = set["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut connection = rig.connect().await;
    let token = rig.token("writer");
    for target in [
        "/secrets/Db-Password/?api-version=7.4".to_owned(),
        "/secrets/Db-Password?api-version=7.4".to_owned(),
        "/secrets/db-password/?api%2Dversion=2025-07-01".to_owned(),
        "//secrets/DB-PASSWORD/?api-version=2026-04-01".to_owned(),
        "/SECRETS/db-password/?api-version=2026-03-01-preview".to_owned(),
        format!("/secrets/db-password/{version}?api-version=7.6-preview.2"),
        format!("/secrets/db-password/{}?api-version=7.0", version.to_uppercase()),
        format!("/secrets/db-password/{version}/?api-version=2016-10-01"),
    ] {
        let answer = connection
            .ask(&request("GET", &target, &rig.host(), Some(&token), b""))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(answer.json()["value"], "x", "{target}");
        let id = format!("https://{}/secrets/Db-Password/{version}", rig.host());
        assert_eq!(answer.json()["id"], id, "{target}");
    }
    for target in [
        "/secrets?api-version=7.4",
        "/secrets/?api-version=7.4",
        "/secrets/db-password/versions?api-version=7.4",
    ] {
        let answer = connection
            .ask(&request("GET", target, &rig.host(), Some(&token), b""))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.json()["value"].as_array().map(Vec::len)),
            (200, Some(1)),
            "{target}"
        );
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_azures_headers() {
    let rig = Rig::start().await;
    let mut connection = rig.connect().await;
    let mut ask = async |id: &str| {
        let mut request = request(
            "GET",
            "/secrets/a?api-version=7.4",
            &rig.host(),
            Some(&rig.token("reader")),
            b"",
        );
        request.truncate(request.len() - 2);
        request.extend_from_slice(format!("x-ms-client-request-id: {id}\r\n\r\n").as_bytes());
        connection.ask(&request).await.unwrap()
    };
    let answer = ask("0a1b2c3d-0000-4000-8000-000000000000").await;
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-client-request-id", "0a1b2c3d-0000-4000-8000-000000000000"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(
        answer
            .header("strict-transport-security")
            .unwrap()
            .starts_with("max-age=")
    );
    assert!(answer.header("x-ms-keyvault-service-version").is_some());
    assert_eq!(answer.header("x-ms-request-id").unwrap().len(), 36);
    assert!(
        answer.header("server").is_none(),
        "nobody needs to know what serves"
    );
    let again = ask("an id with \"quotes\" and spaces").await;
    assert_eq!(again.header("x-ms-client-request-id"), None);
    assert_ne!(again.header("x-ms-request-id"), answer.header("x-ms-request-id"));
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_in_azures_words() {
    let rig = Rig::start().await;
    rig.set("a", "x").await;
    let token = rig.token("writer");
    let value = |bytes: usize| json!({"value": "x".repeat(bytes)}).to_string();
    let many_tags: serde_json::Map<_, _> = (0..16).map(|n| (format!("t{n}"), json!("x"))).collect();
    for (method, target, body, status, code) in [
        ("GET", "/secrets/a", String::new(), 400, "BadParameter"),
        (
            "GET",
            "/secrets/a?api-version=latest",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets?api-version=7.4&maxresults=0",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets?api-version=7.4&maxresults=26",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets?api-version=7.4&$skiptoken=abc",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets/a_b?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets/a%20b?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets/a/1?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets//a?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets/a/../a?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "GET",
            "/secrets/missing?api-version=7.4",
            String::new(),
            404,
            "SecretNotFound",
        ),
        (
            "GET",
            "/secrets/a/00000000000000000000000000000000?api-version=7.4",
            String::new(),
            404,
            "SecretNotFound",
        ),
        ("GET", "/nothing?api-version=7.4", String::new(), 404, "NotFound"),
        ("GET", "/projection", String::new(), 404, "NotFound"),
        ("POST", "/operate/ensure-vault", "{}".to_owned(), 404, "NotFound"),
        (
            "POST",
            "/secrets/a?api-version=7.4",
            "{}".to_owned(),
            405,
            "MethodNotAllowed",
        ),
        (
            "OPTIONS",
            "/secrets/a?api-version=7.4",
            String::new(),
            405,
            "MethodNotAllowed",
        ),
        (
            "TRACE",
            "/secrets/a?api-version=7.4",
            String::new(),
            405,
            "MethodNotAllowed",
        ),
        (
            "BREW",
            "/secrets/a?api-version=7.4",
            String::new(),
            405,
            "MethodNotAllowed",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            String::new(),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            "{}".to_owned(),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            "[]".to_owned(),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            r#"{"value":7}"#.to_owned(),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            value(25 * 1024 + 1),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            value(300 * 1024),
            413,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            json!({"value": "x", "tags": many_tags}).to_string(),
            400,
            "BadParameter",
        ),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            json!({"value": "x", "contentType": "x".repeat(256)}).to_string(),
            400,
            "BadParameter",
        ),
        (
            "PATCH",
            "/secrets/missing?api-version=7.4",
            "{}".to_owned(),
            404,
            "SecretNotFound",
        ),
        (
            "DELETE",
            "/secrets/missing?api-version=7.4",
            String::new(),
            404,
            "SecretNotFound",
        ),
    ] {
        let answer = rig.ask(method, target, Some(&token), &body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {target}: {answer:?}"
        );
        assert_eq!(
            answer.header("allow").is_some(),
            status == 405,
            "{method} {target}"
        );
    }
    assert_eq!(
        rig.ask(
            "PUT",
            "/secrets/b?api-version=7.4",
            Some(&token),
            &value(25 * 1024)
        )
        .await
        .status,
        200
    );
    let escaped = format!(r#"{{"value":"{}"}}"#, "\\u0041".repeat(25 * 1024));
    assert_eq!(
        rig.ask("PUT", "/secrets/b?api-version=7.4", Some(&token), &escaped)
            .await
            .status,
        200
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_never_repeat_what_was_sent() {
    let rig = Rig::start().await;
    let token = rig.token("writer");
    for (method, target, body) in [
        ("GET", "/secrets/marker_7f?api-version=7.4", ""),
        ("GET", "/marker-7f/x?api-version=7.4", ""),
        ("GET", "/secrets?api-version=marker-7f", ""),
        ("GET", "/secrets?api-version=7.4&maxresults=marker-7f", ""),
        ("GET", "/secrets?api-version=7.4&$skiptoken=marker-7f", ""),
        (
            "PUT",
            "/secrets/a?api-version=7.4",
            r#"{"value":"marker-7f","tags":7}"#,
        ),
        ("PUT", "/secrets/a?api-version=7.4", r#"{"value":"marker-7f"#),
    ] {
        let answer = rig.ask(method, target, Some(&token), body).await;
        assert!(
            (400..500).contains(&answer.status),
            "{method} {target}: {answer:?}"
        );
        let all = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        assert!(!all.contains("marker"), "{method} {target}: {answer:?}");
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_host_than_the_connections_is_misdirected() {
    let rig = Rig::start().await;
    rig.set("a", "x").await;
    let token = rig.token("writer");
    let port = rig.dev.address.port();
    for (name, host) in [
        ("demo.vault.localhost", format!("other.vault.localhost:{port}")),
        ("other.vault.localhost", format!("demo.vault.localhost:{port}")),
        ("localhost", format!("demo.vault.localhost:{port}")),
        ("localhost", "localhost".to_owned()),
        ("127.0.0.1", format!("127.0.0.1:{port}")),
    ] {
        let mut connection = rig.endpoint.http1(name).await;
        let answer = connection
            .ask(&request(
                "GET",
                "/secrets/a?api-version=7.4",
                &host,
                Some(&token),
                b"",
            ))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (421, "MisdirectedRequest"),
            "{name} {host}"
        );
    }
    assert!(
        rig.endpoint.connect("demo.example.com").await.is_err(),
        "no certificate for a host that is not ours"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_no_body_and_the_connection_goes_on() {
    let rig = Rig::start().await;
    let token = rig.token("writer");
    let mut connection = rig.connect().await;
    connection
        .send(&request(
            "HEAD",
            "/secrets?api-version=7.4",
            &rig.host(),
            Some(&token),
            b"",
        ))
        .await
        .unwrap();
    let answer = connection.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
    let next = request("GET", "/secrets?api-version=7.4", &rig.host(), Some(&token), b"");
    assert_eq!(connection.ask(&next).await.unwrap().status, 200);
    rig.dev.stop().await;
}
