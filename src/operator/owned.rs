//! Whose an object is. What is not ours is never overwritten: a tenant's Service that happens to have a vault's name
//! would lose its traffic, and a tenant who could make us overwrite one would have our rights.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::{self, labels};

/// What was found under a name that we want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// Ours, and as it should be.
    Current,
    /// Ours, and to be changed; only this revision of it.
    Outdated {
        /// Its resourceVersion.
        revision: String,
    },
    /// Somebody else's.
    Foreign,
}

/// A vault's Service as it should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedService<'a> {
    /// The vault's name, and the Service's.
    pub(super) vault: &'a str,
    /// UID of the `Vault`.
    pub(super) owner: &'a str,
    /// What it leads to.
    pub(super) target: &'a str,
}

/// What a Service of the vault's name is. It is ours if it is labelled so and a `Vault` of this name owns it.
pub(super) fn service(found: Option<&Service>, wanted: WantedService<'_>) -> Found {
    let Some(service) = found else {
        return Found::Absent;
    };
    let metadata = &service.metadata;
    let owners = || {
        metadata.owner_references.iter().flatten().filter(|owner| {
            owner.kind == "Vault"
                && owner.name == wanted.vault
                && owner
                    .api_version
                    .split_once('/')
                    .is_some_and(|(group, _)| group == crd::GROUP)
        })
    };
    let ours = has_label(metadata, labels::MANAGED_BY, labels::STRONGROOM)
        && has_label(metadata, labels::VAULT, wanted.vault)
        && owners().next().is_some();
    let current = || {
        owners().any(|owner| owner.uid == wanted.owner)
            && service.spec.as_ref().is_some_and(|spec| {
                spec.type_.as_deref() == Some("ExternalName")
                    && spec.external_name.as_deref() == Some(wanted.target)
            })
    };
    judge(metadata, ours, current)
}

/// What a ConfigMap of the trust bundle's name is. It is ours if it is labelled so.
pub(super) fn bundle(found: Option<&ConfigMap>, pem: &str) -> Found {
    let Some(bundle) = found else { return Found::Absent };
    let ours = is_our_bundle(&bundle.metadata);
    let current = || {
        bundle
            .data
            .as_ref()
            .and_then(|data| data.get(crd::TRUST_BUNDLE_KEY))
            .is_some_and(|there| there == pem)
    };
    judge(&bundle.metadata, ours, current)
}

/// Whether this ConfigMap is a copy that we made.
pub(super) fn is_our_bundle(metadata: &ObjectMeta) -> bool {
    has_label(metadata, labels::MANAGED_BY, labels::STRONGROOM)
        && has_label(metadata, labels::TRUST_BUNDLE, "true")
}

fn judge(metadata: &ObjectMeta, ours: bool, current: impl FnOnce() -> bool) -> Found {
    if !ours {
        Found::Foreign
    } else if current() {
        Found::Current
    } else {
        Found::Outdated {
            revision: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

fn has_label(metadata: &ObjectMeta, label: &str, value: &str) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label))
        .is_some_and(|there| there == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const WANTED: WantedService<'static> = WantedService {
        vault: "demo",
        owner: "uid-1",
        target: "strongroom.strongroom-system.svc.cluster.local",
    };

    fn ours() -> Value {
        json!({
            "metadata": {
                "name": "demo", "resourceVersion": "7",
                "labels": {"app.kubernetes.io/managed-by": "strongroom", "strongroom.dev/vault": "demo"},
                "ownerReferences": [{"apiVersion": "strongroom.dev/v1alpha1", "kind": "Vault", "name": "demo", "uid": "uid-1"}],
            },
            "spec": {"type": "ExternalName", "externalName": WANTED.target},
        })
    }

    fn found(change: impl FnOnce(&mut Value)) -> Found {
        let mut value = ours();
        change(&mut value);
        service(Some(&serde_json::from_value(value).unwrap()), WANTED)
    }

    #[test]
    fn our_service_is_kept_or_mended() {
        let outdated = Found::Outdated {
            revision: "7".to_owned(),
        };
        assert_eq!(service(None, WANTED), Found::Absent);
        assert_eq!(found(|_| ()), Found::Current);
        assert_eq!(
            found(|service| service["spec"]["externalName"] = json!("evil.example")),
            outdated
        );
        assert_eq!(
            found(|service| service["spec"] = json!({"type": "ClusterIP"})),
            outdated
        );
        // The Vault was deleted and made again before its Service was collected.
        assert_eq!(
            found(|service| service["metadata"]["ownerReferences"][0]["uid"] = json!("uid-0")),
            outdated
        );
    }

    #[test]
    fn anything_else_under_the_name_is_somebody_elses() {
        assert_eq!(
            found(|service| service["metadata"]["labels"] = json!({})),
            Found::Foreign
        );
        assert_eq!(
            found(|service| service["metadata"]["ownerReferences"] = json!([])),
            Found::Foreign
        );
        assert_eq!(
            found(|service| service["metadata"]["labels"]["strongroom.dev/vault"] = json!("other")),
            Found::Foreign
        );
        assert_eq!(
            found(|service| service["metadata"]["ownerReferences"][0]["apiVersion"] = json!("other.dev/v1")),
            Found::Foreign
        );
        assert_eq!(
            found(|service| service["metadata"]["ownerReferences"][0]["kind"] = json!("Secret")),
            Found::Foreign
        );
    }

    #[test]
    fn a_trust_bundle_is_ours_by_its_labels_and_mended_when_it_differs() {
        let judged = |labels: Value, pem: &str| {
            let value =
                json!({"metadata": {"resourceVersion": "9", "labels": labels}, "data": {"ca.crt": pem}});
            bundle(Some(&serde_json::from_value(value).unwrap()), "new")
        };
        let labels =
            json!({"app.kubernetes.io/managed-by": "strongroom", "strongroom.dev/trust-bundle": "true"});
        assert_eq!(bundle(None, "new"), Found::Absent);
        assert_eq!(judged(labels.clone(), "new"), Found::Current);
        assert_eq!(
            judged(labels, "old"),
            Found::Outdated {
                revision: "9".to_owned()
            }
        );
        assert_eq!(
            judged(json!({"strongroom.dev/trust-bundle": "true"}), "new"),
            Found::Foreign
        );
        assert_eq!(judged(json!({}), "new"), Found::Foreign);
    }
}
