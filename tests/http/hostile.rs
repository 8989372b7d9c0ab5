//! Input that no client of ours sends: each gets a clear answer or none, the process stays small and well, and others are
//! served meanwhile.

use std::time::{Duration, Instant};

use strongroom::dataplane::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Endpoint;
use super::{Rig, request};

/// The same limits with shorter waits, so that the tests need not wait as long.
fn impatient() -> Limits {
    Limits {
        handshake: Duration::from_millis(800),
        head: Duration::from_millis(800),
        body: Duration::from_millis(800),
        idle_unknown: Duration::from_millis(1_500),
        ..Limits::vaults()
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A client that wants nothing but its secret gets it, and soon.
async fn others_are_served(rig: &Rig) {
    let started = Instant::now();
    assert_eq!(rig.get("kept").await.json()["value"], "x");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http_gets_a_4xx_or_an_end() {
    let rig = Rig::start().await;
    rig.set("kept", "x").await;
    let (host, token) = (rig.host(), rig.token("writer"));
    let long = "x".repeat(100 * 1024);
    let head =
        |lines: &str| format!("GET /secrets/kept?api-version=7.4 HTTP/1.1\r\n{lines}\r\n").into_bytes();
    let good = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n");
    let put = |lines: &str, body: &str| {
        let head = format!("PUT /secrets/a?api-version=7.4 HTTP/1.1\r\n{good}{lines}\r\n");
        [head.as_bytes(), body.as_bytes()].concat()
    };
    for (what, bytes) in [
        ("no HTTP", b"\x00\x01\x02\x03\r\n\r\n".to_vec()),
        (
            "HTTP/2 where HTTP/1.1 was agreed",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        (
            "another version",
            format!("GET / HTTP/9.9\r\n{good}\r\n").into_bytes(),
        ),
        (
            "a NUL in the path",
            format!("GET /secrets/a\0b HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        (
            "a space in the path",
            format!("GET /secrets/a b HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        ("no path", format!("GET  HTTP/1.1\r\n{good}\r\n").into_bytes()),
        (
            "a path of 100 KiB",
            format!("GET /{long} HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        ("a header of 100 KiB", head(&format!("{good}X: {long}\r\n"))),
        (
            "5,000 headers",
            head(&format!("{good}{}", "X: y\r\n".repeat(5_000))),
        ),
        ("a header without a name", head(&format!("{good}: x\r\n"))),
        ("a line break in a header", head(&format!("{good}X: a\rb\r\n"))),
        ("no Host", head(&format!("Authorization: Bearer {token}\r\n"))),
        ("two Hosts", head(&format!("{good}Host: {host}\r\n"))),
        (
            "a Host that is none",
            head(&format!("Host: {host}/../x\r\nAuthorization: Bearer {token}\r\n")),
        ),
        (
            "two tokens",
            head(&format!("{good}Authorization: Bearer {token}\r\n")),
        ),
        ("a length that is none", put("Content-Length: x\r\n", "")),
        ("a negative length", put("Content-Length: -1\r\n", "")),
        (
            "two lengths",
            put("Content-Length: 1\r\nContent-Length: 2\r\n", "xx"),
        ),
        (
            "length and chunks",
            put(
                "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
                r#"{"value":"y"}"#,
            ),
        ),
        (
            "chunks that are none",
            put("Transfer-Encoding: chunked\r\n", "zz\r\n\r\n"),
        ),
        (
            "a chunk of 2^64 bytes",
            put("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n"),
        ),
        ("an unknown encoding", put("Transfer-Encoding: gzip\r\n", "x")),
        (
            "a compressed body",
            put("Content-Encoding: gzip\r\nContent-Length: 2\r\n", "\x1f\x08"),
        ),
        (
            "an absolute URI of another host",
            format!("GET https://other.vault.localhost/ HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        (
            "CONNECT",
            format!("CONNECT {host} HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        (
            "an asterisk",
            format!("OPTIONS * HTTP/1.1\r\n{good}\r\n").into_bytes(),
        ),
        ("a body of no JSON", put("Content-Length: 5\r\n", "{\"va\0")),
        (
            "a body of no UTF-8",
            put("Content-Length: 14\r\n", "{\"value\":\"\\ud8\"}"),
        ),
        ("JSON 100,000 deep", {
            let deep = format!(r#"{{"value":"x","a":{}"#, "[".repeat(100_000));
            put(&format!("Content-Length: {}\r\n", deep.len()), &deep)
        }),
    ] {
        let mut connection = rig.connect().await;
        // It may be refused before it is all sent.
        let _ = connection.send(&bytes).await;
        match tokio::time::timeout(Duration::from_secs(12), connection.answer(false)).await {
            Ok(Ok(answer)) => assert!((400..500).contains(&answer.status), "{what}: {answer:?}"),
            Ok(Err(_)) => {}
            Err(_) => panic!("{what}: neither answered nor ended"),
        }
    }
    assert!(
        !rig.get("a").await.json()["error"].is_null(),
        "none of it set anything"
    );
    others_are_served(&rig).await;
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_too_slow_are_refused_and_cost_no_memory() {
    let rig = Rig::with(impatient()).await;
    rig.set("kept", "x").await;
    let (host, token) = (rig.host(), rig.token("writer"));
    let before = resident();

    // 100 MB, declared: an answer without any of it being kept.
    let head = format!(
        "PUT /secrets/a?api-version=7.4 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        100 * 1024 * 1024
    );
    let mut large = Vec::new();
    for _ in 0..8 {
        let mut connection = rig.connect().await;
        connection.send(head.as_bytes()).await.unwrap();
        large.push(tokio::spawn(async move {
            let piece = vec![b'x'; 1024 * 1024];
            for _ in 0..100 {
                if connection.send(&piece).await.is_err() {
                    break;
                }
            }
            connection.answer(false).await
        }));
    }
    others_are_served(&rig).await;
    for one in large {
        let answer = one.await.unwrap().expect("an answer stands before the end");
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    }

    // Endless, in chunks.
    let mut connection = rig.connect().await;
    let chunked = head.replace(
        &format!("Content-Length: {}", 100 * 1024 * 1024),
        "Transfer-Encoding: chunked",
    );
    connection.send(chunked.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 32 * 1024, "x".repeat(32 * 1024));
    for _ in 0..64 {
        if connection.send(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert_eq!(connection.answer(false).await.unwrap().status, 413);

    // Without a token the body is of no interest at all.
    let mut connection = rig.connect().await;
    let nobody = head.replace(&format!("Authorization: Bearer {token}\r\n"), "");
    connection.send(nobody.as_bytes()).await.unwrap();
    assert_eq!(connection.answer(false).await.unwrap().status, 401);

    // One byte, and then nothing.
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut connection = rig.connect().await;
        connection
            .send(head.replace(&(100 * 1024 * 1024).to_string(), "100").as_bytes())
            .await
            .unwrap();
        connection.send(b"{").await.unwrap();
        slow.push(connection);
    }
    others_are_served(&rig).await;
    for mut connection in slow {
        assert_eq!(connection.answer(false).await.unwrap().status, 408);
        assert!(connection.is_closed_within(Duration::from_secs(5)).await);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "resident memory grew by {grown} KiB");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_ended_and_hold_up_nobody() {
    let rig = Rig::with(impatient()).await;
    rig.set("kept", "x").await;
    let host = rig.host();
    // Silence before TLS, half a ClientHello, silence after TLS, half a head, a head drop by drop.
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut tcp = TcpStream::connect(rig.dev.address).await.unwrap();
        if number % 2 == 0 {
            tcp.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
        }
        silent.push(tcp);
    }
    let mut halves = Vec::new();
    for number in 0..100 {
        let mut connection = rig.connect().await;
        if number % 2 == 0 {
            connection
                .send(format!("GET /secrets HTTP/1.1\r\nHost: {host}\r\n").as_bytes())
                .await
                .unwrap();
        }
        halves.push(connection);
    }
    let mut dripping = rig.connect().await;
    let drops = tokio::spawn(async move {
        let started = Instant::now();
        for byte in format!(
            "GET /secrets HTTP/1.1\r\nHost: {host}\r\nX: {}",
            "y".repeat(10_000)
        )
        .bytes()
        {
            if dripping.send(&[byte]).await.is_err()
                || dripping.is_closed_within(Duration::from_millis(50)).await
            {
                break;
            }
        }
        started.elapsed()
    });
    others_are_served(&rig).await;
    for mut tcp in silent {
        let end = tokio::time::timeout(Duration::from_secs(10), async {
            while matches!(tcp.read(&mut [0; 64]).await, Ok(1..)) {}
        });
        assert!(end.await.is_ok(), "a handshake that does not come is ended");
    }
    for mut connection in halves {
        assert!(
            connection.is_closed_within(Duration::from_secs(10)).await,
            "a head that does not come is ended"
        );
    }
    assert!(drops.await.unwrap() < Duration::from_secs(10));
    others_are_served(&rig).await;
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answer_is_cut() {
    let rig = Rig::with(Limits {
        unread: Duration::from_secs(1),
        ..impatient()
    })
    .await;
    rig.set("large", &"x".repeat(25 * 1024)).await;
    let mut connection = rig.connect().await;
    let get = request(
        "GET",
        "/secrets/large?api-version=7.4",
        &rig.host(),
        Some(&rig.token("reader")),
        b"",
    );
    // Asks without reading until the answers have nowhere to go, and then until it is cut.
    let mut asked = 0;
    let until_cut = async {
        while connection.send(&get).await.is_ok() {
            asked += 1;
        }
    };
    let cut = tokio::time::timeout(Duration::from_secs(60), until_cut).await;
    assert!(cut.is_ok(), "it is never cut");
    let mut answered = 0;
    let rest = async {
        while connection.answer(false).await.is_ok() {
            answered += 1;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), rest).await;
    assert!(ended.is_ok(), "it is cut for reading, too");
    assert!(
        answered < asked,
        "what it did not read in time it does not get: {answered} of {asked}"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_every_connection() {
    let rig = Rig::with(Limits {
        connections_per_address: 20,
        ..Limits::vaults()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(rig.connect().await);
    }
    assert!(rig.endpoint.connect("demo.vault.localhost").await.is_err());
    held.truncate(10);
    tokio::time::timeout(Duration::from_secs(5), async {
        while rig.endpoint.connect("demo.vault.localhost").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a place that is given up can be taken");
    rig.dev.stop().await;
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connection_and_hold_up_nobody() {
    let rig = Rig::start().await;
    rig.set("kept", "x").await;
    let before = resident();
    let h2 = Endpoint::new(rig.dev.address, &rig.dev.trust_bundle, &[b"h2"]);
    let attack = async {
        let mut stream = h2.connect("demo.vault.localhost").await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut sent = 0_u32;
        for stream_id in (1_u32..200_000).step_by(2) {
            // HEADERS: :method GET, :scheme https, :path /, and END_STREAM | END_HEADERS; then RST_STREAM, CANCEL.
            let id = stream_id.to_be_bytes();
            let mut frames = vec![0, 0, 3, 1, 5, id[0], id[1], id[2], id[3], 0x82, 0x87, 0x84];
            frames.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
            if stream.write_all(&frames).await.is_err() {
                break;
            }
            sent += 1;
        }
        tokio::time::timeout(Duration::from_secs(5), async {
            while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
        })
        .await
        .expect("the connection ends");
        sent
    };
    let (sent, ()) = tokio::join!(attack, others_are_served(&rig));
    assert!(
        sent < 100_000,
        "it was ended before it was done, after {sent} resets"
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "resident memory grew by {grown} KiB");
    others_are_served(&rig).await;
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_serves_as_http1_does() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let rig = Rig::start().await;
    rig.set("kept", "x").await;
    let h2 = Endpoint::new(rig.dev.address, &rig.dev.trust_bundle, &[b"h2", b"http/1.1"]);
    let stream = h2.connect("demo.vault.localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let ask = |method: &str, body: Vec<u8>, host: String| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://{host}/secrets/kept?api-version=7.4"))
            .header("authorization", format!("Bearer {}", rig.token("writer")))
            .body(Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let mut sender = sender.clone();
        async move {
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        }
    };
    let (status, body) = ask("GET", Vec::new(), rig.host()).await;
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["value"],
        "x"
    );
    assert_eq!(ask("PUT", br#"{"value":"y"}"#.to_vec(), rig.host()).await.0, 200);
    assert_eq!(ask("PUT", vec![b'x'; 300 * 1024], rig.host()).await.0, 413);
    assert_eq!(
        ask(
            "GET",
            Vec::new(),
            format!("other.vault.localhost:{}", rig.dev.address.port())
        )
        .await
        .0,
        421
    );
    let all = futures::future::join_all((0..200).map(|_| ask("GET", Vec::new(), rig.host()))).await;
    assert!(
        all.iter().all(|(status, _)| *status == 200),
        "more at once than the limit wait for their turn"
    );
    rig.dev.stop().await;
}
