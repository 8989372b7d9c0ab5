//! What is to be said of the installation as a whole: every vault says so, for there is no other place where those look
//! whose secrets are at stake. None of it makes a vault less ready.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conditions::{Reason, Standing};
use super::guards::{self, Faults};
use crate::crd::{Condition, ConditionType};
use crate::model::RootKeyCare;

/// What is known of the installation; of what was not looked at yet, nothing.
#[derive(Debug)]
pub(super) struct Concerns {
    audit_durable: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    guards: Option<Faults>,
    root_key: Option<RootKeyCare>,
}

impl Concerns {
    /// Only what the chart says is known: whether the audit log outlives its pods.
    pub(super) fn new(audit_durable: bool) -> Self {
        Self {
            audit_durable,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These guards are not as they must be. Hands back what was known before.
    pub(super) fn guards(&self, faults: Faults) -> Option<Faults> {
        self.known().guards.replace(faults)
    }

    /// The root key is cared for so; whether that is news.
    pub(super) fn root_key(&self, care: RootKeyCare) -> bool {
        self.known().root_key.replace(care) != Some(care)
    }

    /// A vault's standing with what concerns every vault. Of what is not known yet, `before` still holds.
    pub(super) fn on(&self, standing: Standing, before: &[Condition]) -> Standing {
        use ConditionType::{AuditNotDurable, GuardMissing, RootKeyNotEscrowed};
        let known = self.known();
        let guards = match &known.guards {
            Some(faults) => (!faults.is_empty()).then(|| guards::advice(faults)),
            None => said(before, GuardMissing),
        };
        let root_key = match known.root_key {
            Some(care) => root_key(care).map(str::to_owned),
            None => said(before, RootKeyNotEscrowed),
        };
        let audit = (!self.audit_durable).then(|| AUDIT.to_owned());
        [
            (GuardMissing, Reason::GuardMissing, guards),
            (RootKeyNotEscrowed, Reason::RootKeyNotEscrowed, root_key),
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

const fn root_key(care: RootKeyCare) -> Option<&'static str> {
    match care {
        RootKeyCare::Escrowed => None,
        RootKeyCare::NotEscrowed => Some(
            "nobody said that a copy of the root key is kept outside the cluster: should its Secret be lost, so is every \
             vault. A cluster administrator keeps a copy (docs/operations.md) and says so: kubectl annotate secret \
             strongroom-root-key strongroom.dev/escrowed=$(date -u +%F), in Strongroom's namespace",
        ),
        RootKeyCare::Missing => Some(
            "the root key's Secret is gone: once the data plane's present pods end, no vault can be opened. A cluster \
             administrator restores it from its escrow, now",
        ),
    }
}

fn said(before: &[Condition], type_: ConditionType) -> Option<String> {
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

    fn said_by(standing: &Standing) -> Vec<Condition> {
        standing.conditions(&[], None, UnixSeconds(0))
    }

    #[test]
    fn every_vault_says_which_guard_is_missing_and_an_operator_that_has_just_begun_goes_on_saying_so() {
        let concerns = Concerns::new(true);
        assert!(concerns.on(good(), &[]).also.is_empty());
        concerns.guards(Faults::from([("strongroom-grant".to_owned(), Fault::NoPolicy)]));
        let missing = concerns.on(good(), &[]);
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
        assert_eq!(said_by(&Concerns::new(true).on(good(), &conditions)), conditions);
        concerns.guards(Faults::new());
        assert!(concerns.on(good(), &conditions).also.is_empty());
    }

    #[test]
    fn every_vault_says_that_its_root_key_is_not_escrowed_until_somebody_says_that_it_is() {
        let concerns = Concerns::new(true);
        assert!(concerns.root_key(RootKeyCare::NotEscrowed));
        assert!(!concerns.root_key(RootKeyCare::NotEscrowed), "no news");
        let conditions = said_by(&concerns.on(good(), &[]));
        assert_eq!(&*conditions[1].type_, "RootKeyNotEscrowed");
        assert!(concerns.root_key(RootKeyCare::Missing));
        let gone = said_by(&concerns.on(good(), &conditions));
        assert!(gone[1].message.contains("the root key's Secret is gone"));
        assert!(concerns.root_key(RootKeyCare::Escrowed));
        assert!(concerns.on(good(), &gone).also.is_empty());
    }

    #[test]
    fn every_vault_says_that_its_audit_log_goes_with_the_pods() {
        let conditions = said_by(&Concerns::new(false).on(good(), &[]));
        assert_eq!(&*conditions[1].type_, "AuditNotDurable");
        assert_eq!(conditions.len(), 2);
    }
}
