//! The ConfigMap `strongroom-ca` of the release namespace: the public certificates of the internal CA, from where
//! `operate` copies them to every namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::crd::{TRUST_BUNDLE, TRUST_BUNDLE_KEY, annotations, labels};
use crate::model::Namespace;

use super::api::{APPLY, Api, ApiError, Ask, Reason};

/// How often it is looked at: whoever changed or deleted it is undone within this long.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const FIELD_MANAGER: &str = "strongroom-serve";

/// What the ConfigMap is to say.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The certificates, PEM.
    pub pem: String,
    /// The tenant id of the installation that was opened.
    pub tenant: String,
}

/// Makes the ConfigMap say `bundle`, if it does not.
///
/// # Errors
/// [`ApiError`].
pub async fn publish_trust_bundle(api: &Api, namespace: &Namespace, bundle: &Bundle) -> Result<(), ApiError> {
    let path = path(namespace);
    match api.read::<ConfigMap>(Ask::get(&path)).await {
        Ok(found) if found.says(bundle) => return Ok(()),
        Ok(_) => {}
        Err(error) if error.is(Reason::NotFound) => {}
        Err(error) => return Err(error),
    }
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": TRUST_BUNDLE,
            "namespace": namespace.as_str(),
            "labels": { labels::MANAGED_BY: labels::STRONGROOM, labels::TRUST_BUNDLE: "true" },
            "annotations": { annotations::INSTALLATION: bundle.tenant },
        },
        "data": { TRUST_BUNDLE_KEY: bundle.pem },
    });
    let body = serde_json::to_vec(&wanted).map_err(|_| ApiError::Malformed)?;
    let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
    let ask = Ask {
        content_type: APPLY,
        ..Ask::write(Method::PATCH, &path, body)
    };
    api.call(ask).await?;
    tracing::info!("the trust bundle was written");
    Ok(())
}

/// Keeps the ConfigMap right until dropped.
pub async fn keep_trust_bundle(api: Api, namespace: Namespace, bundle: Bundle) {
    loop {
        if let Err(error) = publish_trust_bundle(&api, &namespace, &bundle).await {
            tracing::warn!(%error, "the trust bundle could not be written");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether an installation was ever opened in this namespace. `operate`'s copies in other namespaces do not say so.
pub(super) async fn names_an_installation(api: &Api, namespace: &Namespace) -> Result<bool, ApiError> {
    match api.read::<ConfigMap>(Ask::get(&path(namespace))).await {
        Ok(found) => Ok(found.metadata.annotations.contains_key(annotations::INSTALLATION)),
        Err(error) if error.is(Reason::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn path(namespace: &Namespace) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{TRUST_BUNDLE}")
}

#[derive(Deserialize)]
struct ConfigMap {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl ConfigMap {
    fn says(&self, bundle: &Bundle) -> bool {
        let label = |name| self.metadata.labels.get(name).map(String::as_str);
        self.data.get(TRUST_BUNDLE_KEY) == Some(&bundle.pem)
            && self.metadata.annotations.get(annotations::INSTALLATION) == Some(&bundle.tenant)
            && label(labels::TRUST_BUNDLE) == Some("true")
            && label(labels::MANAGED_BY) == Some(labels::STRONGROOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_written_again_when_its_text_or_a_mark_was_changed() {
        let good = r#"{"metadata":{"labels":{"app.kubernetes.io/managed-by":"strongroom","strongroom.dev/trust-bundle":"true"},
            "annotations":{"strongroom.dev/installation":"t-1"}},"data":{"ca.crt":"PEM"}}"#;
        let bundle = Bundle {
            pem: "PEM".to_owned(),
            tenant: "t-1".to_owned(),
        };
        let says = |text: &str| serde_json::from_str::<ConfigMap>(text).unwrap().says(&bundle);
        assert!(says(good));
        assert!(!says(&good.replace("t-1", "t-2")));
        assert!(!says(&good.replace("PEM", "other")));
        assert!(!says(&good.replace("true", "false")));
        assert!(!says(r#"{"metadata":{}}"#));
    }
}
