//! How much may be asked for: who is told to come again, how, and that it is nobody else's trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom::dataplane::Limits;
use strongroom::gate::Rates;
use strongroom::model::{Clock, Moment, UnixSeconds};
use strongroom::telemetry::clock;

use super::client::Answer;
use super::projection::{files, node, project};
use super::{Rig, request};

/// Seconds by which a clock that stands is put forward.
type Ahead = Arc<AtomicU64>;

/// A vault whose clock stands, so that nothing is filled in until it is put forward, and which holds throttled answers back
/// for so long.
async fn rig(rates: Rates, throttled: Duration) -> (Rig, Ahead) {
    let (start, ahead) = (clock::system().now(), Ahead::default());
    let shown = Arc::clone(&ahead);
    let stands = Clock::new(move || {
        let seconds = shown.load(Ordering::Relaxed);
        Moment {
            wall: UnixSeconds(start.wall.0 + seconds.cast_signed()),
            monotonic: start.monotonic + Duration::from_secs(seconds),
            ..start
        }
    });
    let limits = Limits {
        throttled,
        ..Limits::vaults()
    };
    let rig = Rig::with_all(limits, Limits::internal(), rates, stands).await;
    (rig, ahead)
}

/// Whether an answer is Azure's 429, for this reason.
fn throttled(answer: &Answer, reason: &str) -> bool {
    let seconds: u64 = answer
        .header("retry-after")
        .map_or(0, |seconds| seconds.parse().unwrap());
    answer.status == 429
        && answer.code() == "Throttled"
        && answer.header("www-authenticate").is_none()
        && (1..=10).contains(&seconds)
        && answer.json()["error"]["message"]
            == format!("Request was not processed because too many requests were received. Reason: {reason}")
}

