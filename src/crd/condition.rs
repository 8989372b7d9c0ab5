//! Status conditions in the kstatus convention.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of how this object is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect. `Ready` is always there; the others appear only while they are true.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: Cow<'static, str>,
    /// `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: Cow<'static, str>,
    /// Why, in one word that programs may compare.
    #[schemars(length(max = 128))]
    pub reason: Cow<'static, str>,
    /// Why, in a sentence for people, and what to do about it.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The `metadata.generation` that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The conditions that our kinds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The object does what it says. On every object.
    Ready,
    /// Nothing will change until a person changes something (kstatus: failed). There only while true.
    Stalled,
    /// An `AccessPolicy` or `NetworkRule` has entries beyond the limit of its vault, which count for nothing. There only
    /// while true.
    LimitExceeded,
    /// The object of a `Secret` was deleted through the API and is not made again. There only while true.
    Deleted,
    /// A `Vault` says something that holds otherwise in the vault and can't be changed there. There only while true.
    SettingKept,
    /// A `Vault` is near a quota; beyond it nothing more can be stored. There only while true.
    NearlyFull,
    /// Somebody else owns what this object would make. There only while true.
    Conflict,
    /// Stored records of a vault were changed, moved, put back or deleted, and are refused. There only while true.
    RecordsDamaged,
    /// An admission policy that guards Strongroom in this cluster was deleted or changed. There only while true.
    GuardMissing,
    /// Nobody said that a copy of the root key is kept outside the cluster. There only while true.
    RootKeyNotEscrowed,
    /// More vaults are without a `Vault` than may be deleted within an hour, so some wait. There only while true.
    DeletionsPaused,
    /// Something on the way to the data plane rewrites pods' addresses. There only while true.
    SourceAddressesRewritten,
    /// The date of a deleted vault has come. There only while true.
    PurgeDue,
    /// The purge of a deleted vault was ordered, and it is protected. There only while true.
    PurgeRefused,
    /// The audit log lies in the data plane's pods and goes with them. There only while true.
    AuditNotDurable,
}

impl ConditionType {
    /// The text in `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
            Self::LimitExceeded => "LimitExceeded",
            Self::Deleted => "Deleted",
            Self::SettingKept => "SettingKept",
            Self::NearlyFull => "NearlyFull",
            Self::Conflict => "Conflict",
            Self::RecordsDamaged => "RecordsDamaged",
            Self::GuardMissing => "GuardMissing",
            Self::RootKeyNotEscrowed => "RootKeyNotEscrowed",
            Self::DeletionsPaused => "DeletionsPaused",
            Self::SourceAddressesRewritten => "SourceAddressesRewritten",
            Self::PurgeDue => "PurgeDue",
            Self::PurgeRefused => "PurgeRefused",
            Self::AuditNotDurable => "AuditNotDurable",
        }
    }
}
