//! Custom resources: what people say to Strongroom through the Kubernetes API, one file per kind.
//!
//! The doc comments of the fields are what `kubectl explain` prints, so they speak to the person who writes the YAML.
//! `crds/*.yaml` and their copies in the chart are generated from here (`make generate`); a test compares them.
//!
//! # Why these types are looser than the schema
//! The API server enforces the schema, but a newer CRD may hold words that this binary does not know. Enumerations are
//! therefore texts here, and what grants something keeps the fields that it does not know: `compile` decides that whatever it
//! does not understand grants nothing, while everything else goes on working.

#![allow(
    clippy::duplicated_attributes,
    reason = "it takes the printer columns of one kind for one attribute"
)]
#![allow(unreachable_pub, reason = "the derives make a private twin of each type")]

mod access_policy;
mod condition;
mod deleted_vault;
mod network_rule;
mod schema;
mod sealed_record;
mod secret;
mod vault;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use access_policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, Permissions, SECRET_PERMISSIONS, SERVICE_ACCOUNT,
    Subject,
};
pub use condition::{Condition, ConditionType};
pub use deleted_vault::{DeletedVault, DeletedVaultSpec, DeletedVaultStatus};
pub use network_rule::{
    LabelRequirement, LabelSelector, NetworkRule, NetworkRuleSpec, NetworkRuleStatus, PodSelection,
};
pub use sealed_record::{SealedRecord, SealedRecordFields};
pub use secret::{Generate, Secret, SecretSpec, SecretStatus};
pub use vault::{Network, NetworkStatus, SoftDelete, Vault, VaultSpec, VaultStatus};

/// API group of every kind.
pub const GROUP: &str = "strongroom.dev";

/// API version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Name of the ConfigMap with the public certificates of the internal CA, in every namespace.
pub const TRUST_BUNDLE: &str = "strongroom-ca";

/// Its one key: PEM certificates.
pub const TRUST_BUNDLE_KEY: &str = "ca.crt";

/// Labels on the objects that Strongroom makes; guards and selectors go by them.
pub mod labels {
    /// Kubernetes' recommended label of who manages an object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`MANAGED_BY`] on our objects.
    pub const STRONGROOM: &str = "strongroom";
    /// On a vault's Service: the vault's name.
    pub const VAULT: &str = "strongroom.dev/vault";
    /// On the ConfigMaps `strongroom-ca`: `"true"`.
    pub const TRUST_BUNDLE: &str = "strongroom.dev/trust-bundle";
}

/// Annotations that Strongroom writes or obeys, beside those of single kinds.
pub mod annotations {
    /// On the root key's Secret, by `serve`: UID of the namespace that it was made in.
    pub const MADE_IN: &str = "strongroom.dev/made-in";
    /// On the root key's Secret, or on our namespace where the key comes from a file, by a person: when they said that no
    /// sealed record is to be found (RFC 3339).
    pub const START_EMPTY: &str = "strongroom.dev/start-empty";
    /// On our namespace, by a person: when they said that a store which went back to an earlier state has to do (RFC 3339).
    pub const STORE_RESTORED: &str = "strongroom.dev/store-restored";
    /// On the root key's Secret, by a person: a copy is kept elsewhere. The value is theirs: a date, a place.
    pub const ESCROWED: &str = "strongroom.dev/escrowed";
    /// On the release namespace's trust bundle, by `serve`: the tenant id of the installation that was opened there.
    pub const INSTALLATION: &str = "strongroom.dev/installation";
}

/// The definitions of all kinds, in the order of their names: what `crds/` holds.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        AccessPolicy::crd(),
        DeletedVault::crd(),
        NetworkRule::crd(),
        SealedRecord::crd(),
        Vault::crd(),
        Secret::crd(),
    ]
    .into_iter()
    .map(schema::tidy)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::all;
    use serde_json::Value;

    /// Calls `visit` with the path and content of every schema node.
    fn walk(path: &str, node: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        visit(path, node);
        for (name, property) in node
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if let Some(items) = node.get("items") {
            walk(&format!("{path}[]"), items, visit);
        }
    }

    fn visit_all(mut visit: impl FnMut(&str, &Value)) {
        for crd in all() {
            let kind = crd.spec.names.kind.clone();
            let crd = serde_json::to_value(&crd).unwrap();
            walk(
                &kind,
                &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
                &mut visit,
            );
        }
    }

    #[test]
    fn kubectl_explain_has_a_text_for_every_field() {
        visit_all(|path, node| {
            let text = node.get("description").and_then(Value::as_str).unwrap_or("");
            assert!(
                text.len() > 10 || path.ends_with("[]"),
                "{path} has no description"
            );
            assert!(
                !text.contains("Auto-generated"),
                "{path} has a generated description"
            );
        });
    }

    #[test]
    fn every_list_and_text_is_bounded_so_that_cel_stays_within_the_api_servers_budget() {
        visit_all(|path, node| match node.get("type").and_then(Value::as_str) {
            Some("string") => {
                let bounded = ["maxLength", "enum"].iter().any(|key| node.get(key).is_some())
                    || node.get("format").and_then(Value::as_str) == Some("date-time");
                assert!(bounded, "{path} is a string without maxLength");
            }
            Some("array") => assert!(
                node.get("maxItems").is_some(),
                "{path} is a list without maxItems"
            ),
            _ => {}
        });
    }

    #[test]
    fn names_are_camel_case_and_nothing_is_nullable() {
        visit_all(|path, node| {
            assert!(!path.contains('_'), "{path}");
            assert!(node.get("nullable").is_none(), "{path}");
            assert!(
                node.get("x-kubernetes-preserve-unknown-fields").is_none(),
                "{path}"
            );
        });
    }

    #[test]
    fn resource_names_differ_from_those_of_core() {
        let names: Vec<_> = all().into_iter().filter_map(|crd| crd.metadata.name).collect();
        assert_eq!(
            names,
            [
                "accesspolicies.strongroom.dev",
                "deletedvaults.strongroom.dev",
                "networkrules.strongroom.dev",
                "sealedrecords.strongroom.dev",
                "vaults.strongroom.dev",
                "vaultsecrets.strongroom.dev"
            ]
        );
    }
}
