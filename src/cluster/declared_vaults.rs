//! What the management plane declares, by quorum: asked before a vault is deleted or purged.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::DeserializeOwned;

use super::api::{Api, ApiError, Ask, JSON, LIST_METADATA};
use super::clock_skew::server_time;
use super::wire::list_pages;
use crate::crd;
use crate::model::{DeclaredVaults, Namespace, Uid, VaultId, VaultName};

/// Objects a page.
const PAGE: u32 = 500;
const VAULT_DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/vaults.strongroom.dev";

/// All `Vault`s, orders to purge, and whether the list can be relied upon: whether their kind was there before and after it.
///
/// # Errors
/// [`ApiError`].
pub async fn declared_vaults(api: &Api) -> Result<DeclaredVaults, ApiError> {
    let now = server_time(api).await?;
    let before = established(api).await?;
    let vaults = vaults(api).await?;
    let purges = purges(api).await?;
    let established = before.is_some() && before == established(api).await?;
    Ok(DeclaredVaults {
        established,
        vaults,
        purges,
        now,
    })
}

/// UID of the kind's definition, if that is established and is to stay.
async fn established(api: &Api) -> Result<Option<String>, ApiError> {
    let definition: CustomResourceDefinition = api.read(Ask::get(VAULT_DEFINITION)).await?;
    Ok(is_established(&definition)
        .then_some(definition.metadata.uid)
        .flatten())
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut established =
        conditions.filter(|condition| condition.type_ == "Established" && condition.status == "True");
    definition.metadata.deletion_timestamp.is_none() && established.next().is_some()
}

async fn vaults(api: &Api) -> Result<HashMap<VaultId, Uid>, ApiError> {
    let path = crd::Vault::url_path(&(), None);
    let all: Vec<PartialObjectMeta<crd::Vault>> = list(api, &path, LIST_METADATA).await?;
    let named = all.into_iter().map(|vault| {
        let metadata = vault.metadata;
        let id = VaultId {
            namespace: Namespace::parse(metadata.namespace.as_deref()?).ok()?,
            name: VaultName::parse(metadata.name.as_deref()?).ok()?,
        };
        Some((id, Uid::new(metadata.uid.as_deref()?)))
    });
    // One that cannot be a vault's has none.
    Ok(named.flatten().collect())
}

async fn purges(api: &Api) -> Result<HashSet<String>, ApiError> {
    let path = crd::DeletedVault::url_path(&(), None);
    let all: Vec<crd::DeletedVault> = list(api, &path, JSON).await?;
    let ordered = all
        .into_iter()
        .filter(|deleted| deleted.spec.purge && deleted.metadata.deletion_timestamp.is_none());
    Ok(ordered.filter_map(|deleted| deleted.metadata.name).collect())
}

async fn list<T: DeserializeOwned>(api: &Api, path: &str, accept: &'static str) -> Result<Vec<T>, ApiError> {
    let mut all = Vec::new();
    let take = |page: Vec<T>| {
        all.extend(page);
        Ok(())
    };
    list_pages(api, path, PAGE, accept, take).await?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_established_or_is_going_says_nothing() {
        let definition = |status: &str, deleted: Option<&str>| {
            let value = serde_json::json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": { "name": "vaults.strongroom.dev", "deletionTimestamp": deleted },
                "spec": { "group": "strongroom.dev", "names": { "kind": "Vault", "plural": "vaults" },
                    "scope": "Namespaced", "versions": [] },
                "status": { "conditions": [{ "type": "Established", "status": status }] },
            });
            is_established(&serde_json::from_value(value).unwrap())
        };
        assert!(definition("True", None));
        assert!(!definition("False", None));
        assert!(!definition("True", Some("2026-01-01T00:00:00Z")));
    }
}
