//! `Vault`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Condition;

/// What this vault is like.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "Vault",
    plural = "vaults",
    singular = "vault",
    shortname = "vlt",
    category = "strongroom",
    namespaced,
    status = "VaultStatus",
    derive = "PartialEq",
    doc = "A vault: a store of secrets with an address of its own, which speaks the Azure Key Vault REST API. \
           Pods reach it at https://<name>.<namespace>.svc with their service account's token; who may do what in it \
           is said by the AccessPolicies of the namespace.",
    validation = Rule::new("self.metadata.name.size() >= 3 && self.metadata.name.size() <= 24 && \
        self.metadata.name.matches('^[a-z](-?[a-z0-9])*$')")
        .message("a vault's name has 3 to 24 characters of a-z, 0-9 and '-', starts with a letter, does not end with \
        '-' and has no '--' (Azure Key Vault's rule)"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "URI", type_ = "string", json_path = ".status.uri"),
    printcolumn(name = "Secrets", type_ = "integer", json_path = ".status.secrets"),
    printcolumn(name = "Network", type_ = "string", json_path = ".status.network.defaultAction", priority = 1),
    printcolumn(name = "Deleted", type_ = "integer", json_path = ".status.deletedSecrets", priority = 1),
    printcolumn(name = "Next expiry", type_ = "string", json_path = ".status.nextExpiry", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.?softDelete.?retentionDays.orValue(90) == oldSelf.?softDelete.?retentionDays.orValue(90)")
    .message("softDelete.retentionDays can't be changed once the vault exists (Azure Key Vault's rule)"))]
#[x_kube(validation = Rule::new(
    "!oldSelf.?purgeProtection.orValue(false) || self.?purgeProtection.orValue(false)")
    .message("purgeProtection can't be switched off (Azure Key Vault's rule)"))]
pub struct VaultSpec {
    /// What happens to secrets that are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_delete: Option<SoftDelete>,
    /// Whether nothing that is deleted can be purged before its `softDelete.retentionDays` are over, by anybody. Once
    /// true it stays true. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purge_protection: Option<bool>,
    /// Whether a secret is read before its `nbf` and from its `exp` on. `Deny`: the answer is 403 until its dates are
    /// changed. `Allow`: it is read, and the dates inform, as in Azure. Left out: as it was said last; `Deny` in a new
    /// vault. Who names it needs the verb `grant` on the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Deny", "Allow"]))]
    pub outside_validity: Option<String>,
    /// From where the vault may be called. Who writes it needs the verb `grant` on this vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// From where a vault may be called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// `Allow`: from anywhere, which holds where this was never said. `Deny`: from where a NetworkRule of this vault
    /// says, and from nowhere else. What was said last holds until another thing is said, also when the Vault is deleted
    /// and made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Allow", "Deny"]))]
    pub default_action: Option<String>,
    /// Who needs no NetworkRule where the default is `Deny`. `None`: nobody, which holds where this was never said.
    /// `Volumes`: pods that mount the vault's secrets as files; calls of their own need a rule all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["None", "Volumes"]))]
    pub bypass: Option<String>,
    /// Fields of a newer schema. A vault that has any answers nobody: they could narrow what it says.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// From where a vault may be called as long as no resource says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// `Allow` or `Deny`.
    #[schemars(length(max = 16))]
    pub default_action: String,
    /// `None` or `Volumes`.
    #[schemars(length(max = 16))]
    pub bypass: String,
}

/// Soft delete: it is always on, as in Azure, for secrets and for the vault itself (`kubectl explain deletedvault`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftDelete {
    /// For how many days a deleted secret is kept, and the vault once its Vault is deleted: 7 to 90; 90 where it is left out. It can't be changed later; a
    /// Vault that is deleted and applied again goes on with the number that it had first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7, max = 90))]
    pub retention_days: Option<i32>,
}

/// How this vault is doing. Strongroom's operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The vault's address: what an Azure SDK takes as `vault_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub uri: Option<String>,
    /// How many secrets it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<i64>,
    /// How many deleted secrets it still keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_secrets: Option<i64>,
    /// When the next of its secrets expires (`exp` of a newest version); absent where none will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<Time>,
    /// From where it may be called, as the vault has it by itself: what was said last, by whichever Vault. What the spec says
    /// counts at once and is here seconds later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// `Ready`: the vault answers at its address. `Stalled`: a person must act. `Conflict`: a Service of the vault's
    /// name belongs to somebody else. `SettingKept`: the spec says something that can't be changed in the vault.
    /// `NearlyFull`: a quota of stored bytes or records is used to four fifths. `RecordsDamaged`: stored records of this
    /// vault are refused, since somebody changed, moved, put back or deleted them. `GuardMissing`, `RootKeyNotEscrowed`,
    /// `AuditNotDurable`, `DeletionsPaused`, `SourceAddressesRewritten`: what concerns every vault of this cluster. These seven a
    /// cluster administrator can mend; the message says how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
