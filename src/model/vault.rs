//! A vault as the management plane declares it.

use super::{NetworkAcls, NetworkSettings, RecoveryLevel, Uid, VaultId};

/// What the `Vault` resource says, as far as requests depend on it. What it leaves out is as the vault's head has it, or
/// the default where there is no head yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultSettings {
    /// Soft delete retention, 7 to 90 days; counts when the vault's head is made, afterwards the head's value holds.
    pub retention_days: Option<u16>,
    /// Whether nothing may be purged before its date. Once on it stays on.
    pub purge_protection: Option<bool>,
    /// Whether secrets are read outside their dates.
    pub outside_validity: Option<OutsideValidity>,
    /// From where it may be called.
    pub network: NetworkSettings,
}

/// What holds in a vault, as its own head says: the head is authoritative, not the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultRules {
    /// For how many days what is deleted is kept. Never changes.
    pub retention_days: u16,
    /// Whether nothing may be purged before its date. Once on it stays on.
    pub purge_protection: bool,
    /// Whether secrets are read outside their dates.
    pub outside_validity: OutsideValidity,
    /// From where it may be called.
    pub network: NetworkAcls,
}

/// Whether a secret is read before its `nbf` and from its `exp` on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutsideValidity {
    /// It is not: the answer is 403.
    #[default]
    Deny,
    /// It is: the dates inform, as in Azure.
    Allow,
}

impl VaultRules {
    /// Azure's default of `softDeleteRetentionInDays`.
    pub const DEFAULT_RETENTION_DAYS: u16 = 90;

    /// The rules of a new vault.
    #[must_use]
    pub fn of(settings: &VaultSettings) -> Self {
        Self {
            retention_days: settings.retention_days.unwrap_or(Self::DEFAULT_RETENTION_DAYS),
            purge_protection: settings.purge_protection.unwrap_or(false),
            outside_validity: settings.outside_validity.unwrap_or_default(),
            network: NetworkAcls::default().following(settings.network),
        }
    }

    /// What settings make of them: retention stays, purge protection is never taken back.
    #[must_use]
    pub fn following(self, settings: &VaultSettings) -> Self {
        Self {
            retention_days: self.retention_days,
            purge_protection: self.purge_protection || settings.purge_protection.unwrap_or(false),
            outside_validity: settings.outside_validity.unwrap_or(self.outside_validity),
            network: self.network.following(settings.network),
        }
    }

    /// What can be done with what is deleted, in Azure's words.
    #[must_use]
    pub const fn recovery_level(self) -> RecoveryLevel {
        match (
            self.retention_days >= Self::DEFAULT_RETENTION_DAYS,
            self.purge_protection,
        ) {
            (true, false) => RecoveryLevel::RecoverablePurgeable,
            (true, true) => RecoveryLevel::Recoverable,
            (false, false) => RecoveryLevel::CustomizedRecoverablePurgeable,
            (false, true) => RecoveryLevel::CustomizedRecoverable,
        }
    }
}

/// A `Vault` resource that `serve` itself has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultEntry {
    /// Its address.
    pub id: VaultId,
    /// UID of the resource.
    pub uid: Uid,
    /// UID of its namespace: a recycled namespace is another tenant.
    pub namespace_uid: Uid,
    /// Its settings.
    pub settings: VaultSettings,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DefaultAction;

    #[test]
    fn the_recovery_level_is_azures_for_days_and_protection() {
        let level = |retention_days, purge_protection| {
            let rules = VaultRules {
                retention_days,
                purge_protection,
                outside_validity: OutsideValidity::Deny,
                network: NetworkAcls::default(),
            };
            rules.recovery_level().as_str()
        };
        for (days, protection, expected) in [
            (90, false, "Recoverable+Purgeable"),
            (90, true, "Recoverable"),
            (89, false, "CustomizedRecoverable+Purgeable"),
            (7, false, "CustomizedRecoverable+Purgeable"),
            (7, true, "CustomizedRecoverable"),
        ] {
            assert_eq!(level(days, protection), expected, "{days} {protection}");
        }
    }

    #[test]
    fn settings_change_what_may_change_and_nothing_else() {
        let settings = |retention_days, purge_protection, outside_validity| VaultSettings {
            retention_days,
            purge_protection,
            outside_validity,
            network: NetworkSettings::default(),
        };
        let (deny, allow) = (OutsideValidity::Deny, OutsideValidity::Allow);
        let rules = |purge_protection, outside_validity| VaultRules {
            retention_days: 30,
            purge_protection,
            outside_validity,
            network: NetworkAcls::default(),
        };
        for (before, said, after) in [
            (rules(false, deny), settings(None, None, None), rules(false, deny)),
            (
                rules(false, deny),
                settings(Some(7), None, None),
                rules(false, deny),
            ),
            (
                rules(false, deny),
                settings(None, Some(true), None),
                rules(true, deny),
            ),
            (
                rules(true, deny),
                settings(None, Some(false), None),
                rules(true, deny),
            ),
            (rules(true, deny), settings(None, None, None), rules(true, deny)),
            (
                rules(false, deny),
                settings(None, None, Some(allow)),
                rules(false, allow),
            ),
            (
                rules(false, allow),
                settings(None, None, None),
                rules(false, allow),
            ),
            (
                rules(false, allow),
                settings(None, None, Some(deny)),
                rules(false, deny),
            ),
        ] {
            assert_eq!(before.following(&said), after, "{before:?} {said:?}");
        }
        assert_eq!(
            VaultRules::of(&settings(Some(30), None, None)),
            rules(false, deny)
        );
        assert_eq!(VaultRules::of(&VaultSettings::default()).retention_days, 90);
        let closing = VaultSettings {
            network: NetworkSettings {
                default_action: Some(DefaultAction::Deny),
                bypass: None,
            },
            ..VaultSettings::default()
        };
        let closed = VaultRules::of(&closing);
        assert!(closed.network.denies(), "from its first moment");
        assert_eq!(rules(true, allow).following(&closing).network, closed.network);
        assert_eq!(closed.following(&VaultSettings::default()), closed);
    }
}
