//! What a cluster administrator is to mend: every vault says so that it concerns, for there is no other place where those
//! look whose secrets are at stake. None of it makes a vault less ready.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conditions::{Reason, Standing};
use super::guards::{self, Faults};
use super::summaries::Counts;
use crate::crd::{Condition, ConditionType};
use crate::model::{Lifecycle, RootKeyCare, SourceAddresses};

/// What is known of the installation; of what was not looked at yet, nothing.
#[derive(Debug)]
pub(super) struct Concerns {
    audit_durable: bool,
    guards: Mutex<Option<Faults>>,
    told: Mutex<Option<Told>>,
}

/// What `serve` tells of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    /// How many vaults wait to be deleted.
    waiting: u64,
    /// Whether pods' addresses come through; none where they are not looked at.
    source_addresses: Option<SourceAddresses>,
}

impl Concerns {
    /// Only what the chart says is known: whether the audit log outlives its pods.
    pub(super) fn new(audit_durable: bool) -> Self {
        Self {
            audit_durable,
            guards: Mutex::default(),
            told: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Faults>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These guards are not as they must be. Hands back what was known before.
    pub(super) fn guards(&self, faults: Faults) -> Option<Faults> {
        self.known().replace(faults)
    }

    /// What concerns all vaults is so. Says whether that is news.
    pub(super) fn told(&self, lifecycle: &Lifecycle) -> bool {
        let told = Some(Told {
            waiting: lifecycle.waiting,
            source_addresses: lifecycle.source_addresses,
        });
        let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, told) != told
    }

    /// A vault's standing with what concerns it, by what was told of it. Of what is not known yet, `before` still holds.
    pub(super) fn on(&self, standing: Standing, told: Option<Counts>, before: &[Condition]) -> Standing {
        use ConditionType::{
            AuditNotDurable, DeletionsPaused, GuardMissing, RecordsDamaged, RootKeyNotEscrowed,
            SourceAddressesRewritten,
        };
        let damaged = match told {
            Some(counts) => damaged(counts),
            None => said(before, RecordsDamaged),
        };
        let guards = match &*self.known() {
            Some(faults) => (!faults.is_empty()).then(|| guards::advice(faults)),
            None => said(before, GuardMissing),
        };
        let root_key = match told.and_then(|counts| counts.root_key) {
            Some(care) => root_key(care).map(str::to_owned),
            None => said(before, RootKeyNotEscrowed),
        };
        let of_all = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (paused, addresses) = match of_all {
            Some(Told {
                waiting,
                source_addresses,
            }) => (
                (waiting > 0).then(|| paused(waiting)),
                (source_addresses == Some(SourceAddresses::Rewritten)).then(|| ADDRESSES.to_owned()),
            ),
            None => (
                said(before, DeletionsPaused),
                said(before, SourceAddressesRewritten),
            ),
        };
        let audit = (!self.audit_durable).then(|| AUDIT.to_owned());
        [
            (RecordsDamaged, Reason::RecordsDamaged, damaged),
            (GuardMissing, Reason::GuardMissing, guards),
            (RootKeyNotEscrowed, Reason::RootKeyNotEscrowed, root_key),
            (DeletionsPaused, Reason::DeletionsPaused, paused),
            (
                SourceAddressesRewritten,
                Reason::SourceAddressesRewritten,
                addresses,
            ),
            (AuditNotDurable, Reason::AuditNotDurable, audit),
        ]
        .into_iter()
        .fold(standing, |standing, (condition, reason, message)| match message {
            Some(message) => standing.and(condition, reason, message),
            None => standing,
        })
    }
}

const AUDIT: &str = "the audit log lies in the data plane's pods and goes with them (audit.storage: emptyDir); a cluster \
    administrator keeps it by audit.storage: pvc";

const ADDRESSES: &str = "something between pods and the data plane puts its own address in the place of theirs (a proxy, a service \
    mesh, a network plugin): NetworkRules judge that address, and a stolen token is not told from its owner's. A cluster \
    administrator lets addresses through, or sets podAddressCheck: Off and relies on neither (docs/access.md)";

fn paused(waiting: u64) -> String {
    format!(
        "{waiting} vaults of this cluster are without their Vaults and are not deleted yet: too many Vaults went at once, which \
         looks like a mistake. Nothing of them is lost, and nobody gets in. Was it one, apply them again; if not, a tenth of all \
         vaults goes each hour"
    )
}

const fn root_key(care: RootKeyCare) -> Option<&'static str> {
    match care {
        RootKeyCare::Escrowed => None,
        RootKeyCare::NotEscrowed => Some(
            "nobody said that a copy of the root key is kept outside the cluster: should its Secret be lost, so is every \
             vault. A cluster administrator keeps a copy (docs/operations.md) and says so: kubectl annotate secret \
             strongroom-root-key strongroom.dev/escrowed=$(date -u +%F), in Strongroom's namespace",
        ),
        RootKeyCare::Missing => Some(
            "the root key is gone from where it was read, its Secret or its file: once the data plane's present pods end, no \
             vault can be opened. A cluster administrator restores it from its escrow, now",
        ),
    }
}

