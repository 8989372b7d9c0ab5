//! `AccessPolicy`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Condition;

/// The one kind of subject so far.
pub const SERVICE_ACCOUNT: &str = "ServiceAccount";

/// Azure's names of the secret permissions; `all` stands for every one of them.
pub const SECRET_PERMISSIONS: [&str; 9] = [
    "get", "list", "set", "delete", "recover", "purge", "backup", "restore", "all",
];

/// Who may do what in which vault.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    singular = "accesspolicy",
    shortname = "ap",
    category = "strongroom",
    namespaced,
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    doc = "Lets service accounts of this namespace do things in one of its vaults. Policies only ever add: an account \
           may do what any policy of the vault lets it do. Who writes one needs the verb `grant` on that vault.",
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vaultRef"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Secrets", type_ = "string", json_path = ".spec.permissions.secrets"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// Name of the vault, in this namespace.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z](-?[a-z0-9])*$"))]
    pub vault_ref: String,
    /// Who gets the permissions. Each subject is one entry of its vault; a vault takes 1,024 entries, the oldest
    /// policies first, and those beyond grant nothing.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub subjects: Vec<Subject>,
    /// What they may do, by Azure Key Vault's names of permissions. It holds for the whole vault.
    pub permissions: Permissions,
    /// Fields of a newer schema. A policy that has any grants nothing: they could narrow what it says.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// One who gets the permissions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `ServiceAccount`: the pods that run under this account, through their own token.
    #[schemars(extend("enum" = ["ServiceAccount"]))]
    pub kind: String,
    /// Name of the service account, in this namespace. It need not exist yet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Whether tokens of this account that are bound to no pod count too, as `kubectl create token` makes them.
    /// Such a token works from anywhere until it expires. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unbound: Option<bool>,
    /// Fields of a newer schema. A subject that has any grants nothing.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// Permissions, by kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// On secrets: `get` reads a value; `list` lists names, versions and attributes without values, deleted secrets
    /// too; `set` makes new versions and changes attributes; `delete` deletes softly; `recover` brings back what was
    /// deleted; `purge` removes for good what was deleted; `backup` takes all versions away, sealed; `restore` brings a
    /// backup into the vault; `all` is every one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "secret_permissions")]
    pub secrets: Vec<String>,
}

fn secret_permissions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": SECRET_PERMISSIONS },
    })
}

/// How this policy is doing. Strongroom's operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every subject has what this policy says. `Stalled`: a person must act. `LimitExceeded`: some subjects
    /// are beyond the limit of the vault and get nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
