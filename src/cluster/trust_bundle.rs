//! The ConfigMap `strongroom-ca` of the release namespace: the public certificates of the internal CA, from where
//! `operate` copies them to every namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::crd::{TRUST_BUNDLE, TRUST_BUNDLE_KEY, labels};
use crate::model::Namespace;

use super::api::{APPLY, Api, ApiError, Ask, Reason};

/// How often it is looked at: whoever changed or deleted it is undone within this long.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const FIELD_MANAGER: &str = "strongroom-serve";

/// Makes the ConfigMap say `bundle` (PEM), if it does not.
///
/// # Errors
/// [`ApiError`].
pub async fn publish_trust_bundle(api: &Api, namespace: &Namespace, bundle: &str) -> Result<(), ApiError> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{TRUST_BUNDLE}");
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
        },
        "data": { TRUST_BUNDLE_KEY: bundle },
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
pub async fn keep_trust_bundle(api: Api, namespace: Namespace, bundle: String) {
    loop {
        if let Err(error) = publish_trust_bundle(&api, &namespace, &bundle).await {
            tracing::warn!(%error, "the trust bundle could not be written");
        }
        sleep(LOOK_EVERY).await;
    }
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
}

impl ConfigMap {
    fn says(&self, bundle: &str) -> bool {
        let label = |name| self.metadata.labels.get(name).map(String::as_str);
        self.data.get(TRUST_BUNDLE_KEY).map(String::as_str) == Some(bundle)
            && label(labels::TRUST_BUNDLE) == Some("true")
            && label(labels::MANAGED_BY) == Some(labels::STRONGROOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_written_again_when_its_text_or_a_label_was_changed() {
        let good = r#"{"metadata":{"labels":{"app.kubernetes.io/managed-by":"strongroom","strongroom.dev/trust-bundle":"true"}},
            "data":{"ca.crt":"PEM"}}"#;
        let says = |text: &str| serde_json::from_str::<ConfigMap>(text).unwrap().says("PEM");
        assert!(says(good));
        assert!(!says(&good.replace("PEM", "other")));
        assert!(!says(&good.replace("true", "false")));
        assert!(!says(r#"{"metadata":{}}"#));
    }
}
