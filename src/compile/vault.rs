//! `Vault` -> [`VaultEntry`].

use super::{Unusable, exact_vault_name, namespace};
use crate::crd;
use crate::model::{
    Bypass, DefaultAction, NetworkSettings, OutsideValidity, Uid, VaultEntry, VaultId, VaultSettings,
};

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
        None => None,
        Some(days) => Some(
            u16::try_from(days)
                .ok()
                .filter(|days| (7..=90).contains(days))
                .ok_or(Unusable::Value {
                    field: "spec.softDelete.retentionDays",
                    allowed: "7 to 90",
                })?,
        ),
    };
    let outside_validity = match vault.spec.outside_validity.as_deref() {
        None => None,
        Some("Deny") => Some(OutsideValidity::Deny),
        Some("Allow") => Some(OutsideValidity::Allow),
        Some(_) => {
            return Err(Unusable::Value {
                field: "spec.outsideValidity",
                allowed: "Deny or Allow",
            });
        }
    };
    Ok(VaultEntry {
        id,
        uid: Uid::new(uid),
        namespace_uid: namespace_uid.clone(),
        settings: VaultSettings {
            retention_days,
            purge_protection: vault.spec.purge_protection,
            outside_validity,
            network: vault
                .spec
                .network
                .as_ref()
                .map_or_else(|| Ok(NetworkSettings::default()), network)?,
        },
    })
}

/// What is not understood could keep somebody out, so a vault that says it answers nobody.
fn network(network: &crd::Network) -> Result<NetworkSettings, Unusable> {
    if !network.unknown.is_empty() {
        return Err(Unusable::Value {
            field: "spec.network",
            allowed: "made of defaultAction and bypass alone",
        });
    }
    Ok(NetworkSettings {
        default_action: match network.default_action.as_deref() {
            None => None,
            Some("Allow") => Some(DefaultAction::Allow),
            Some("Deny") => Some(DefaultAction::Deny),
            Some(_) => {
                return Err(Unusable::Value {
                    field: "spec.network.defaultAction",
                    allowed: "Allow or Deny",
                });
            }
        },
        bypass: match network.bypass.as_deref() {
            None => None,
            Some("None") => Some(Bypass::None),
            Some("Volumes") => Some(Bypass::Volumes),
            Some(_) => {
                return Err(Unusable::Value {
                    field: "spec.network.bypass",
                    allowed: "None or Volumes",
                });
            }
        },
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
    fn what_a_vault_leaves_out_is_left_to_its_head() {
        let settings = |retention_days, purge_protection, outside_validity| VaultSettings {
            retention_days,
            purge_protection,
            outside_validity,
            network: NetworkSettings::default(),
        };
        for (spec, expected) in [
            ("{}", settings(None, None, None)),
            ("{softDelete: {}}", settings(None, None, None)),
            ("{softDelete: {retentionDays: 7}}", settings(Some(7), None, None)),
            (
                "{purgeProtection: true, outsideValidity: Allow}",
                settings(None, Some(true), Some(OutsideValidity::Allow)),
            ),
            (
                "{purgeProtection: false, outsideValidity: Deny}",
                settings(None, Some(false), Some(OutsideValidity::Deny)),
            ),
        ] {
            let entry = compiled(spec).unwrap();
            assert_eq!(entry.settings, expected, "{spec}");
            assert_eq!(entry.id.to_string(), "shop/demo");
            assert_eq!((entry.uid.as_str(), entry.namespace_uid.as_str()), ("u1", "n1"));
        }
    }

    #[test]
    fn a_vault_says_from_where_it_may_be_called_or_says_nothing() {
        for (network, default_action, bypass) in [
            ("{}", None, None),
            ("{defaultAction: Allow}", Some(DefaultAction::Allow), None),
            (
                "{defaultAction: Deny, bypass: None}",
                Some(DefaultAction::Deny),
                Some(Bypass::None),
            ),
            ("{bypass: Volumes}", None, Some(Bypass::Volumes)),
        ] {
            let settings = compiled(&format!("{{network: {network}}}")).unwrap().settings;
            let expected = NetworkSettings {
                default_action,
                bypass,
            };
            assert_eq!(settings.network, expected, "{network}");
        }
        for network in [
            "{defaultAction: deny}",
            "{defaultAction: ''}",
            "{bypass: AzureServices}",
            "{defaultAction: Allow, publicAccess: Disabled}",
        ] {
            let entry = compiled(&format!("{{network: {network}}}"));
            assert!(matches!(entry, Err(Unusable::Value { .. })), "{network}");
        }
    }

    #[test]
    fn what_the_schema_would_have_refused_makes_no_vault() {
        for days in [-1, 0, 6, 91, 70_000] {
            let entry = compiled(&format!("{{softDelete: {{retentionDays: {days}}}}}"));
            assert!(matches!(entry, Err(Unusable::Value { .. })), "{days}");
        }
        for said in ["allow", "Sometimes", "''"] {
            let entry = compiled(&format!("{{outsideValidity: {said}}}"));
            assert!(matches!(entry, Err(Unusable::Value { .. })), "{said}");
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
