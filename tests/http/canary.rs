//! A value leaves in replies alone.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::Rig;

#[derive(Clone, Default)]
struct Everything(Arc<Mutex<Vec<u8>>>);

impl Write for Everything {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Everything {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Not even our own code at trace level, whatever its filter would let through in production, says a value or a token.
#[test]
fn neither_logs_nor_audit_nor_metrics_hold_a_value_or_a_token() {
    let logs = Everything::default();
    let filter = tracing_subscriber::EnvFilter::new("info,strongroom=trace");
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(logs.clone())
        .finish();
    // On one thread, so that everything that happens here is heard.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (audit, metrics, tokens) = tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let rig = Rig::start().await;
            let (writer, reader) = (rig.token("writer"), rig.token("reader"));
            rig.set("canary", "canary-5c1f").await;
            assert_eq!(rig.get("canary").await.json()["value"], "canary-5c1f");
            let too_long = json!({"value": format!("canary-5c1f{}", "x".repeat(26 * 1024))}).to_string();
            for (method, target, body) in [
                (
                    "PUT",
                    "/secrets/canary?api-version=7.4",
                    r#"{"value":"canary-5c1f","tags":7}"#,
                ),
                (
                    "PUT",
                    "/secrets/canary?api-version=7.4",
                    r#"{"value":"canary-5c1f""#,
                ),
                (
                    "PUT",
                    "/secrets/canary-5c1f_?api-version=7.4",
                    r#"{"value":"canary-5c1f"}"#,
                ),
                ("PUT", "/secrets/canary?api-version=7.4", &too_long),
                (
                    "PATCH",
                    "/secrets/canary?api-version=7.4",
                    r#"{"value":"canary-5c1f","tags":{"a":"canary-5c1f"}}"#,
                ),
                ("DELETE", "/secrets/canary?api-version=7.4", ""),
                (
                    "PUT",
                    "/secrets/canary?api-version=7.4",
                    r#"{"value":"canary-5c1f"}"#,
                ),
            ] {
                rig.ask(method, target, Some(&writer), body).await;
                rig.ask(method, target, Some(&reader), body).await;
                rig.ask(method, target, Some("canary-5c1f"), body).await;
            }
            let audit = rig.audit();
            let metrics = String::from_utf8(rig.dev.metrics.text().unwrap()).unwrap();
            rig.dev.stop().await;
            (audit, metrics, [writer, reader])
        })
    });
    let logs = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    assert!(
        audit.contains("SecretGet") && audit.contains("SecretSet"),
        "the log was read: {audit}"
    );
    for (what, text) in [("logs", &logs), ("audit", &audit), ("metrics", &metrics)] {
        assert!(!text.contains("canary-5c1f"), "{what}: {text}");
        for token in &tokens {
            let signature = token.rsplit('.').next().unwrap();
            assert!(!text.contains(signature), "{what} hold a token");
        }
    }
}
