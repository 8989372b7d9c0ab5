//! `SealedRecord`: how sealed data lies in the cluster's own database.

use k8s_openapi::ByteString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fields of a [`SealedRecord`].
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "SealedRecord",
    plural = "sealedrecords",
    singular = "sealedrecord",
    namespaced,
    no_spec,
    derive = "PartialEq",
    doc = "Internal: one sealed record of a vault. Only Strongroom's data plane writes these; to change or delete one \
           by hand loses data. Back them up together with the root key: neither is of use without the other."
)]
#[serde(rename_all = "camelCase")]
pub struct SealedRecordFields {
    /// The record, encrypted and authenticated under a key that the cluster's database does not hold.
    #[schemars(with = "String", length(max = 786_432), extend("format" = "byte"))]
    pub sealed: ByteString,
}
