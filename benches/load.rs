//! Load over kept-alive connections: each asks, reads the whole answer, asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

use crate::client::{Answer, Endpoint, request};

/// What to ask of which server.
pub(crate) struct Load {
    endpoint: Endpoint,
    name: String,
    requests: Arc<Vec<Vec<u8>>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    answers: u64,
    time: Duration,
    processor: Duration,
}

impl Measured {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.time += other.time;
        self.processor += other.processor;
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.time.as_secs_f64()
    }

    /// The server's processor time for one answer, in microseconds.
    pub(crate) fn processor_micros(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.answers as f64
    }
}

/// How a secret of the bench is named.
pub(crate) fn secret_name(number: usize) -> String {
    format!("secret-{number:05}")
}

impl Load {
    /// Asks for the first `secrets` secrets in turn.
    pub(crate) fn new(ready: &Value, secrets: usize) -> Self {
        let text = |key: &str| ready[key].as_str().unwrap();
        let requests = (0..secrets).map(|number| {
            let target = format!("/secrets/{}/?api-version=7.4", secret_name(number));
            request("GET", &target, text("host"), Some(text("token")), b"")
        });
        Self {
            endpoint: Endpoint::new(
                text("address").parse().unwrap(),
                text("trustBundle"),
                &[b"http/1.1"],
            ),
            name: text("host").split(':').next().unwrap().to_owned(),
            requests: Arc::new(requests.collect()),
        }
    }

    /// One answer.
    pub(crate) async fn once(&self) -> Answer {
        self.endpoint
            .http1(&self.name)
            .await
            .ask(&self.requests[0])
            .await
            .unwrap()
    }

    /// Asks over so many connections for some time, after a short while that does not count.
    pub(crate) async fn run(
        &self,
        connections: usize,
        time: Duration,
        processor_time: impl Fn() -> Duration,
    ) -> Measured {
        let (answers, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let ready = Arc::new(Barrier::new(connections + 1));
        let mut tasks = tokio::task::JoinSet::new();
        for connection in 0..connections {
            let stream = self.endpoint.connect(&self.name).await.unwrap();
            let (answers, over, ready) = (Arc::clone(&answers), Arc::clone(&over), Arc::clone(&ready));
            let requests = Arc::clone(&self.requests);
            tasks.spawn(async move {
                let mut stream = stream;
                let mut buffer = Vec::with_capacity(8 * 1024);
                ready.wait().await;
                let mut at = connection * 37;
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(&requests[at % requests.len()]).await.unwrap();
                    at += 1;
                    buffer.clear();
                    while !is_whole(&buffer) {
                        assert!(
                            stream.read_buf(&mut buffer).await.unwrap() > 0,
                            "the server ended the connection"
                        );
                    }
                    assert!(
                        buffer.starts_with(b"HTTP/1.1 200"),
                        "{}",
                        String::from_utf8_lossy(&buffer)
                    );
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        ready.wait().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (started, answered, used) = (Instant::now(), answers.load(Ordering::Relaxed), processor_time());
        tokio::time::sleep(time).await;
        let measured = Measured {
            answers: answers.load(Ordering::Relaxed) - answered,
            time: started.elapsed(),
            processor: processor_time().saturating_sub(used),
        };
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        measured
    }
}

/// Whether the buffer holds one whole answer.
fn is_whole(buffer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length: ";
    let position = |what: &[u8]| buffer.windows(what.len()).position(|window| window == what);
    let Some(end) = position(b"\r\n\r\n") else {
        return false;
    };
    let length = position(LENGTH).map_or(0, |at| {
        buffer[at + LENGTH.len()..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .fold(0, |n, b| n * 10 + usize::from(b - b'0'))
    });
    buffer.len() >= end + 4 + length
}
