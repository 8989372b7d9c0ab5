//! What a status says: one standing, and the conditions that follow from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{Condition, ConditionType};
use crate::model::{Kind, UnixSeconds};

/// Every reason that a condition may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The vault answers at its address.
    Available,
    /// The secret is in the vault.
    Made,
    /// Every subject has what the policy says.
    Granted,
    /// What the rule names may reach the vault.
    InForce,
    /// The vault lets everybody in, so its rules are not asked.
    NoEffect,
    /// The resource can't be what it says.
    Invalid,
    /// The vault that it names is not there.
    VaultNotFound,
    /// The vault that it names is not ready.
    VaultNotReady,
    /// A Service of the vault's name belongs to somebody else.
    ServiceConflict,
    /// A ConfigMap of the trust bundle's name belongs to somebody else.
    TrustBundleConflict,
    /// The vault was made with other settings, which can't be changed.
    SettingKept,
    /// A quota is nearly used up.
    QuotaNearlyUsed,
    /// Subjects are beyond the limit of the vault.
    LimitExceeded,
    /// Parts of it are of a newer version and grant nothing.
    NotUnderstood,
    /// The object was deleted through the API.
    Deleted,
    /// Somebody else made the object.
    Foreign,
    /// Stored records of the vault are refused.
    RecordsDamaged,
    /// A guard of the installation is missing or changed.
    GuardMissing,
    /// Nobody said that a copy of the root key is kept elsewhere.
    RootKeyNotEscrowed,
    /// The audit log goes with the pods.
    AuditNotDurable,
    /// More vaults lost their resources than may be deleted within an hour.
    DeletionsPaused,
    /// Something on the way to the data plane rewrites pods' addresses.
    SourceAddressesRewritten,
    /// The deleted vault can be had back.
    Recoverable,
    /// The deleted vault is being removed for good.
    Purging,
    /// The date of the deleted vault has come.
    PurgeDue,
    /// The deleted vault goes at its date and not before.
    PurgeProtected,
    /// A step failed.
    Failed(Kind),
}

impl Reason {
    /// The text in `reason`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Made => "Made",
            Self::Granted => "Granted",
            Self::InForce => "InForce",
            Self::NoEffect => "NoEffect",
            Self::Invalid => "Invalid",
            Self::VaultNotFound => "VaultNotFound",
            Self::VaultNotReady => "VaultNotReady",
            Self::ServiceConflict => "ServiceConflict",
            Self::TrustBundleConflict => "TrustBundleConflict",
            Self::SettingKept => "SettingKept",
            Self::QuotaNearlyUsed => "QuotaNearlyUsed",
            Self::LimitExceeded => "LimitExceeded",
            Self::NotUnderstood => "NotUnderstood",
            Self::Deleted => "Deleted",
            Self::Foreign => "Foreign",
            Self::RecordsDamaged => "RecordsDamaged",
            Self::GuardMissing => "GuardMissing",
            Self::RootKeyNotEscrowed => "RootKeyNotEscrowed",
            Self::AuditNotDurable => "AuditNotDurable",
            Self::DeletionsPaused => "DeletionsPaused",
            Self::SourceAddressesRewritten => "SourceAddressesRewritten",
            Self::Recoverable => "Recoverable",
            Self::Purging => "Purging",
            Self::PurgeDue => "PurgeDue",
            Self::PurgeProtected => "PurgeProtected",
            Self::Failed(kind) => kind.reason(),
        }
    }
}

/// How an object is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it does what it says.
    pub(super) ready: bool,
    /// Why.
    pub(super) reason: Reason,
    /// Why, for people.
    pub(super) message: String,
    /// Whether a person must act before anything can change.
    pub(super) stalled: bool,
    /// Further conditions that are true.
    pub(super) also: Vec<(ConditionType, Reason, String)>,
}

impl Standing {
    /// It does what it says.
    pub(super) fn ready(reason: Reason, message: String) -> Self {
        Self {
            ready: true,
            reason,
            message,
            stalled: false,
            also: Vec::new(),
        }
    }

    /// It does not yet, and will without anybody's help.
    pub(super) fn waiting(reason: Reason, message: String) -> Self {
        Self {
            ready: false,
            reason,
            message,
            stalled: false,
            also: Vec::new(),
        }
    }

    /// It does not, and won't before a person acts.
    pub(super) fn stalled(reason: Reason, message: String) -> Self {
        Self {
            ready: false,
            reason,
            message,
            stalled: true,
            also: Vec::new(),
        }
    }

