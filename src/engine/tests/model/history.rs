//! What was asked and told in one schedule, and whether it keeps what a user may rely on.

use std::collections::BTreeMap;

use crate::engine::Error;
use crate::engine::tests::support::{Life, Stored};
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
    Recover,
    Purge,
    Get,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the version that was made, changed, read or brought back; none after a purge.
    Done(Option<Version>),
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
    /// The client's id of the request.
    pub(super) request: String,
    /// How often it was asked again, under the same id.
    pub(super) repeated: usize,
    pub(super) begun: usize,
    pub(super) ended: usize,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) writes: usize,
    pub(super) collected: usize,
    pub(super) stored: BTreeMap<&'static str, Stored>,
}

type Kind = fn(&What) -> bool;

const SET: Kind = |what| matches!(what, What::Set { .. });
const DELETE: Kind = |what| *what == What::Delete;
const PURGE: Kind = |what| *what == What::Purge;
/// What ends the deleted state.
const UNDO: Kind = |what| matches!(what, What::Recover | What::Purge);
/// What makes a name live.
const LIVEN: Kind = |what| matches!(what, What::Set { .. } | What::Recover);

impl Call {
    pub(super) fn is_change(&self) -> bool {
        self.what != What::Get
    }

    pub(super) fn may_be_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_) | Outcome::Unclear)
    }

    fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    pub(super) fn acknowledged(&self) -> Option<Version> {
        if let Outcome::Done(version) = self.outcome {
            version
        } else {
            None
        }
    }

    /// Whether its effect, if it has one, surely came before the other call began. What is unclear may come at any time.
    fn surely_before(&self, begun: usize) -> bool {
        self.is_done() && self.ended < begun
    }
}

impl History {
    /// Changes that may have been made, as writes of the store.
    pub(super) fn changes(&self) -> usize {
        let writes = |call: &Call| 1 + usize::from(call.what == What::Purge);
        self.calls
            .iter()
            .filter(|call| call.is_change() && call.may_be_done())
            .map(writes)
            .sum()
    }

    pub(super) fn new_lives(&self) -> usize {
        let purged = |set: &&Call| {
            self.of(set.name)
                .any(|purge| PURGE(&purge.what) && purge.surely_before(set.begun))
        };
        self.calls
            .iter()
            .filter(|call| SET(&call.what) && call.is_done())
            .filter(purged)
            .count()
    }

    fn of<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Call> + Clone {
        self.calls.iter().filter(move |call| call.name == secret)
    }

    /// Whether a call of this kind may have had its effect after that of `call`, and before `end`.
    fn may_follow(&self, call: &Call, kind: Kind, end: usize) -> bool {
        self.of(call.name).any(|other| {
            !std::ptr::eq(other, call)
                && kind(&other.what)
                && other.may_be_done()
                && other.begun < end
                && !other.surely_before(call.begun)
        })
    }

    /// Whether a call of this kind may have had an effect before `end`.
    fn may_be(&self, secret: &str, kind: Kind, end: usize) -> bool {
        self.of(secret)
            .any(|call| kind(&call.what) && call.may_be_done() && call.begun < end)
    }

