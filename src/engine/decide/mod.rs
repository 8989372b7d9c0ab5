//! What each operation makes of a head: pure functions of the head, the operation and the moment. The shell around them reads,
//! seals and writes.

mod backup;
mod delete;
mod deleted;
mod fence;
mod get;
mod owned;
mod set;
mod update;
mod vault;

use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use super::heads::{DoneRequest, FORMAT, Head, Incarnation, RequestMark, SecretState, VersionEntry, WriteId};
use super::seals::BodyPlace;
use crate::model::{
    Attributes, DeletedItem, DeletedSecret, Deletion, ObjectName, Reply, Secret, SecretItem, UnixSeconds,
    VaultRules, Version,
};

pub(super) use backup::{backup, restore};
pub(super) use delete::{delete, delete_owned};
pub(super) use deleted::{end_purge, get_deleted, purge, purge_due, recover};
pub(super) use fence::fence;
pub(super) use get::get;
pub(super) use owned::{ensure_generated, owned_state};
pub(super) use set::set;
pub(super) use update::update;
pub(super) use vault::{NewVault, VaultContext, delete_vault, end_purge_vault, ensure_vault, purge_vault};

/// What a change is decided with, beside the head and the operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) now: UnixSeconds,
    /// The vault's.
    pub(super) rules: VaultRules,
    /// How many versions an object may have.
    pub(super) max_versions: usize,
    /// The id of this change.
    pub(super) write: WriteId,
    /// What the client's request is known by, if it may be repeated.
    pub(super) request: Option<RequestMark>,
    /// The version that this change makes, if it makes one.
    pub(super) version: Version,
    /// The incarnation of a head that this change makes, if it makes one.
    pub(super) incarnation: Incarnation,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Step<H> {
    /// Write this head, then answer.
    Write {
        head: H,
        reply: Reply,
        /// It is needed to free room, so the quotas do not hold it up.
        exempt: bool,
    },
    /// Everything is as asked already.
    Keep(Reply),
    /// There is nothing to write in this state, and that is an answer: told once it is confirmed.
    Confirm(Reply),
}

/// Seals a value for its place.
pub(super) type SealBody<'a> = dyn Fn(&BodyPlace<'_>) -> Result<Bytes, Error> + Send + Sync + 'a;

/// The head that follows `head`, still with its content.
fn following(head: &Head, context: &Context) -> Result<Head, Error> {
    if head.format > FORMAT {
        return Err(Error::NewerFormat);
    }
    let mut next = head.clone();
    next.rev = head.rev.saturating_add(1);
    next.writes.push(context.write);
    next.purged.forget(context.now);
    next.requests.forget(context.now);
    Ok(next)
}

/// What came of the same request before, if it was done lately.
fn done_before(head: Option<&Head>, context: &Context) -> Option<DoneRequest> {
    head?.requests.find(context.request?, context.now).copied()
}

/// Notes in the head that is to be written that this request is done by it.
fn note_request(next: &mut Head, version: Option<Version>, context: &Context) {
    if let Some(mark) = context.request {
        next.requests.push(DoneRequest {
            mark,
            version,
            at: context.now,
        });
    }
}

/// The live secret of a head.
pub(super) fn live<'a>(
    head: Option<&'a Head>,
    name: &ObjectName,
) -> Result<(&'a Head, &'a SecretState), Error> {
    head.and_then(|head| head.live_secret().map(|secret| (head, secret)))
        .ok_or_else(|| Error::SecretNotFound { name: name.clone() })
}

/// The live secret of a head that is to be changed.
fn live_for_change<'a>(
    head: Option<&'a Head>,
    name: &ObjectName,
) -> Result<(&'a Head, &'a SecretState), Error> {
    match head {
        Some(head) if head.is_purging() => Err(Error::ObjectIsBeingDeleted {
            name: head.name.clone(),
        }),
        head => live(head, name),
    }
}

/// Why a name that is deleted cannot be used.
fn taken(deleted: &Deletion, name: ObjectName) -> Error {
    if deleted.purging {
        Error::ObjectIsBeingDeleted { name }
    } else {
        Error::ObjectIsDeletedButRecoverable { name }
    }
}

/// The version asked for, or the newest.
fn version<'a>(
    secret: &'a SecretState,
    name: &ObjectName,
    version: Option<Version>,
) -> Result<&'a Arc<VersionEntry>, Error> {
    version.map_or_else(
        || Ok(secret.versions.newest()),
        |version| {
            let missing = || Error::SecretVersionNotFound {
                name: name.clone(),
                version,
            };
            secret.versions.get(&version)?.ok_or_else(missing)
        },
    )
}

pub(super) fn attributes(entry: &VersionEntry, rules: VaultRules) -> Attributes {
    Attributes {
        enabled: entry.enabled,
        not_before: entry.not_before,
        expires: entry.expires,
        created: entry.created,
        updated: entry.updated,
        recoverable_days: rules.retention_days,
        recovery_level: rules.recovery_level(),
    }
}

/// A version as a reply, without its value.
pub(super) fn secret(name: &ObjectName, entry: &VersionEntry, rules: VaultRules) -> Secret {
    Secret {
        name: name.clone(),
        version: entry.id,
        value: None,
        content_type: entry.content_type.clone(),
        attributes: attributes(entry, rules),
        tags: Arc::clone(&entry.tags),
    }
}

/// A version as a line of a list.
pub(super) fn item(
    name: &ObjectName,
    entry: &VersionEntry,
    version: Option<Version>,
    rules: VaultRules,
) -> SecretItem {
    SecretItem {
        name: name.clone(),
        version,
        attributes: attributes(entry, rules),
        content_type: entry.content_type.clone(),
        tags: Arc::clone(&entry.tags),
    }
}

/// A deleted secret as a line of a list.
pub(super) fn deleted_item(
    name: &ObjectName,
    state: &SecretState,
    deleted: &Deletion,
    rules: VaultRules,
) -> DeletedItem {
    DeletedItem {
        item: item(name, state.versions.newest(), None, rules),
        deleted: deleted.at,
        scheduled_purge: deleted.purge_due,
    }
}

fn deleted_secret(
    name: &ObjectName,
    state: &SecretState,
    deleted: &Deletion,
    rules: VaultRules,
) -> DeletedSecret {
    DeletedSecret {
        secret: secret(name, state.versions.newest(), rules),
        deleted: deleted.at,
        scheduled_purge: deleted.purge_due,
    }
}

#[cfg(test)]
pub(super) mod tests;
