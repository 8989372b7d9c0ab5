//! Events on pods whose mounted volume is refused: the files stay, and whoever looks at the pod reads why they grow old.
//!
//! # Why so few
//! A pod in trouble is refused again and again, by each replica and each stream. The event's name follows from what it
//! says and from the time, so that one is made per pod, text and ten minutes, whoever makes it; and only so many a second.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::model::{Clock, Moment, RefusedVolume, UnixSeconds};
use crate::telemetry::Metrics;

use super::api::{Api, Ask, Reason};

/// As what events name us. The guard `strongroom-accounts` knows it.
const REPORTER: &str = "strongroom-serve";
/// The same is told again after this long.
const AGAIN_AFTER_SECONDS: i64 = 600;
/// Between two events: the API server has better things to do.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest note that the API takes, in bytes.
const MAX_NOTE: usize = 1024;
const STAYS: &str = " The volume's files stay at their last value.";

/// Tells what comes until nobody refuses any more. What cannot be told is counted and let go.
pub async fn tell_pods(
    api: Api,
    clock: Clock,
    metrics: Arc<Metrics>,
    mut refused: mpsc::Receiver<RefusedVolume>,
) {
    while let Some(volume) = refused.recv().await {
        let event = event(&volume, clock.now());
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", volume.namespace);
        let Ok(body) = serde_json::to_vec(&event) else {
            continue;
        };
        let made = api.call(Ask::write(Method::POST, &path, body)).await;
        match made {
            Ok(_) => metrics.pod_event(None),
            // Another replica or stream told it.
            Err(error) if error.is(Reason::AlreadyExists) => {}
            Err(error) => {
                metrics.pod_event(Some(error.kind()));
                tracing::info!(%error, "an event on a pod could not be written");
            }
        }
        sleep(PAUSE).await;
    }
}

fn event(volume: &RefusedVolume, now: Moment) -> Value {
    let pod = &volume.pod;
    let mut note = volume.message.clone();
    note.truncate(note.floor_char_boundary(MAX_NOTE - STAYS.len()));
    note.push_str(STAYS);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name(volume, now.wall), "namespace": volume.namespace.as_str() },
        "eventTime": format!("{:.6}", time(now)),
        "reportingController": REPORTER,
        "reportingInstance": REPORTER,
        "action": "Deliver",
        "type": "Warning",
        "reason": volume.kind.reason(),
        "note": note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": volume.namespace.as_str(),
            "name": &*pod.name,
            "uid": pod.uid.as_str(),
        },
    })
}

/// The same for the same text about the same pod in the same ten minutes, on every replica.
fn name(volume: &RefusedVolume, now: UnixSeconds) -> String {
    let mut hasher = DefaultHasher::new();
    let period = now.0.div_euclid(AGAIN_AFTER_SECONDS);
    (volume.pod.uid.as_str(), &volume.message, period).hash(&mut hasher);
    // Names of pods and events alike end after 253 bytes.
    let pod = volume.pod.name.get(..200).unwrap_or(&volume.pod.name);
    format!("{}.{:016x}", pod.trim_end_matches(['.', '-']), hasher.finish())
}

fn time(now: Moment) -> Timestamp {
    let nanos = i32::try_from(now.nanos).unwrap_or_default();
    Timestamp::new(now.wall.0, nanos).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Namespace, PodRef, Uid};

    fn refused(pod: &str, message: &str) -> RefusedVolume {
        RefusedVolume {
            namespace: Namespace::parse("shop").unwrap(),
            pod: PodRef {
                name: pod.into(),
                uid: Uid::new(pod),
                node: None,
            },
            kind: Kind::Denied,
            message: message.to_owned(),
        }
    }

    fn at(seconds: i64) -> Moment {
        Moment {
            wall: UnixSeconds(seconds),
            nanos: 5_000,
            monotonic: std::time::Instant::now(),
        }
    }

    #[test]
    fn an_event_is_about_the_pod_and_says_what_was_refused() {
        let event = event(&refused("web-0", "Not allowed."), at(0));
        assert_eq!(event["regarding"]["name"], "web-0");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(
            (&event["reason"], &event["type"]),
            (&json!("Denied"), &json!("Warning"))
        );
        assert_eq!(
            event["note"],
            "Not allowed. The volume's files stay at their last value."
        );
        assert_eq!(event["eventTime"], "1970-01-01T00:00:00.000005Z");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_keeps_its_end() {
        let event = event(&refused("web-0", &"ä".repeat(1_000)), at(0));
        let note = event["note"].as_str().unwrap();
        assert!(note.len() <= MAX_NOTE && note.ends_with(STAYS));
    }

    #[test]
    fn the_same_is_told_once_in_ten_minutes() {
        let first = name(&refused("web-0", "No."), UnixSeconds(1_200));
        assert_eq!(name(&refused("web-0", "No."), UnixSeconds(1_799)), first);
        for other in [
            name(&refused("web-0", "No."), UnixSeconds(1_800)),
            name(&refused("web-0", "Never."), UnixSeconds(1_200)),
            name(&refused("web-1", "No."), UnixSeconds(1_200)),
        ] {
            assert_ne!(other, first);
        }
        let long = format!("{}-{}", "a".repeat(199), "b".repeat(50));
        let named = name(&refused(&long, "No."), UnixSeconds(0));
        assert!(named.len() <= 253 && named.starts_with(&format!("{}.", "a".repeat(199))));
    }
}
