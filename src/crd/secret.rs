//! `Secret` (resource name `vaultsecrets`).

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// What this secret is like. The value is never in it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "Secret",
    plural = "vaultsecrets",
    singular = "vaultsecret",
    shortname = "vsec",
    category = "strongroom",
    namespaced,
    status = "SecretStatus",
    derive = "PartialEq",
    doc = "A secret of a vault whose first value Strongroom makes. The value is in the vault alone: never in this \
           object, its status, an event or an annotation. It is made once: new versions are set through the API, and \
           a name that was deleted through the API is not made again.",
    validation = Rule::new("has(self.spec.objectName) || (self.metadata.name.size() <= 127 && \
        self.metadata.name.matches('^[0-9a-zA-Z-]+$'))")
        .message("name the object in the vault with spec.objectName: this resource's own name does not do, since \
        names there have 1 to 127 characters of 0-9, a-z, A-Z and '-'"),
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vaultRef"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.vaultRef == oldSelf.vaultRef \
     && has(self.objectName) == has(oldSelf.objectName) && (!has(self.objectName) || self.objectName == oldSelf.objectName) \
     && has(self.contentType) == has(oldSelf.contentType) && (!has(self.contentType) || self.contentType == oldSelf.contentType) \
     && self.generate == oldSelf.generate")
    .message("a value is generated once, so vaultRef, objectName, contentType and generate can't be changed: set a new \
    version through the API, or make another Secret"))]
pub struct SecretSpec {
    /// Name of the vault, in this namespace.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z](-?[a-z0-9])*$"))]
    pub vault_ref: String,
    /// Name of the secret in the vault: 1 to 127 letters, digits and '-'. Default: this resource's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127), regex(pattern = "^[0-9a-zA-Z-]+$"))]
    pub object_name: Option<String>,
    /// Free text that goes with the value, such as `text/plain`: at most 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub content_type: Option<String>,
    /// How the value is made.
    pub generate: Generate,
    /// What becomes of the secret in the vault when this resource is deleted. `Retain` (default) leaves it; `Delete`
    /// deletes it softly: it can be recovered for the vault's `softDelete.retentionDays`. When the whole namespace is
    /// being deleted nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Retain", "Delete"]))]
    pub deletion_policy: Option<String>,
}

/// A value of random characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generate {
    /// How many characters: 16 to 1024. Default: 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1024))]
    pub length: Option<i32>,
    /// Of which characters. `Alphanumeric` (default): A-Z, a-z, 0-9. `Hex`: 0-9, a-f. `Ascii`: printable ASCII without
    /// space, quotes, backslash and backtick.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Alphanumeric", "Hex", "Ascii"]))]
    pub alphabet: Option<String>,
}

/// How this secret is doing. Strongroom's operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The secret's address in the vault, without a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 768))]
    pub id: Option<String>,
    /// Its newest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub version: Option<String>,
    /// `Ready`: the secret is in the vault. `Stalled`: a person must act. `Deleted`: it was deleted through the API and
    /// is not made again. `Conflict`: the vault has a secret of that name that this resource did not make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
