//! A person's word, as an annotation that holds when it was given (RFC 3339): who may change the object may give it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{Namespace, Uid, UnixSeconds};

use super::api::{Api, ApiError, Ask};

/// For how long a word counts: it shall not speak for what happens later.
const COUNTS_FOR_SECONDS: i64 = 3600;
/// How far that person's clock may be ahead of ours.
const AHEAD_SECONDS: i64 = 300;

/// When this word was given.
pub(crate) fn said(annotations: &BTreeMap<String, String>, word: &str) -> Option<Timestamp> {
    annotations.get(word)?.parse().ok()
}

/// Whether a word that was given at that time counts now.
pub(crate) fn counts(said: Timestamp, now: UnixSeconds) -> bool {
    let age = now.0.saturating_sub(said.as_second());
    (-AHEAD_SECONDS..=COUNTS_FOR_SECONDS).contains(&age)
}

/// The namespace that Strongroom is installed in, and what people said on it.
#[derive(Debug)]
pub(crate) struct Home {
    /// Its UID.
    pub uid: Uid,
    /// What is written on it.
    pub annotations: BTreeMap<String, String>,
}

/// Reads our own namespace, by quorum.
pub(crate) async fn home(api: &Api, namespace: &Namespace) -> Result<Home, ApiError> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let path = format!("/api/v1/namespaces/{namespace}");
    let Object { metadata } = api.read(Ask::get(&path)).await?;
    Ok(Home {
        uid: Uid::new(&metadata.uid),
        annotations: metadata.annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_word_counts_for_an_hour() {
        let said: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let after = |seconds| UnixSeconds(said.as_second() + seconds);
        for (seconds, expected) in [
            (0, true),
            (3600, true),
            (3601, false),
            (-300, true),
            (-301, false),
        ] {
            assert_eq!(counts(said, after(seconds)), expected, "{seconds}");
        }
    }
}
