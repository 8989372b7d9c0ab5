//! Soft delete of all versions.

use super::{
    Context, Step, deleted_secret, done_before, following, live_for_change, note_request, owned_state,
};
use crate::engine::Error;
use crate::engine::heads::{Deleted, Head, SecretState};
use crate::model::{ObjectName, OwnedSecret, Owner, Reply, UnixSeconds};

/// `DELETE /secrets/{name}`.
pub(in crate::engine) fn delete(
    head: Option<&Head>,
    name: &ObjectName,
    context: &Context,
) -> Result<Step<Head>, Error> {
    if let (Some(head), Some(done)) = (head, done_before(head, context))
        && let Some(state) = &head.secret
    {
        let deleted = deleted_at(done.at, context);
        let reply = deleted_secret(&head.name, state, &deleted, context.rules);
        return Ok(Step::Keep(Reply::Deleted(reply)));
    }
    let (head, state) = live_for_change(head, name)?;
    let deleted = deleted_at(context.now, context);
    let reply = Reply::Deleted(deleted_secret(&head.name, state, &deleted, context.rules));
    let head = with_deleted(head, state, deleted, context)?;
    Ok(Step::Write {
        head,
        reply,
        exempt: true,
    })
}

/// The same for a `Secret` resource that goes, if it made the secret.
pub(in crate::engine) fn delete_owned(
    head: Option<&Head>,
    owner: &Owner,
    context: &Context,
) -> Result<Step<Head>, Error> {
    let found = owned_state(head, owner);
    match (head, head.and_then(Head::live_secret), &found) {
        (Some(head), Some(state), OwnedSecret::Live { .. }) => {
            let head = with_deleted(head, state, deleted_at(context.now, context), context)?;
            Ok(Step::Write {
                head,
                reply: Reply::Owned(OwnedSecret::Deleted),
                exempt: true,
            })
        }
        _ => Ok(Step::Confirm(Reply::Owned(found))),
    }
}

const fn deleted_at(at: UnixSeconds, context: &Context) -> Deleted {
    Deleted {
        at,
        purge_due: at.plus_days(context.rules.retention_days),
        purging: false,
    }
}

fn with_deleted(
    head: &Head,
    state: &SecretState,
    deleted: Deleted,
    context: &Context,
) -> Result<Head, Error> {
    let mut next = following(head, context)?;
    note_request(&mut next, None, context);
    next.secret = Some(SecretState {
        deleted: Some(deleted),
        ..state.clone()
    });
    Ok(next)
}