fn damaged(counts: Counts) -> Option<String> {
    let what = match (counts.damaged, counts.refused) {
        (0, _) => return None,
        (_, true) => {
            "the stored record of this vault itself is refused, and with it all that is in the vault"
                .to_owned()
        }
        (1, false) => {
            "1 stored record of this vault is refused, and the object in it; all others are served".to_owned()
        }
        (records, false) => {
            format!(
                "{records} stored records of this vault are refused, and the objects in them; all others are served"
            )
        }
    };
    Some(format!(
        "{what}. Somebody changed, moved, put back or deleted what Strongroom stored. A cluster administrator restores the \
         SealedRecords, which the log of the data plane names, from a backup (docs/failure-modes.md), and finds out who did it"
    ))
}

/// What the condition of this type says, if it is there.
pub(super) fn said(before: &[Condition], type_: ConditionType) -> Option<String> {
    let condition = before.iter().find(|condition| condition.type_ == type_.as_str());
    condition.map(|condition| condition.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixSeconds;
    use crate::operator::guards::Fault;

    fn good() -> Standing {
        Standing::ready(Reason::Available, String::new())
    }

    /// What is told of a vault that is whole.
    fn whole() -> Counts {
        Counts {
            rules: None,
            secrets: 1,
            deleted_secrets: 0,
            next_expiry: None,
            nearest_quota: None,
            damaged: 0,
            refused: false,
            root_key: None,
        }
    }

    fn said_by(standing: &Standing) -> Vec<Condition> {
        standing.conditions(&[], None, UnixSeconds(0))
    }

    #[test]
    fn every_vault_says_which_guard_is_missing_and_an_operator_that_has_just_begun_goes_on_saying_so() {
        let concerns = Concerns::new(true);
        assert!(concerns.on(good(), None, &[]).also.is_empty());
        concerns.guards(Faults::from([("strongroom-grant".to_owned(), Fault::NoPolicy)]));
        let missing = concerns.on(good(), None, &[]);
        assert!(missing.ready, "the vault itself answers as before");
        let conditions = said_by(&missing);
        assert_eq!(
            (&*conditions[1].type_, &*conditions[1].status),
            ("GuardMissing", "True")
        );
        assert!(
            conditions[1]
                .message
                .contains("strongroom-grant: the ValidatingAdmissionPolicy is missing")
        );
        assert_eq!(
            said_by(&Concerns::new(true).on(good(), None, &conditions)),
            conditions
        );
        concerns.guards(Faults::new());
        assert!(concerns.on(good(), None, &conditions).also.is_empty());
    }

    #[test]
    fn every_vault_says_that_its_root_key_is_not_escrowed_until_somebody_says_that_it_is() {
        let concerns = Concerns::new(true);
        let cared = |root_key| Some(Counts { root_key, ..whole() });
        let conditions = said_by(&concerns.on(good(), cared(Some(RootKeyCare::NotEscrowed)), &[]));
        assert_eq!(&*conditions[1].type_, "RootKeyNotEscrowed");
        assert_eq!(
            said_by(&concerns.on(good(), cared(None), &conditions)),
            conditions,
            "a data plane that has just begun has not looked yet"
        );
        let gone = said_by(&concerns.on(good(), cared(Some(RootKeyCare::Missing)), &conditions));
        assert!(
            gone[1]
                .message
                .contains("the root key is gone from where it was read")
        );
        let escrowed = cared(Some(RootKeyCare::Escrowed));
        assert!(concerns.on(good(), escrowed, &gone).also.is_empty());
    }

    #[test]
    fn a_vault_says_how_many_of_its_records_are_refused_until_none_is() {
        let concerns = Concerns::new(true);
        let told = |damaged, refused| {
            Some(Counts {
                damaged,
                refused,
                ..whole()
            })
        };
        let mut before = Vec::new();
        for (damaged, refused, says) in [
            (1, false, "1 stored record of this vault is refused"),
            (4, false, "4 stored records of this vault are refused"),
            (1, true, "the stored record of this vault itself is refused"),
        ] {
            let standing = concerns.on(good(), told(damaged, refused), &before);
            assert!(standing.ready, "what of it is served is not said here");
            let conditions = said_by(&standing);
            assert_eq!(&*conditions[1].type_, "RecordsDamaged");
            assert!(conditions[1].message.contains(says), "{}", conditions[1].message);
            before = conditions;
        }
        assert_eq!(said_by(&concerns.on(good(), None, &before)), before);
        assert!(concerns.on(good(), told(0, false), &before).also.is_empty());
    }

    #[test]
    fn every_vault_says_that_others_wait_to_be_deleted_until_none_does() {
        let concerns = Concerns::new(true);
        let told = |waiting| Lifecycle {
            deleted: Vec::new(),
            waiting,
            source_addresses: None,
        };
        assert!(concerns.told(&told(2)));
        assert!(!concerns.told(&told(2)), "no news");
        let conditions = said_by(&concerns.on(good(), Some(whole()), &[]));
        assert_eq!(&*conditions[1].type_, "DeletionsPaused");
        assert!(conditions[1].message.starts_with("2 vaults"));
        let begun = Concerns::new(true).on(good(), Some(whole()), &conditions);
        assert_eq!(said_by(&begun), conditions);
        assert!(concerns.told(&told(0)));
        assert!(concerns.on(good(), Some(whole()), &conditions).also.is_empty());
    }

    #[test]
    fn every_vault_says_that_addresses_are_rewritten_until_they_come_through() {
        let concerns = Concerns::new(true);
        let told = |found| Lifecycle {
            deleted: Vec::new(),
            waiting: 0,
            source_addresses: found,
        };
        concerns.told(&told(Some(SourceAddresses::Rewritten)));
        let conditions = said_by(&concerns.on(good(), Some(whole()), &[]));
        assert_eq!(&*conditions[1].type_, "SourceAddressesRewritten");
        let begun = Concerns::new(true).on(good(), Some(whole()), &conditions);
        assert_eq!(said_by(&begun), conditions);
        for through in [Some(SourceAddresses::Kept), None] {
            concerns.told(&told(through));
            assert!(concerns.on(good(), Some(whole()), &conditions).also.is_empty());
        }
    }

    #[test]
    fn every_vault_says_that_its_audit_log_goes_with_the_pods() {
        let conditions = said_by(&Concerns::new(false).on(good(), None, &[]));
        assert_eq!(&*conditions[1].type_, "AuditNotDurable");
        assert_eq!(conditions.len(), 2);
    }
}
