//! What a request is known by when its client repeats it.
//!
//! # Why
//! A client that hears nothing asks again, and cannot know whether the first was done. Azure's SDKs send the same
//! `x-ms-client-request-id` then. So each change keeps, in the head that it changes, a keyed hash of that id, of who asked
//! and of what was asked; a repetition finds it there, on whichever replica, and is told what came of the first.

use super::heads::RequestMark;
use super::seals::Seals;
use crate::model::{
    AttributesChange, Caller, Operation, SetSecret, Tags, UnixSeconds, UpdateSecret, Version,
};

/// The mark of a request of this id. None for what needs none: reads, and what `operate` and the clock ask, who say
/// themselves what they expect.
pub(super) fn mark(seals: &Seals, caller: &Caller, id: &str, operation: &Operation) -> Option<RequestMark> {
    let Caller::ServiceAccount(account) = caller else {
        return None;
    };
    let mut body = Parts::default();
    let word: &[u8] = match operation {
        Operation::SetSecret(set) => {
            body.set(set);
            b"set"
        }
        Operation::UpdateSecret(update) => {
            body.update(update);
            b"update"
        }
        Operation::DeleteSecret { name } => {
            body.text(name.folded());
            b"delete"
        }
        Operation::RecoverSecret { name } => {
            body.text(name.folded());
            b"recover"
        }
        Operation::PurgeSecret { name } => {
            body.text(name.folded());
            b"purge"
        }
        Operation::RestoreSecret { backup } => {
            body.bytes(&backup.0);
            b"restore"
        }
        Operation::GetSecret { .. }
        | Operation::ListSecrets(_)
        | Operation::ListSecretVersions { .. }
        | Operation::ListDeletedSecrets(_)
        | Operation::GetDeletedSecret { .. }
        | Operation::BackupSecret { .. }
        | Operation::EnsureVault(_)
        | Operation::EnsureGeneratedSecret(_)
        | Operation::DeleteOwned(_)
        | Operation::DeleteVault(_)
        | Operation::PurgeVault(_)
        | Operation::PurgeDueSecret { .. } => return None,
    };
    let who = [
        account.namespace.as_str().as_bytes(),
        account.name.as_bytes(),
        account.uid.as_str().as_bytes(),
        id.as_bytes(),
        word,
    ];
    let parts: Vec<&[u8]> = who.into_iter().chain(body.0.iter().map(Part::bytes)).collect();
    Some(RequestMark(seals.request_mark(&parts)))
}

/// What was asked, in pieces that each go in with their length. Nothing of a value is copied.
#[derive(Default)]
struct Parts<'a>(Vec<Part<'a>>);

enum Part<'a> {
    Borrowed(&'a [u8]),
    Number([u8; 9]),
}

impl Part<'_> {
    const fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Number(bytes) => bytes,
        }
    }
}

impl<'a> Parts<'a> {
    fn bytes(&mut self, bytes: &'a [u8]) {
        self.0.push(Part::Borrowed(bytes));
    }

    fn text(&mut self, text: &'a str) {
        self.bytes(text.as_bytes());
    }

    /// A number that may be missing: nothing and zero differ.
    fn number(&mut self, number: Option<i64>) {
        let mut bytes = [0; 9];
        if let (Some(number), [present, rest @ ..]) = (number, &mut bytes) {
            *present = 1;
            rest.copy_from_slice(&number.to_be_bytes());
        }
        self.0.push(Part::Number(bytes));
    }

    fn optional(&mut self, text: Option<&'a str>) {
        self.number(text.map(|_| 1));
        self.text(text.unwrap_or_default());
    }

    fn tags(&mut self, tags: Option<&'a Tags>) {
        self.number(tags.map(|tags| i64::try_from(tags.len()).unwrap_or(i64::MAX)));
        for (name, value) in tags.into_iter().flatten() {
            self.text(name);
            self.text(value);
        }
    }

    fn attributes(&mut self, attributes: &AttributesChange) {
        let seconds = |at: Option<UnixSeconds>| at.map(|at| at.0);
        self.number(attributes.enabled.map(i64::from));
        self.number(seconds(attributes.not_before));
        self.number(seconds(attributes.expires));
    }

    fn version(&mut self, version: Option<&'a Version>) {
        self.bytes(version.map_or(&[], |version| &version.0));
    }

    fn set(&mut self, set: &'a SetSecret) {
        self.text(set.name.folded());
        self.bytes(set.value.expose());
        self.optional(set.content_type.as_deref());
        self.tags(Some(&set.tags));
        self.attributes(&set.attributes);
    }

    fn update(&mut self, update: &'a UpdateSecret) {
        self.text(update.name.folded());
        self.version(update.version.as_ref());
        self.optional(update.content_type.as_deref());
        self.tags(update.tags.as_ref());
        self.attributes(&update.attributes);
    }
}
