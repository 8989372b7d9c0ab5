//! What was asked and told in one schedule, and whether it keeps what a user may rely on.

use std::collections::BTreeMap;

use crate::engine::Error;
use crate::engine::tests::support::Stored;
use crate::model::Version;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Set {
        value: String,
    },
    /// Of a certain version, to this content type.
    Update {
        version: Version,
        content_type: String,
    },
    Delete,
    Get,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the version that was made, changed or read.
    Done(Version),
    Refused(Error),
    /// Told that nothing was done.
    NotDone,
    /// Cut off, or told that nobody knows.
    Unclear,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) replica: usize,
    pub(super) name: &'static str,
    pub(super) what: What,
    pub(super) begun: usize,
    pub(super) ended: usize,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) stored: BTreeMap<&'static str, Stored>,
    pub(super) writes: usize,
}

impl Call {
    pub(super) fn is_change(&self) -> bool {
        self.what != What::Get
    }

    pub(super) fn may_be_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_) | Outcome::Unclear)
    }

    pub(super) fn acknowledged(&self) -> Option<Version> {
        if let Outcome::Done(version) = self.outcome {
            Some(version)
        } else {
            None
        }
    }
}

impl History {
    pub(super) fn changes(&self) -> usize {
        self.calls
            .iter()
            .filter(|call| call.is_change() && call.may_be_done())
            .count()
    }

    fn of<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Call> + Clone {
        self.calls.iter().filter(move |call| call.name == secret)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (secret, stored) in &self.stored {
            self.check_versions(secret, stored)?;
            self.check_updates(secret, stored)?;
            self.check_deletion(secret, stored)?;
            self.check_reads(secret, stored)?;
        }
        Ok(())
    }

    fn check_versions(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let sets = || {
            self.of(secret).filter_map(|c| {
                if let What::Set { value } = &c.what {
                    Some((c, value))
                } else {
                    None
                }
            })
        };
        for (call, value) in sets() {
            let found: Vec<_> = stored.versions.iter().filter(|(_, v, _)| v == value).collect();
            match (&call.outcome, found.as_slice()) {
                (Outcome::Done(version), [(stored, ..)]) if version == stored => {}
                (Outcome::Unclear, [] | [_]) => {}
                (Outcome::Refused(_) | Outcome::NotDone, []) => {}
                (outcome, found) => {
                    return Err(format!("{value} of {secret} told {outcome:?}, stored {found:?}"));
                }
            }
        }
        for (version, value, _) in &stored.versions {
            if !sets().any(|(_, set)| set == value) {
                return Err(format!("{version} of {secret} was never set"));
            }
        }
        for (first, _) in sets() {
            for (second, _) in sets() {
                if let (Some(a), Some(b)) = (first.acknowledged(), second.acknowledged())
                    && first.ended < second.begun
                    && stored.position(a) > stored.position(b)
                {
                    return Err(format!(
                        "{a} of {secret} was acknowledged before {b} began, and stands after it"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_updates(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        for (version, _, content_type) in &stored.versions {
            let updates = || {
                self.of(secret).filter_map(|call| match &call.what {
                    What::Update {
                        version: of,
                        content_type,
                    } if of == version => Some((call, content_type)),
                    _ => None,
                })
            };
            let last = match content_type {
                None => None,
                Some(found) => {
                    let Some((call, _)) = updates().find(|(_, content_type)| *content_type == found) else {
                        return Err(format!("{found} of {secret} comes from nowhere"));
                    };
                    if !call.may_be_done() {
                        return Err(format!(
                            "{found} of {secret} was told {:?} and is stored",
                            call.outcome
                        ));
                    }
                    Some(call)
                }
            };
            for (call, content_type) in updates().filter(|(call, _)| call.acknowledged().is_some()) {
                if last.is_none_or(|last| last.ended < call.begun) {
                    return Err(format!("{content_type} of {secret} was acknowledged and is lost"));
                }
            }
        }
        Ok(())
    }

    fn check_deletion(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let deletes = || self.of(secret).filter(|call| call.what == What::Delete);
        let acknowledged = deletes().filter(|call| call.acknowledged().is_some()).count();
        if acknowledged > 1 {
            return Err(format!("{secret} was deleted twice"));
        }
        if acknowledged == 1 && !stored.deleted {
            return Err(format!("{secret} was deleted and is there"));
        }
        if stored.deleted && !deletes().any(Call::may_be_done) {
            return Err(format!("{secret} is deleted, and nobody did that"));
        }
        for delete in deletes().filter(|call| call.acknowledged().is_some()) {
            let after =
                |call: &&Call| call.begun > delete.ended && call.is_change() && call.acknowledged().is_some();
            if let Some(change) = self.of(secret).find(after) {
                return Err(format!("{change:?} was acknowledged after {secret} was deleted"));
            }
        }
        Ok(())
    }

    fn check_reads(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        for call in self.of(secret) {
            let set_before = self.of(secret).find(|set| {
                matches!(set.what, What::Set { .. }) && set.acknowledged().is_some() && set.ended < call.begun
            });
            let may_be_deleted = || {
                self.of(secret)
                    .any(|d| d.what == What::Delete && d.may_be_done() && d.begun < call.ended)
            };
            match &call.outcome {
                Outcome::Refused(Error::SecretNotFound { .. }) => {
                    if set_before.is_some() && !may_be_deleted() {
                        return Err(format!("{call:?} was told a stale refusal"));
                    }
                }
                Outcome::Refused(Error::ObjectIsDeletedButRecoverable { .. }) => {
                    if !may_be_deleted() {
                        return Err(format!("{call:?} was told of a deletion that nobody made"));
                    }
                }
                Outcome::Refused(error) => return Err(format!("{call:?} was refused: {error}")),
                Outcome::Done(version) if call.what == What::Get => {
                    let own = |c: &&Call| c.replica == call.replica && c.ended < call.begun;
                    let newest = self.of(secret).filter(own).filter_map(|c| match c.what {
                        What::Set { .. } | What::Get => c.acknowledged(),
                        What::Update { .. } | What::Delete => None,
                    });
                    let newest = newest.filter_map(|version| stored.position(version)).max();
                    if stored.position(*version).is_none() || stored.position(*version) < newest {
                        return Err(format!(
                            "{call:?} read an older version than this replica had shown"
                        ));
                    }
                }
                Outcome::Done(_) | Outcome::NotDone | Outcome::Unclear => {}
            }
        }
        Ok(())
    }
}