    /// The first done call of kind `what`, ended before `begun`, which no call of kind `undo` can have undone before `end`.
    fn stands<'a>(
        &'a self,
        secret: &'a str,
        what: Kind,
        (begun, end): (usize, usize),
        undo: Kind,
    ) -> Option<&'a Call> {
        self.of(secret)
            .filter(|call| what(&call.what) && call.surely_before(begun))
            .find(|call| !self.may_follow(call, undo, end))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (secret, stored) in &self.stored {
            self.check_versions(secret, stored)?;
            self.check_updates(secret, stored)?;
            self.check_life(secret, stored)?;
            self.check_refusals(secret)?;
            self.check_changes(secret)?;
            self.check_reads(secret, stored)?;
        }
        Ok(())
    }

    fn sets<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = (&'a Call, &'a String)> {
        self.of(secret).filter_map(|call| match &call.what {
            What::Set { value } => Some((call, value)),
            _ => None,
        })
    }

    fn check_versions(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        for (call, value) in self.sets(secret) {
            let found: Vec<_> = stored.versions.iter().filter(|(_, v, _)| v == value).collect();
            match (&call.outcome, found.as_slice()) {
                (Outcome::Done(version), [(stored, ..)]) if *version == Some(*stored) => {}
                (Outcome::Done(_), []) if self.may_follow(call, PURGE, usize::MAX) => {}
                (Outcome::Unclear, [] | [_]) => {}
                (Outcome::Refused(_) | Outcome::NotDone, []) => {}
                (outcome, found) => {
                    return Err(format!("{value} of {secret} told {outcome:?}, stored {found:?}"));
                }
            }
            let purge = self
                .of(secret)
                .find(|purge| PURGE(&purge.what) && purge.is_done() && call.surely_before(purge.begun));
            if let (Some(purge), [_, ..]) = (purge, found.as_slice()) {
                return Err(format!(
                    "{value} of {secret} was purged by {purge:?} and is there"
                ));
            }
        }
        for (version, value, _) in &stored.versions {
            if !self.sets(secret).any(|(_, set)| set == value) {
                return Err(format!("{version} of {secret} was never set"));
            }
        }
        for (first, _) in self.sets(secret) {
            for (second, _) in self.sets(secret) {
                if let (Some(a), Some(b)) = (first.acknowledged(), second.acknowledged())
                    && first.ended < second.begun
                    && stored.position(b).is_some()
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
            for (call, content_type) in updates().filter(|(call, _)| call.is_done()) {
                if last.is_none_or(|last| last.ended < call.begun) {
                    return Err(format!("{content_type} of {secret} was acknowledged and is lost"));
                }
            }
        }
        Ok(())
    }

    /// What stands in the end is what the last of the acknowledged changes made, or one of those that are unclear.
    fn check_life(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let end = (usize::MAX, usize::MAX);
        let undone = match stored.life {
            Life::Live => self
                .stands(secret, DELETE, end, UNDO)
                .or_else(|| self.stands(secret, PURGE, end, SET)),
            Life::Deleted => self
                .stands(secret, LIVEN, end, DELETE)
                .or_else(|| self.stands(secret, PURGE, end, SET)),
            Life::Purging => self
                .stands(secret, LIVEN, end, DELETE)
                .or_else(|| self.stands(secret, DELETE, end, PURGE)),
            Life::Absent => self
                .stands(secret, LIVEN, end, PURGE)
                .or_else(|| self.stands(secret, DELETE, end, PURGE)),
        };
        if let Some(call) = undone {
            return Err(format!(
                "{call:?} was acknowledged, and {secret} is {:?}",
                stored.life
            ));
        }
        let made = match stored.life {
            Life::Live => self.may_be(secret, SET, usize::MAX),
            Life::Deleted => self.may_be(secret, DELETE, usize::MAX),
            Life::Purging => self
                .of(secret)
                .any(|call| PURGE(&call.what) && call.outcome == Outcome::Unclear),
            Life::Absent => true,
        };
        if made {
            Ok(())
        } else {
            Err(format!("{secret} is {:?}, and nobody did that", stored.life))
        }
    }

    /// A refusal is true at some moment between the call's begin and its end.
    fn check_refusals(&self, secret: &str) -> Result<(), String> {
        for call in self.of(secret) {
            let Outcome::Refused(error) = &call.outcome else {
                continue;
            };
            let during = (call.begun, call.ended);
            let (stale, possible) = match error {
                Error::SecretNotFound { .. } => (self.stands(secret, LIVEN, during, DELETE), true),
                Error::SecretVersionNotFound { .. } => (None, self.may_be(secret, PURGE, call.ended)),
                Error::ObjectIsDeletedButRecoverable { .. } => (
                    self.stands(secret, LIVEN, during, DELETE)
                        .or_else(|| self.stands(secret, PURGE, during, DELETE)),
                    self.may_be(secret, DELETE, call.ended),
                ),
                Error::ObjectIsBeingDeleted { .. } => (
                    self.stands(secret, LIVEN, during, PURGE)
                        .or_else(|| self.stands(secret, PURGE, during, PURGE)),
                    self.may_be(secret, PURGE, call.ended),
                ),
                Error::DeletedSecretNotFound { .. } => (self.stands(secret, DELETE, during, UNDO), true),
                error => return Err(format!("{call:?} was refused: {error}")),
            };
            if let Some(stale) = stale {
                return Err(format!("{call:?} was told a stale refusal: {stale:?} stands"));
            }
            if !possible {
                return Err(format!("{call:?} was told what nobody had done"));
            }
        }
        Ok(())
    }

    /// A change that was acknowledged was possible at some moment between its begin and its end.
    fn check_changes(&self, secret: &str) -> Result<(), String> {
        for call in self.of(secret).filter(|call| call.is_done()) {
            let during = (call.begun, call.ended);
            let against = match call.what {
                What::Get => None,
                What::Set { .. } => self.stands(secret, DELETE, during, UNDO),
                What::Update { .. } | What::Delete => self
                    .stands(secret, DELETE, during, UNDO)
                    .or_else(|| self.stands(secret, PURGE, during, SET)),
                What::Recover | What::Purge => self.stands(secret, LIVEN, during, DELETE),
            };
            if let Some(against) = against {
                return Err(format!("{call:?} was acknowledged although {against:?} stands"));
            }
        }
        Ok(())
    }

    fn check_reads(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let set_of = |version| {
            self.of(secret)
                .find(|call| SET(&call.what) && call.acknowledged() == Some(version))
        };
        let older = |a: Version, b: Version| match (stored.position(a), stored.position(b)) {
            (Some(a), Some(b)) => a < b,
            _ => match (set_of(a), set_of(b)) {
                (Some(a), Some(b)) => a.ended < b.begun,
                _ => false,
            },
        };
        for call in self.of(secret).filter(|call| call.what == What::Get) {
            let Some(version) = call.acknowledged() else {
                continue;
            };
            let known = set_of(version).is_some_and(|set| set.begun < call.ended)
                || self
                    .of(secret)
                    .any(|set| SET(&set.what) && set.outcome == Outcome::Unclear && set.begun < call.ended);
            let gone = stored.position(version).is_none();
            if !known || (gone && !self.may_be(secret, PURGE, usize::MAX)) {
                return Err(format!("{call:?} read what was not there"));
            }
            let own = |c: &&Call| c.replica == call.replica && c.ended < call.begun && c.is_done();
            for before in self.of(secret).filter(own) {
                let shown = match before.what {
                    What::Set { .. } | What::Get | What::Recover => before.acknowledged(),
                    What::Update { .. } | What::Delete | What::Purge => None,
                };
                if shown.is_some_and(|shown| older(version, shown)) {
                    return Err(format!(
                        "{call:?} read an older version than this replica had shown"
                    ));
                }
                if PURGE(&before.what) && set_of(version).is_some_and(|set| set.surely_before(before.begun)) {
                    return Err(format!("{call:?} read what this replica had purged"));
                }
            }
        }
        Ok(())
    }
}