    /// Whether people should look: to wait for a vault that is on its way is no trouble.
    pub(super) const fn is_trouble(&self) -> bool {
        self.stalled || matches!(self.reason, Reason::Failed(_))
    }

    /// With another condition that is true, for the reason and in the words given.
    pub(super) fn and(mut self, condition: ConditionType, reason: Reason, message: String) -> Self {
        self.also.push((condition, reason, message));
        self
    }

    /// With another condition that is true for the same reason.
    pub(super) fn and_so(self, condition: ConditionType) -> Self {
        let (reason, message) = (self.reason, self.message.clone());
        self.and(condition, reason, message)
    }

    /// The conditions. Those whose status is as `before` keep their time, so that nothing differs where nothing changed.
    pub(super) fn conditions(
        &self,
        before: &[Condition],
        generation: Option<i64>,
        now: UnixSeconds,
    ) -> Vec<Condition> {
        let ready = (ConditionType::Ready, self.ready, self.reason, &self.message);
        let stalled = self
            .stalled
            .then_some((ConditionType::Stalled, true, self.reason, &self.message));
        let also = self
            .also
            .iter()
            .map(|(condition, reason, message)| (*condition, true, *reason, message));
        std::iter::once(ready)
            .chain(stalled)
            .chain(also)
            .map(|(condition, holds, reason, message)| {
                let status = if holds { "True" } else { "False" };
                let since = before
                    .iter()
                    .find(|known| known.type_ == condition.as_str() && known.status == status)
                    .map_or_else(|| time(now), |known| known.last_transition_time.clone());
                Condition {
                    type_: condition.as_str().into(),
                    status: status.into(),
                    reason: reason.as_str().into(),
                    message: message.chars().take(4_096).collect(),
                    last_transition_time: since,
                    observed_generation: generation,
                }
            })
            .collect()
    }
}

/// As the API writes it.
pub(super) fn time(at: UnixSeconds) -> Time {
    Time(Timestamp::from_second(at.0).unwrap_or_default())
}

/// The condition `Ready`, where there is one.
pub(super) fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Ready.as_str())
}

/// Whether this generation was found ready before.
pub(super) fn was_ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    ready(conditions).is_some_and(|ready| ready.status == "True" && ready.observed_generation == generation)
}

/// Whether the object was found deleted before, whatever generation that was: its name can't change.
pub(super) fn was_deleted(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::Deleted.as_str() && condition.status == "True")
}

/// Whether a vault with these conditions was made in the store. Whether it also has an address is another matter.
pub(super) fn has_head(conditions: &[Condition]) -> bool {
    ready(conditions)
        .is_some_and(|ready| ready.status == "True" || ready.reason == Reason::ServiceConflict.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Standing {
        Standing::waiting(Reason::VaultNotFound, "there is no vault".to_owned())
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = waiting().conditions(&[], Some(1), UnixSeconds(100));
        let other_words = Standing::waiting(Reason::VaultNotReady, "wait".to_owned()).conditions(
            &first,
            Some(1),
            UnixSeconds(200),
        );
        assert_eq!(other_words[0].last_transition_time, time(UnixSeconds(100)));
        let changed = Standing::ready(Reason::Made, "there".to_owned()).conditions(
            &other_words,
            Some(1),
            UnixSeconds(300),
        );
        assert_eq!(changed[0].last_transition_time, time(UnixSeconds(300)));
    }

    #[test]
    fn nothing_differs_where_only_time_went_by() {
        let stalled = Standing::stalled(Reason::Deleted, "gone".to_owned()).and_so(ConditionType::Deleted);
        let first = stalled.conditions(&[], Some(3), UnixSeconds(100));
        assert_eq!(stalled.conditions(&first, Some(3), UnixSeconds(999)), first);
        let types: Vec<_> = first
            .iter()
            .map(|condition| (&*condition.type_, &*condition.status))
            .collect();
        assert_eq!(
            types,
            [("Ready", "False"), ("Stalled", "True"), ("Deleted", "True")]
        );
        assert!(was_deleted(&first));
        assert!(!was_deleted(&waiting().conditions(
            &first,
            Some(3),
            UnixSeconds(999)
        )));
    }

    #[test]
    fn what_was_ready_counts_for_its_own_generation_alone() {
        let conditions =
            Standing::ready(Reason::Made, String::new()).conditions(&[], Some(2), UnixSeconds(1));
        assert!(was_ready(&conditions, Some(2)));
        assert!(!was_ready(&conditions, Some(3)));
        assert!(!was_ready(
            &waiting().conditions(&[], Some(2), UnixSeconds(1)),
            Some(2)
        ));
        assert!(!was_ready(&[], None));
    }
}
