//! `DeletedVault`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

// It is in no category: `kubectl get strongroom` is for those who see a namespace and nothing beside it.
/// What is to become of this deleted vault.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "DeletedVault",
    plural = "deletedvaults",
    singular = "deletedvault",
    shortname = "dvlt",
    status = "DeletedVaultStatus",
    derive = "PartialEq",
    doc = "A vault whose Vault was deleted, and which is kept until its purge date. Strongroom makes and removes these; to \
           delete one by hand changes nothing. To recover the vault with all that is in it, apply its Vault again in the \
           same namespace. To purge it for good before its date, set spec.purge to true, which needs the verb purge on it.",
    printcolumn(name = "Namespace", type_ = "string", json_path = ".status.namespace"),
    printcolumn(name = "Vault", type_ = "string", json_path = ".status.vault"),
    printcolumn(name = "Secrets", type_ = "integer", json_path = ".status.secrets"),
    printcolumn(name = "Deleted", type_ = "date", json_path = ".status.deletionDate"),
    printcolumn(
        name = "Purge date",
        type_ = "string",
        json_path = ".status.scheduledPurgeDate"
    ),
    printcolumn(
        name = "Protected",
        type_ = "boolean",
        json_path = ".status.purgeProtection",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DeletedVaultSpec {
    /// `true`: the vault and everything in it is removed for good, before its date, as soon as it has been deleted for the
    /// installation's `stalenessBound` (five minutes); there is no way back then. Who writes it needs the verb `purge` on this
    /// DeletedVault. Of a vault with purge protection nothing happens before its date.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purge: bool,
}

/// Which vault it is, and how long it is kept. Strongroom's operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedVaultStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Namespace of the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// UID of that namespace: a namespace that is made anew under its name is another, and gets nothing back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub namespace_uid: Option<String>,
    /// Name of the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub vault: Option<String>,
    /// How many secrets are in it, those included that were deleted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<i64>,
    /// When it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<Time>,
    /// From when on it is purged by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_purge_date: Option<Time>,
    /// Whether it can't be purged before that date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purge_protection: Option<bool>,
    /// `Ready`: the vault can be recovered; `False` once its purge has begun. `PurgeDue`: its date has come, and it goes within
    /// about an hour. `PurgeRefused`: its purge was ordered, and it is protected until its date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
