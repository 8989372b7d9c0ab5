//! The root key in a Secret of the release namespace.
//!
//! # Why so careful
//! A second root key beside records of the first would be a vault that lost everything and says nothing. So the Secret is
//! only ever created, never written over; and it is created only where no sealed record exists at all.
//!
//! The other way round it is the same: a root key without any record is an installation that lost all of them, or one whose
//! very first start was cut off before it sealed anything. The second goes on by itself and is known by two marks: the
//! Secret says that it was made in this very namespace, and the ConfigMap of the trust bundle, which is written once the
//! store was opened, says nothing of an installation yet. All else starts with nothing only if a person says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::crd::{self, annotations};
use crate::crypto::mac::constant_time_eq;
use crate::crypto::{CryptoError, RootKey};
use crate::model::{Kind, Namespace, RootKeyCare, SecretBytes, Uid, UnixSeconds};
use crate::telemetry::Metrics;

use super::api::{Api, ApiError, Ask, METADATA, Reason};
use super::sealed_records::any_record;
use super::trust_bundle::names_an_installation;

/// Name of the Secret.
pub const ROOT_KEY_SECRET: &str = "strongroom-root-key";
/// Its one key: 32 bytes.
pub const ROOT_KEY_FIELD: &str = "root-key";

/// How often it is looked at whether somebody escrowed the key, or deleted it.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// For how long the word of a person that nothing is to be found counts: it shall not speak for a later loss.
const EMPTY_FOR_SECONDS: i64 = 3600;
/// How far that person's clock may be ahead of ours.
const AHEAD_SECONDS: i64 = 300;

/// The root key, and where it came from.
pub struct RootKeyFound {
    /// The key.
    pub key: RootKey,
    /// Whether this call made it: then no sentinel is sealed under it yet, and it must be escrowed.
    pub created: bool,
}

