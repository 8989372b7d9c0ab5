//! The root key in a Secret of the release namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::json;

use super::{Held, Look, RootKeyError, RootKeyFound, may_begin};
use crate::cluster::api::{Api, ApiError, Ask, METADATA, Reason};
use crate::cluster::sealed_records::any_record;
use crate::cluster::word::{home, said};
use crate::crd::{self, annotations};
use crate::crypto::RootKey;
use crate::crypto::mac::constant_time_eq;
use crate::model::{Namespace, RootKeyCare, SecretBytes, Uid, UnixSeconds};

/// Name of the Secret.
pub const ROOT_KEY_SECRET: &str = "strongroom-root-key";
/// Its one key: 32 bytes.
pub const ROOT_KEY_FIELD: &str = "root-key";

/// Reads the root key, or makes it where nothing was ever sealed. Of several replicas that start at once one makes it and
/// the others read that one.
pub(super) async fn root_key(
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
    let home = our_uid(api, namespace).await?;
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
    let brought = marks.made_in != Some(our_uid(api, namespace).await?);
    let held = held(namespace, brought, marks.start_empty);
    may_begin(api, namespace, &held, now).await?;
    Ok(RootKeyFound { key, created: false })
}

fn held(namespace: &Namespace, brought: bool, start_empty: Option<Timestamp>) -> Held {
    Held {
        brought,
        start_empty,
        by: format!("Secret {ROOT_KEY_SECRET}"),
        annotate: format!("-n {namespace} annotate secret {ROOT_KEY_SECRET}"),
    }
}

/// Whether the Secret is there, and whether somebody says on it that a copy is kept elsewhere.
pub(super) async fn look(api: &Api, namespace: &Namespace) -> Result<Look, String> {
    let path = format!("{}/{ROOT_KEY_SECRET}", collection(namespace));
    // Without the key: this asks again and again.
    let ask = Ask {
        accept: METADATA,
        ..Ask::get(&path)
    };
    match api.read::<SecretObject>(ask).await {
        Ok(secret) if secret.metadata.annotations.contains_key(annotations::ESCROWED) => {
            Ok(Look::Cared(RootKeyCare::Escrowed))
        }
        Ok(_) => Ok(Look::Cared(RootKeyCare::NotEscrowed)),
        Err(error) if error.is(Reason::NotFound) => Ok(Look::Lost(format!(
            "Secret {ROOT_KEY_SECRET} is gone; restore it from its escrow"
        ))),
        Err(error) => Err(error.to_string()),
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
    let made_in = secret.metadata.annotations.get(annotations::MADE_IN);
    let marks = Marks {
        made_in: made_in.map(|uid| Uid::new(uid)),
        start_empty: said(&secret.metadata.annotations, annotations::START_EMPTY),
    };
    Ok((key, marks))
}

async fn our_uid(api: &Api, namespace: &Namespace) -> Result<Uid, RootKeyError> {
    let home = home(api, namespace).await;
    Ok(home.map_err(RootKeyError::LookAtPast)?.uid)
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
        let text = held(&namespace(), true, None)
            .store_empty(&namespace())
            .to_string();
        assert!(text.contains("Restore the SealedRecords"));
        assert!(text.contains(
            "kubectl -n strongroom-system annotate secret strongroom-root-key --overwrite strongroom.dev/start-empty=$(date"
        ));
    }
}
