//! The root key in a Secret of the release namespace.
//!
//! # Why so careful
//! A second root key beside records of the first would be a vault that lost everything and says nothing. So the Secret is
//! only ever created, never written over; and it is created only where no sealed record exists at all.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::json;

use crate::crd;
use crate::crypto::mac::constant_time_eq;
use crate::crypto::{CryptoError, RootKey};
use crate::model::{Kind, Namespace, SecretBytes};

use super::api::{Api, ApiError, Ask, Reason};
use super::sealed_records::any_record;

/// Name of the Secret.
pub const ROOT_KEY_SECRET: &str = "strongroom-root-key";
/// Its one key: 32 bytes.
pub const ROOT_KEY_FIELD: &str = "root-key";

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
            Self::Missing { .. } => Kind::NotFound,
            Self::NotAKey { .. } => Kind::Invalid,
            Self::LookForRecords(error) | Self::Read(error) | Self::Create(error) => error.kind(),
            Self::Generate(_) => Kind::Internal,
        }
    }
}

/// Reads the root key, or makes it where nothing was ever sealed. Of several replicas that start at once one makes it and
/// the others read that one.
///
/// # Errors
/// [`RootKeyError`].
pub async fn root_key(api: &Api, namespace: &Namespace) -> Result<RootKeyFound, RootKeyError> {
    if let Some(key) = read(api, namespace).await? {
        return Ok(RootKeyFound { key, created: false });
    }
    let sealed = any_record(api, namespace).await;
    if sealed.map_err(RootKeyError::LookForRecords)? {
        // Another replica may have made both since the first look.
        return match read(api, namespace).await? {
            Some(key) => Ok(RootKeyFound { key, created: false }),
            None => Err(RootKeyError::Missing {
                namespace: namespace.clone(),
            }),
        };
    }
    let key = RootKey::generate().map_err(RootKeyError::Generate)?;
    let created = match create(api, namespace, &key).await {
        Ok(()) => true,
        Err(error) if error.is(Reason::AlreadyExists) => false,
        // Perhaps it was made: what is read below decides.
        Err(ApiError::NoAnswer | ApiError::Malformed) => false,
        Err(error) => return Err(RootKeyError::Create(error)),
    };
    // What lies there is the key, whoever made it.
    match read(api, namespace).await? {
        Some(found) => {
            let ours = constant_time_eq(found.to_bytes().expose(), key.to_bytes().expose());
            Ok(RootKeyFound {
                created: created || ours,
                key: found,
            })
        }
        None => Err(RootKeyError::Create(ApiError::NoAnswer)),
    }
}

fn collection(namespace: &Namespace) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

#[derive(Deserialize)]
struct SecretObject {
    #[serde(default)]
    data: SecretData,
}

#[derive(Deserialize, Default)]
struct SecretData {
    #[serde(rename = "root-key")]
    root_key: Option<ByteString>,
}

async fn read(api: &Api, namespace: &Namespace) -> Result<Option<RootKey>, RootKeyError> {
    let path = format!("{}/{ROOT_KEY_SECRET}", collection(namespace));
    let secret: SecretObject = match api.read(Ask::get(&path)).await {
        Ok(secret) => secret,
        Err(error) if error.is(Reason::NotFound) => return Ok(None),
        Err(error) => return Err(RootKeyError::Read(error)),
    };
    parse(secret, namespace).map(Some)
}

fn parse(secret: SecretObject, namespace: &Namespace) -> Result<RootKey, RootKeyError> {
    let not_a_key = || RootKeyError::NotAKey {
        namespace: namespace.clone(),
    };
    let bytes = secret.data.root_key.ok_or_else(not_a_key)?;
    RootKey::from_bytes(&SecretBytes::new(bytes.0)).map_err(|_| not_a_key())
}

async fn create(api: &Api, namespace: &Namespace, key: &RootKey) -> Result<(), ApiError> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": ROOT_KEY_SECRET,
            "labels": { crd::labels::MANAGED_BY: crd::labels::STRONGROOM },
            "annotations": {
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

    fn parsed(text: &str) -> Result<RootKey, RootKeyError> {
        parse(serde_json::from_str(text).unwrap(), &namespace())
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
