//! Clients that go away in the middle: what was acknowledged stands, what was begun is carried to its end and on record.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use strongroom::gate::Request;
use strongroom::model::{AttributesChange, ObjectName, Operation, SecretBytes, SetSecret, Tags};
use tokio::io::AsyncWriteExt;

use super::client::Endpoint;
use super::{Rig, request};

/// The values of all versions of a secret, the newest last, each with how often it is there.
async fn values(rig: &Rig, name: &str) -> Vec<String> {
    let writer = rig.token("writer");
    let mut target = format!("/secrets/{name}/versions?api-version=7.4");
    let mut ids = Vec::new();
    loop {
        let page = rig.ask("GET", &target, Some(&writer), "").await.json();
        ids.extend(
            page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page["nextLink"].as_str() {
            Some(link) => target = link.split_once(&rig.host()).unwrap().1.to_owned(),
            None => break,
        }
    }
    let mut values = Vec::new();
    for id in ids {
        let path = id.split_once(&rig.host()).unwrap().1;
        let answer = rig
            .ask("GET", &format!("{path}?api-version=7.4"), Some(&writer), "")
            .await;
        values.push(answer.json()["value"].as_str().unwrap().to_owned());
    }
    values
}

/// Lines of the audit log that say an intent, and those that say an outcome, of sets.
async fn settle(rig: &Rig) {
    // What is carried on after its client went is done when nothing is under way any more: each set has two lines.
    for _ in 0..200 {
        let audit = rig.audit();
        let sets: Vec<_> = audit
            .lines()
            .filter(|line| line.contains("\"SecretSet\""))
            .collect();
        if sets.len() % 2 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("an intent without an outcome: {}", rig.audit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_after_any_byte_leaves_all_or_nothing() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let mut acknowledged = BTreeSet::new();
    let mut tried = BTreeSet::new();
    let whole = request(
        "PUT",
        "/secrets/a?api-version=7.4",
        &rig.host(),
        Some(&writer),
        br#"{"value":"v-00000"}"#,
    );
    let body_at = whole.len() - 19;
    // Within the head, around its end, within the body, at its end.
    let cuts = (0..body_at - 4).step_by(97).chain(body_at - 4..=whole.len());
    for (number, cut) in cuts.enumerate() {
        let value = format!("v-{number:05}");
        let bytes = String::from_utf8(whole.clone())
            .unwrap()
            .replace("v-00000", &value)
            .into_bytes();
        let mut connection = rig.connect().await;
        connection.send(&bytes[..cut]).await.unwrap();
        if cut == whole.len() {
            tried.insert(value.clone());
            assert_eq!(connection.answer(false).await.unwrap().status, 200);
            acknowledged.insert(value);
        }
    }
    settle(&rig).await;
    let found = values(&rig, "a").await;
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "no version twice");
    assert_eq!(set, acknowledged, "half a request does nothing");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_at_any_moment_after_its_request_leaves_what_is_on_record() {
    let rig = Rig::start().await;
    let writer = rig.token("writer");
    let h1 = &rig.endpoint;
    let mut acknowledged = BTreeSet::new();
    for number in 0..300_u64 {
        let value = format!("v-{number:05}");
        let body = format!(r#"{{"value":"{value}"}}"#);
        let bytes = request(
            "PUT",
            "/secrets/a?api-version=7.4",
            &rig.host(),
            Some(&writer),
            body.as_bytes(),
        );
        let mut connection = h1.http1("demo.vault.localhost").await;
        connection.send(&bytes).await.unwrap();
        // From at once to well after the answer.
        let patience = Duration::from_micros(number * 20);
        if let Ok(Ok(answer)) = tokio::time::timeout(patience, connection.answer(false)).await {
            assert_eq!(answer.status, 200);
            acknowledged.insert(value);
        }
        if number % 2 == 0 {
            // Gone without a word.
            let (tcp, _) = connection.stream.into_inner();
            tcp.set_zero_linger().unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    settle(&rig).await;
    let found = values(&rig, "a").await;
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "no version twice");
    assert!(acknowledged.is_subset(&set), "nothing acknowledged is lost");
    assert!(
        !acknowledged.is_empty() && acknowledged.len() < 300,
        "both kinds of clients were there"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_stream_that_is_reset_at_any_moment_leaves_what_is_on_record() {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let rig = Rig::start().await;
    let h2 = Endpoint::new(rig.dev.address, &rig.dev.trust_bundle, &[b"h2"]);
    let connect = async || {
        let stream = h2.connect("demo.vault.localhost").await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        (sender, tokio::spawn(connection))
    };
    let (mut sender, mut connection) = connect().await;
    let mut acknowledged = BTreeSet::new();
    for number in 0..300_u64 {
        let value = format!("v-{number:05}");
        let request = http::Request::builder()
            .method("PUT")
            .uri(format!("https://{}/secrets/a?api-version=7.4", rig.host()))
            .header("authorization", format!("Bearer {}", rig.token("writer")))
            .body(Full::new(bytes::Bytes::from(format!(r#"{{"value":"{value}"}}"#))))
            .unwrap();
        let patience = Duration::from_micros(number * 20);
        let answer = match sender.ready().await {
            Ok(()) => tokio::time::timeout(patience, sender.send_request(request)).await,
            Err(closed) => Ok(Err(closed)),
        };
        match answer {
            Ok(Ok(answer)) => {
                assert_eq!(answer.status(), 200);
                acknowledged.insert(value);
            }
            // The server ends a connection on which too many streams are reset before it takes them up (CVE-2023-44487):
            // so it is for whoever resets them while it is not given the time to. It is no other end that it comes to.
            Ok(Err(_)) => {
                let end = format!("{:?}", connection.await.unwrap());
                assert!(end.contains("ENHANCE_YOUR_CALM"), "{end}");
                (sender, connection) = connect().await;
            }
            Err(_) => {}
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    settle(&rig).await;
    let found = values(&rig, "a").await;
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "no version twice");
    assert!(acknowledged.is_subset(&set), "nothing acknowledged is lost");
    rig.dev.stop().await;
}

/// Whoever asks the gate may be gone at any of its awaits.
#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_dropped_after_any_number_of_polls_is_whole_or_never_was() {
    let rig = Rig::start().await;
    rig.set("read", "x").await;
    let connection = rig.dev.gate.connection([127, 0, 0, 1].into());
    let token = rig.token("writer");
    let vault = &rig.dev.vaults[0].id;
    let mut acknowledged = BTreeSet::new();
    for number in 0..240_u64 {
        let polls = number % 12;
        let value = format!("v-{number:05}");
        let set = Operation::SetSecret(SetSecret {
            name: ObjectName::parse("a").unwrap(),
            value: SecretBytes::new(value.clone().into_bytes()),
            content_type: None,
            tags: Tags::new(),
            attributes: AttributesChange::default(),
        });
        let get = Operation::GetSecret {
            name: ObjectName::parse("read").unwrap(),
            version: None,
        };
        for operation in [set, get] {
            let is_set = matches!(operation, Operation::SetSecret(_));
            let mut future = Box::pin(async {
                let admitted = rig.dev.gate.admit(&connection, Some(&token)).await?;
                let request = Request::new(vault.clone(), operation);
                rig.dev.gate.perform(admitted, request).await
            });
            // Some stay to the end, however busy the machine is.
            if number % 24 == 23 {
                future.await.unwrap();
                if is_set {
                    acknowledged.insert(value.clone());
                }
                continue;
            }
            for _ in 0..polls {
                if let Poll::Ready(done) = futures::poll!(future.as_mut()) {
                    done.unwrap();
                    if is_set {
                        acknowledged.insert(value.clone());
                    }
                    break;
                }
                // From nothing to enough for a sync of the disk.
                tokio::time::sleep(Duration::from_micros(number * 10)).await;
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    settle(&rig).await;
    let found = values(&rig, "a").await;
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "no version twice");
    assert!(acknowledged.is_subset(&set), "nothing acknowledged is lost");
    assert!(!acknowledged.is_empty(), "some were patient enough");
    let changed = rig
        .audit()
        .lines()
        .filter(|line| line.contains("\"SecretSet\""))
        .count();
    assert_eq!(
        changed,
        (found.len() + 1) * 2,
        "each version has its intent and its outcome on record"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_handshake_costs_nothing() {
    let rig = Rig::start().await;
    for cut in (1..300).step_by(13) {
        let mut tcp = tokio::net::TcpStream::connect(rig.dev.address).await.unwrap();
        tcp.write_all(&vec![0x16; cut]).await.unwrap();
        tcp.set_zero_linger().unwrap();
    }
    assert_eq!(rig.get("missing").await.status, 404);
    rig.dev.stop().await;
}