/// Why there is no root key. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Sealed records exist and the Secret does not.
    #[error(
        "sealed records exist in namespace {namespace}, but their root key, Secret {ROOT_KEY_SECRET}, does not. \
         A new key would not open them, so none is made. Restore the Secret from its escrow: kubectl -n {namespace} \
         create secret generic {ROOT_KEY_SECRET} --from-file={ROOT_KEY_FIELD}=<file with the 32 bytes>"
    )]
    Missing {
        /// The release namespace.
        namespace: Namespace,
    },
    /// The Secret holds something else than a root key.
    #[error(
        "Secret {ROOT_KEY_SECRET} in namespace {namespace} does not hold a root key: its key {ROOT_KEY_FIELD} must be \
         exactly 32 bytes. Restore it from its escrow"
    )]
    NotAKey {
        /// The release namespace.
        namespace: Namespace,
    },
    /// The Secret is there, and all that was sealed under it is not.
    #[error(
        "Secret {ROOT_KEY_SECRET} is there and no sealed record at all is in namespace {namespace}: what was sealed under \
         this key is gone, or has not been restored yet. Strongroom does not start with nothing by itself. Restore the \
         SealedRecords of this namespace from a backup. Only if there are none to restore, and it shall start empty: \
         kubectl -n {namespace} annotate secret {ROOT_KEY_SECRET} --overwrite {start}=$(date -u +%Y-%m-%dT%H:%M:%SZ) \
         (counts for an hour)",
        start = annotations::START_EMPTY
    )]
    StoreEmpty {
        /// The release namespace.
        namespace: Namespace,
    },
    /// Looking where the Secret was made failed.
    #[error("whether this is a first start cannot be told: {0}")]
    LookAtPast(#[source] ApiError),
    /// Looking whether sealed records exist failed.
    #[error("whether sealed records exist cannot be told: {0}")]
    LookForRecords(#[source] ApiError),
    /// Reading the Secret failed.
    #[error("Secret {ROOT_KEY_SECRET} cannot be read: {0}")]
    Read(#[source] ApiError),
    /// Creating the Secret failed.
    #[error("Secret {ROOT_KEY_SECRET} cannot be created: {0}")]
    Create(#[source] ApiError),
    /// No key could be generated.
    #[error("a root key cannot be generated: {0}")]
    Generate(#[source] CryptoError),
}

impl RootKeyError {
    /// The kind of failure. Only [`Kind::Unavailable`] is worth waiting for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } | Self::StoreEmpty { .. } => Kind::NotFound,
            Self::NotAKey { .. } => Kind::Invalid,
            Self::LookForRecords(error)
            | Self::LookAtPast(error)
            | Self::Read(error)
            | Self::Create(error) => error.kind(),
            Self::Generate(_) => Kind::Internal,
        }
    }
}

/// Reads the root key, or makes it where nothing was ever sealed. Of several replicas that start at once one makes it and
/// the others read that one.
///
/// # Errors
/// [`RootKeyError`].
pub async fn root_key(
    api: &Api,
    namespace: &Namespace,
    now: UnixSeconds,
) -> Result<RootKeyFound, RootKeyError> {
    if let Some(found) = read(api, namespace).await? {
        return used(api, namespace, found, now).await;
    }
    let sealed = any_record(api, namespace).await;
    if sealed.map_err(RootKeyError::LookForRecords)? {
        // Another replica may have made both since the first look.
        return match read(api, namespace).await? {
            Some((key, _)) => Ok(RootKeyFound { key, created: false }),
            None => Err(RootKeyError::Missing {
                namespace: namespace.clone(),
            }),
        };
    }
    let home = home(api, namespace).await?;
    let key = RootKey::generate().map_err(RootKeyError::Generate)?;
    let created = match create(api, namespace, &home, &key).await {
        Ok(()) => true,
        Err(error) if error.is(Reason::AlreadyExists) => false,
        // Perhaps it was made: what is read below decides.
        Err(ApiError::NoAnswer | ApiError::Malformed) => false,
        Err(error) => return Err(RootKeyError::Create(error)),
    };
    // What lies there is the key, whoever made it.
    match read(api, namespace).await? {
        Some((found, _)) => {
            let ours = constant_time_eq(found.to_bytes().expose(), key.to_bytes().expose());
            Ok(RootKeyFound {
                created: created || ours,
                key: found,
            })
        }
        None => Err(RootKeyError::Create(ApiError::NoAnswer)),
    }
}

/// A key that was there before this start: either something is sealed under it, or it may be that nothing is yet.
async fn used(
    api: &Api,
    namespace: &Namespace,
    (key, marks): (RootKey, Marks),
    now: UnixSeconds,
) -> Result<RootKeyFound, RootKeyError> {
    // Before the look for records: whoever wrote this has sealed some before.
    let opened = names_an_installation(api, namespace).await;
    let past = Past {
        opened: opened.map_err(RootKeyError::LookAtPast)?,
        made_here: marks.made_in == Some(home(api, namespace).await?),
        says_empty: marks.start_empty.is_some_and(|said| counts(said, now)),
    };
    let sealed = any_record(api, namespace).await;
    if !sealed.map_err(RootKeyError::LookForRecords)? {
        if !past.may_start_empty() {
            return Err(RootKeyError::StoreEmpty {
                namespace: namespace.clone(),
            });
        }
        tracing::warn!(
            ?past,
            "a root key is there and no sealed record: starting with nothing"
        );
    }
    Ok(RootKeyFound { key, created: false })
}

/// What speaks for and against a start with nothing under a key that was there before.
#[derive(Debug, Clone, Copy)]
struct Past {
    /// The store was opened before, so something was sealed.
    opened: bool,
    /// The Secret is the one that was made in this namespace: neither a person nor a backup brought it.
    made_here: bool,
    /// A person said within the hour that there is nothing.
    says_empty: bool,
}

impl Past {
    const fn may_start_empty(self) -> bool {
        self.says_empty || self.made_here && !self.opened
    }
}

/// Whether what was said at that time counts now.
fn counts(said: Timestamp, now: UnixSeconds) -> bool {
    let age = now.0.saturating_sub(said.as_second());
    (-AHEAD_SECONDS..=EMPTY_FOR_SECONDS).contains(&age)
}

/// UID of the release namespace.
async fn home(api: &Api, namespace: &Namespace) -> Result<Uid, RootKeyError> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    let path = format!("/api/v1/namespaces/{namespace}");
    let object: Object = api
        .read(Ask::get(&path))
        .await
        .map_err(RootKeyError::LookAtPast)?;
    Ok(Uid::new(&object.metadata.uid))
}

/// Tells how the key is cared for, until dropped. While the API server does not answer, what was told last holds.
pub async fn watch_root_key(
    api: Api,
    namespace: Namespace,
    metrics: Arc<Metrics>,
    care: watch::Sender<Option<RootKeyCare>>,
) {
    loop {
        match care_now(&api, &namespace).await {
            Ok(now) => {
                metrics.root_key(now);
                let changed = care.send_if_modified(|known| known.replace(now) != Some(now));
                if changed && now == RootKeyCare::Missing {
                    tracing::error!(
                        namespace = namespace.as_str(),
                        "Secret {ROOT_KEY_SECRET} is gone: no replica that starts anew can open anything; restore it \
                         from its escrow"
                    );
                }
            }
            Err(error) => tracing::info!(%error, "whether the root key's Secret is there cannot be told"),
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn care_now(api: &Api, namespace: &Namespace) -> Result<RootKeyCare, ApiError> {
    let path = format!("{}/{ROOT_KEY_SECRET}", collection(namespace));
    // Without the key: this asks again and again.
    let ask = Ask {
        accept: METADATA,
        ..Ask::get(&path)
    };
    match api.read::<SecretObject>(ask).await {
        Ok(secret) if secret.metadata.annotations.contains_key(annotations::ESCROWED) => {
            Ok(RootKeyCare::Escrowed)
        }
        Ok(_) => Ok(RootKeyCare::NotEscrowed),
        Err(error) if error.is(Reason::NotFound) => Ok(RootKeyCare::Missing),
        Err(error) => Err(error),
    }
}

fn collection(namespace: &Namespace) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

#[derive(Deserialize)]
struct SecretObject {
    #[serde(default)]
    metadata: SecretMetadata,
    #[serde(default)]
    data: SecretData,
}

#[derive(Deserialize, Default)]
struct SecretMetadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct SecretData {
    #[serde(rename = "root-key")]
    root_key: Option<ByteString>,
}

/// What the Secret says about itself.
#[derive(Debug, PartialEq, Eq)]
struct Marks {
    /// UID of the namespace that it was made in.
    made_in: Option<Uid>,
    /// When somebody said that there is nothing to be found.
    start_empty: Option<Timestamp>,
}

async fn read(api: &Api, namespace: &Namespace) -> Result<Option<(RootKey, Marks)>, RootKeyError> {
    let path = format!("{}/{ROOT_KEY_SECRET}", collection(namespace));
    let secret: SecretObject = match api.read(Ask::get(&path)).await {
        Ok(secret) => secret,
        Err(error) if error.is(Reason::NotFound) => return Ok(None),
        Err(error) => return Err(RootKeyError::Read(error)),
    };
    parse(secret, namespace).map(Some)
}

fn parse(secret: SecretObject, namespace: &Namespace) -> Result<(RootKey, Marks), RootKeyError> {
    let not_a_key = || RootKeyError::NotAKey {
        namespace: namespace.clone(),
    };
    let bytes = secret.data.root_key.ok_or_else(not_a_key)?;
    let key = RootKey::from_bytes(&SecretBytes::new(bytes.0)).map_err(|_| not_a_key())?;
    let says = |annotation| secret.metadata.annotations.get(annotation);
    let marks = Marks {
        made_in: says(annotations::MADE_IN).map(|uid| Uid::new(uid)),
        start_empty: says(annotations::START_EMPTY).and_then(|at| at.parse().ok()),
    };
    Ok((key, marks))
}

async fn create(api: &Api, namespace: &Namespace, home: &Uid, key: &RootKey) -> Result<(), ApiError> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": ROOT_KEY_SECRET,
            "labels": { crd::labels::MANAGED_BY: crd::labels::STRONGROOM },
            "annotations": {
                annotations::MADE_IN: home.as_str(),
                "strongroom.dev/about": "The key that opens every vault of this installation. Keep a copy outside the \
                    cluster. Whoever reads it and the SealedRecords reads everything; without it nobody reads anything."
            },
        },
        "type": "Opaque",
        // Nobody changes it by accident; to restore another, this one is deleted first.
        "immutable": true,
        "data": { ROOT_KEY_FIELD: ByteString(key.to_bytes().expose().to_vec()) },
    });
    let body = serde_json::to_vec(&secret).map_err(|_| ApiError::Malformed)?;
    let path = collection(namespace);
    api.call(Ask::write(http::Method::POST, &path, body))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace::parse("strongroom-system").unwrap()
    }

    fn parsed(text: &str) -> Result<(RootKey, Marks), RootKeyError> {
        parse(serde_json::from_str(text).unwrap(), &namespace())
    }

    #[test]
    fn only_a_first_start_that_was_cut_off_or_a_persons_word_starts_with_nothing() {
        for (opened, made_here, says_empty, may) in [
            (false, true, false, true),
            (true, true, false, false),
            (false, false, false, false),
            (true, false, false, false),
            (true, true, true, true),
            (false, false, true, true),
        ] {
            let past = Past {
                opened,
                made_here,
                says_empty,
            };
            assert_eq!(past.may_start_empty(), may, "{past:?}");
        }
    }

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

    #[test]
    fn a_secret_says_where_it_was_made_and_what_a_person_said() {
        let key = r#""data":{"root-key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
        let marks = |annotations: &str| {
            let text = format!(r#"{{"metadata":{{"annotations":{annotations}}},{key}}}"#);
            parsed(&text).unwrap().1
        };
        let none = Marks {
            made_in: None,
            start_empty: None,
        };
        assert_eq!(marks("{}"), none);
        assert_eq!(marks(r#"{"strongroom.dev/start-empty":"yes"}"#), none);
        let both = r#"{"strongroom.dev/made-in":"n1","strongroom.dev/start-empty":"2026-11-22T10:00:00Z"}"#;
        let expected = Marks {
            made_in: Some(Uid::new("n1")),
            start_empty: Some("2026-11-22T10:00:00Z".parse().unwrap()),
        };
        assert_eq!(marks(both), expected);
    }

    #[test]
    fn a_secret_holds_a_root_key_of_exactly_32_bytes() {
        let good = r#"{"data":{"root-key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#;
        assert!(parsed(good).is_ok());
        for bad in [
            r"{}",
            r#"{"data":{}}"#,
            r#"{"data":{"other":"AA=="}}"#,
            r#"{"data":{"root-key":"AA=="}}"#,
        ] {
            assert!(matches!(parsed(bad), Err(RootKeyError::NotAKey { .. })), "{bad}");
        }
    }

    #[test]
    fn an_empty_store_says_what_to_do() {
        let text = RootKeyError::StoreEmpty {
            namespace: namespace(),
        }
        .to_string();
        assert!(text.contains("Restore the SealedRecords"));
        assert!(text.contains(
            "kubectl -n strongroom-system annotate secret strongroom-root-key --overwrite strongroom.dev/start-empty=$(date"
        ));
    }

    #[test]
    fn a_missing_root_key_says_what_to_do() {
        let text = RootKeyError::Missing {
            namespace: namespace(),
        }
        .to_string();
        assert!(text.contains("Restore the Secret from its escrow"));
        assert!(text.contains(
            "kubectl -n strongroom-system create secret generic strongroom-root-key --from-file=root-key="
        ));
    }
}
