//! What can be done with a deleted secret: look at it, bring it back, remove it for good.

use super::{Context, Step, deleted_secret, done_before, following, note_request, secret};
use crate::engine::Error;
use crate::engine::heads::{Head, SecretState};
use crate::model::{DeletedSecret, Deletion, ObjectName, Reply, VaultRules};

/// `GET /deletedsecrets/{name}`.
pub(in crate::engine) fn get_deleted(
    head: Option<&Head>,
    name: &ObjectName,
    rules: VaultRules,
) -> Result<DeletedSecret, Error> {
    let (head, state, deleted) = recoverable(head, name)?;
    Ok(deleted_secret(&head.name, state, deleted, rules))
}

/// `POST /deletedsecrets/{name}/recover`: all versions are there again.
pub(in crate::engine) fn recover(
    head: Option<&Head>,
    name: &ObjectName,
    context: &Context,
) -> Result<Step<Head>, Error> {
    if let (Some(head), Some(_)) = (head, done_before(head, context))
        && let Some(state) = &head.secret
    {
        let newest = secret(&head.name, state.versions.newest(), context.rules);
        return Ok(Step::Keep(Reply::Secret(newest)));
    }
    if let Some(head) = head.filter(|head| head.is_purging()) {
        return Err(Error::ObjectIsBeingDeleted {
            name: head.name.clone(),
        });
    }
    let (head, state, _) = recoverable(head, name)?;
    let reply = Reply::Secret(secret(&head.name, state.versions.newest(), context.rules));
    let mut next = following(head, context)?;
    note_request(&mut next, None, context);
    next.secret = Some(SecretState {
        deleted: None,
        ..state.clone()
    });
    Ok(Step::Write {
        head: next,
        reply,
        exempt: true,
    })
}

/// `DELETE /deletedsecrets/{name}`: from here on there is no way back, and [`end_purge`] is to follow. A purge that has begun
/// is ended whatever the vault's rules are by now.
pub(in crate::engine) fn purge(
    head: Option<&Head>,
    name: &ObjectName,
    context: &Context,
) -> Result<Step<Head>, Error> {
    if done_before(head, context).is_some() {
        return Ok(Step::Keep(Reply::Purged));
    }
    if head.is_some_and(Head::is_purging) {
        return Ok(Step::Confirm(Reply::Purged));
    }
    let (head, state, deleted) = recoverable(head, name)?;
    if context.rules.purge_protection {
        return Err(Error::PurgeProtected);
    }
    begin_purge(head, state, deleted, context)
}

/// What the clock does with a deleted secret: it is purged at its date and not before, and what was begun is ended.
pub(in crate::engine) fn purge_due(head: Option<&Head>, context: &Context) -> Result<Step<Head>, Error> {
    if head.is_some_and(Head::is_purging) {
        return Ok(Step::Confirm(Reply::Purged));
    }
    match head.and_then(|head| Some((head, head.deleted_secret()?))) {
        Some((head, (state, deleted))) if deleted.purge_due <= context.now => {
            begin_purge(head, state, deleted, context)
        }
        Some(_) | None => Ok(Step::Keep(Reply::NotDue)),
    }
}

fn begin_purge(
    head: &Head,
    state: &SecretState,
    deleted: &Deletion,
    context: &Context,
) -> Result<Step<Head>, Error> {
    let mut next = following(head, context)?;
    note_request(&mut next, None, context);
    next.secret = Some(SecretState {
        deleted: Some(Deletion {
            purging: true,
            ..*deleted
        }),
        ..state.clone()
    });
    Ok(Step::Write {
        head: next,
        reply: Reply::Purged,
        exempt: true,
    })
}

/// Ends a purge that has begun: nothing is left but the receipt, and the name is free.
pub(in crate::engine) fn end_purge(head: Option<&Head>, context: &Context) -> Result<Step<Head>, Error> {
    let Some(head) = head.filter(|head| head.is_purging()) else {
        return Ok(Step::Keep(Reply::Purged));
    };
    let mut next = following(head, context)?;
    next.secret = None;
    next.purged.note(next.incarnation, context.now);
    Ok(Step::Write {
        head: next,
        reply: Reply::Purged,
        exempt: true,
    })
}

fn recoverable<'a>(
    head: Option<&'a Head>,
    name: &ObjectName,
) -> Result<(&'a Head, &'a SecretState, &'a Deletion), Error> {
    head.and_then(|head| {
        head.deleted_secret()
            .map(|(state, deleted)| (head, state, deleted))
    })
    .ok_or_else(|| Error::DeletedSecretNotFound { name: name.clone() })
}
