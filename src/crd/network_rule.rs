//! `NetworkRule`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Condition;

/// From where a vault may be called.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "NetworkRule",
    plural = "networkrules",
    singular = "networkrule",
    shortname = "nr",
    category = "strongroom",
    namespaced,
    status = "NetworkRuleStatus",
    derive = "PartialEq",
    doc = "Lets calls from some addresses and pods reach one of this namespace's vaults, where that vault says \
           `network.defaultAction: Deny`. Rules only ever add, and reaching a vault gives no permission in it: that is \
           what AccessPolicies do. Who writes a rule needs the verb `grant` on that vault.",
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vaultRef"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "CIDRs", type_ = "string", json_path = ".spec.cidrs", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRuleSpec {
    /// Name of the vault, in this namespace.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z](-?[a-z0-9])*$"))]
    pub vault_ref: String,
    /// Addresses from which the vault may be called: IPv4 or IPv6, one address or a block as `203.0.113.0/24`, whose
    /// address is the block's first. What counts is the address of the connection as Strongroom sees it. A vault takes
    /// 1,000 of them, the oldest rules first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cidrs")]
    pub cidrs: Vec<String>,
    /// Pods that may call the vault from their own address, and mount its secrets. A pod is let in by any entry that it
    /// matches. A vault takes 200 of them, the oldest rules first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub pods: Vec<PodSelection>,
    /// Fields of a newer schema. A rule that has any lets nobody in: they could narrow what it says.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// Pods, by their labels and those of their namespace. Both must match where both are given.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.podSelector) || has(self.namespaceSelector)")
    .message("an entry has a podSelector, a namespaceSelector or both; {} selects everything"))]
pub struct PodSelection {
    /// In which namespaces, by the namespace's labels; `{}` means in all. Left out: in the vault's own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Which pods, by their labels; `{}` means all. Left out: all pods of those namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Fields of a newer schema. An entry that has any lets nobody in.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// A label selector, as in a NetworkPolicy: all of it must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on single labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelRequirement>,
    /// Fields of a newer schema. A selector that has any matches nothing.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// What one label must be like.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
    .message("In and NotIn have values, Exists and DoesNotExist have none"))]
pub struct LabelRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// `In`: the label has one of the values. `NotIn`: it has none of them, or is not there. `Exists`: it is there.
    /// `DoesNotExist`: it is not there.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "label_values")]
    pub values: Vec<String>,
    /// Fields of a newer schema. A requirement that has any matches nothing.
    #[serde(flatten, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

fn cidrs(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 1000,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 49, "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$" },
    })
}

fn match_labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

fn label_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 63 },
    })
}

/// How this rule is doing. Strongroom's operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRuleStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: everything that this rule names may reach the vault. `Stalled`: a person must act. `LimitExceeded`: some
    /// of it is beyond the limit of the vault and lets nobody in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