/// What the metrics say of a limit.
fn counted(rig: &Rig, limit: &str) -> u64 {
    let text = String::from_utf8(rig.dev.metrics.text().unwrap()).unwrap();
    let start = format!("strongroom_throttled_total{{limit=\"{limit}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&start));
    count.expect("it is counted").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_floods_is_told_so_before_its_token_is_looked_at_and_fills_no_log() {
    let rates = Rates {
        address: 30,
        ..Rates::NONE
    };
    let (rig, ahead) = rig(rates, Duration::ZERO).await;
    let (mut unauthorized, mut refused) = (0, 0);
    for attempt in 0..200 {
        let token = if attempt % 2 == 0 {
            None
        } else {
            Some("no.good.token")
        };
        let answer = rig.ask("GET", "/secrets/a?api-version=7.4", token, "").await;
        if answer.status == 401 {
            unauthorized += 1;
        } else {
            assert!(throttled(&answer, "AddressRequestLimitReached"), "{answer:?}");
            refused += 1;
        }
    }
    assert_eq!((unauthorized, refused), (30, 170));
    assert_eq!(counted(&rig, "address"), refused);
    assert_eq!(rig.get("a").await.status, 429, "whatever he shows now");
    let audit = rig.audit();
    let lines = audit.lines().filter(|line| line.contains("Authentication"));
    assert_eq!(lines.count(), 1, "of all in one second");
    ahead.store(1, Ordering::Relaxed);
    for status in [404, 404, 404, 429] {
        assert_eq!(rig.get("a").await.status, status, "and then he is heard again");
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_who_floods_holds_up_no_other() {
    let rates = Rates {
        caller: 50,
        ..Rates::NONE
    };
    let (rig, _) = rig(rates, Duration::ZERO).await;
    rig.set("a", "kept").await;
    let ask = async |account: &str| {
        let token = rig.token(account);
        rig.ask("GET", "/secrets/a?api-version=7.4", Some(&token), "")
            .await
    };
    // Who has no permission is counted like who has.
    for account in ["stranger", "reader"] {
        let mut refused = 0;
        for _ in 0..100 {
            let answer = ask(account).await;
            refused += u64::from(throttled(&answer, "CallerRequestLimitReached"));
        }
        assert_eq!(refused, 50, "{account}");
    }
    assert_eq!(counted(&rig, "caller"), 100);
    assert_eq!(ask("writer").await.status, 200);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_connection_is_counted_once_with_a_body_or_without() {
    let rates = Rates {
        address: 21,
        caller: 20,
        ..Rates::NONE
    };
    let (rig, _) = rig(rates, Duration::ZERO).await;
    let (host, writer) = (rig.host(), rig.token("writer"));
    let mut connection = rig.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..11 {
        let put = request(
            "PUT",
            "/secrets/a?api-version=7.4",
            &host,
            Some(&writer),
            br#"{"value":"x"}"#,
        );
        let get = request("GET", "/secrets/a?api-version=7.4", &host, Some(&writer), b"");
        for bytes in [put, get] {
            let answer = connection.ask(&bytes).await.unwrap();
            statuses.push((answer.status, throttled(&answer, "CallerRequestLimitReached")));
        }
    }
    let expected = [vec![(200, false); 20], vec![(429, true), (429, false)]].concat();
    assert_eq!(statuses, expected, "the caller's share, and then the address's");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vaults_share_is_spent_by_those_who_may_do_something_there_and_by_kind() {
    let rates = Rates {
        vault: 40,
        vault_creates: 20,
        ..Rates::NONE
    };
    let (rig, _) = rig(rates, Duration::ZERO).await;
    rig.set("a", "kept").await;
    for _ in 0..100 {
        let stranger = rig.token("stranger");
        let answer = rig
            .ask("GET", "/secrets/a?api-version=7.4", Some(&stranger), "")
            .await;
        assert_eq!(answer.status, 403, "his own refusals cost the vault nothing");
    }
    let writer = rig.token("writer");
    let mut made = 1;
    for number in 0..60 {
        let body = json!({ "value": number.to_string() }).to_string();
        let answer = rig
            .ask("PUT", "/secrets/a?api-version=7.4", Some(&writer), &body)
            .await;
        if answer.status == 200 {
            made += 1;
        } else {
            assert!(throttled(&answer, "VaultRequestTypeLimitReached"), "{answer:?}");
        }
    }
    let mut read = 0;
    for _ in 0..80 {
        let answer = rig.get("a").await;
        if answer.status == 200 {
            read += 1;
        } else {
            assert!(throttled(&answer, "VaultRequestTypeLimitReached"), "{answer:?}");
        }
    }
    assert_eq!((made, read), (20, 40));
    assert_eq!((counted(&rig, "vault_creates"), counted(&rig, "vault")), (41, 40));
    // Another vault has its own.
    let host = format!("other.vault.localhost:{}", rig.dev.address.port());
    let mut connection = rig.endpoint.http1("other.vault.localhost").await;
    let keeper = rig.token("keeper");
    let get = request("GET", "/secrets?api-version=7.4", &host, Some(&keeper), b"");
    assert_eq!(connection.ask(&get).await.unwrap().status, 200);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_too_much_waits_for_the_answer_and_holds_up_nobody() {
    const HELD: Duration = Duration::from_secs(3);
    let rates = Rates {
        caller: 10,
        ..Rates::NONE
    };
    let (rig, _) = rig(rates, HELD).await;
    let ask = async |account: &str| {
        let token = rig.token(account);
        let began = Instant::now();
        let answer = rig
            .ask("GET", "/secrets/a?api-version=7.4", Some(&token), "")
            .await;
        (answer.status, began.elapsed())
    };
    for _ in 0..10 {
        assert_eq!(ask("stranger").await.0, 403);
    }
    let (refused, served) = tokio::join!(ask("stranger"), ask("writer"));
    assert!(refused.0 == 429 && refused.1 >= HELD, "{refused:?}");
    assert!(served.0 == 404 && served.1 < HELD, "{served:?}");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_not_counted_and_our_own_processes_have_their_own_door() {
    let rates = Rates {
        address: 25,
        caller: 25,
        vault: 5,
        vault_creates: 100,
    };
    let (rig, _) = rig(rates, Duration::ZERO).await;
    for number in 0..20 {
        rig.set(&format!("s{number}"), "kept").await;
    }
    // The vaults' door is shut for this address, at which the node is too.
    for _ in 0..40 {
        rig.ask("GET", "/secrets/a?api-version=7.4", None, "").await;
    }
    let objects: String = (0..20).map(|number| format!("- secret: s{number}\n")).collect();
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), &objects).await;
    assert_eq!(files(&mut stream).await.len(), 20);
    rig.dev.stop().await;
}
