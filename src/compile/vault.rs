//! `Vault` -> [`VaultEntry`].

use super::{Unusable, exact_vault_name, namespace};
use crate::crd;
use crate::model::{Uid, VaultEntry, VaultId, VaultSettings};

/// Azure's default of `softDeleteRetentionInDays`.
const DEFAULT_RETENTION_DAYS: u16 = 90;

/// What a `Vault` says, as far as requests depend on it. `namespace_uid` is the UID of its namespace.
///
/// # Errors
/// [`Unusable`]: requests to this vault are answered as if it did not exist.
pub fn vault(vault: &crd::Vault, namespace_uid: &Uid) -> Result<VaultEntry, Unusable> {
    let metadata = &vault.metadata;
    if metadata.deletion_timestamp.is_some() {
        return Err(Unusable::Deleting);
    }
    let id = VaultId {
        namespace: namespace(metadata.namespace.as_deref())?,
        name: exact_vault_name("metadata.name", metadata.name.as_deref().unwrap_or(""))?,
    };
    let uid = metadata.uid.as_deref().ok_or(Unusable::Missing("metadata.uid"))?;
    let retention_days = match vault
        .spec
        .soft_delete
        .as_ref()
        .and_then(|soft_delete| soft_delete.retention_days)
    {
        None => DEFAULT_RETENTION_DAYS,
        Some(days) => u16::try_from(days)
            .ok()
            .filter(|days| (7..=90).contains(days))
            .ok_or(Unusable::Value {
                field: "spec.softDelete.retentionDays",
                allowed: "7 to 90",
            })?,
    };
    Ok(VaultEntry {
        id,
        uid: Uid::new(uid),
        namespace_uid: namespace_uid.clone(),
        settings: VaultSettings { retention_days },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::documents;

    fn read(yaml: &str) -> crd::Vault {
        documents(yaml).unwrap().vaults.remove(0)
    }

    fn compiled(spec: &str) -> Result<VaultEntry, Unusable> {
        let head = "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo, namespace: shop, uid: u1}\n";
        vault(&read(&format!("{head}spec: {spec}")), &Uid::new("n1"))
    }

    #[test]
    fn a_vault_keeps_what_is_deleted_for_ninety_days_unless_it_says_otherwise() {
        for (spec, days) in [
            ("{}", 90),
            ("{softDelete: {}}", 90),
            ("{softDelete: {retentionDays: 7}}", 7),
        ] {
            let entry = compiled(spec).unwrap();
            assert_eq!(entry.settings.retention_days, days, "{spec}");
            assert_eq!(entry.id.to_string(), "shop/demo");
            assert_eq!((entry.uid.as_str(), entry.namespace_uid.as_str()), ("u1", "n1"));
        }
    }

    #[test]
    fn what_the_schema_would_have_refused_makes_no_vault() {
        for days in [-1, 0, 6, 91, 70_000] {
            let entry = compiled(&format!("{{softDelete: {{retentionDays: {days}}}}}"));
            assert!(matches!(entry, Err(Unusable::Value { .. })), "{days}");
        }
        for name in ["ab", "Demo", "a--b", "a.b", "1abc"] {
            let mut resource =
                read("apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo}\nspec: {}");
            resource.metadata.name = Some(name.to_owned());
            assert!(
                matches!(vault(&resource, &Uid::new("n1")), Err(Unusable::Name { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn a_vault_that_is_being_deleted_is_gone_for_requests() {
        let yaml = "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\n\
                    metadata: {name: demo, deletionTimestamp: '2026-11-22T10:00:00Z'}\nspec: {}";
        assert_eq!(vault(&read(yaml), &Uid::new("n1")), Err(Unusable::Deleting));
    }
}
