//! Soft delete of all versions.

use super::{
    Context, Step, deleted_secret, done_before, following, live_for_change, note_request, owned_state,
};
use crate::engine::Error;
use crate::engine::heads::{Head, SecretState};
use crate::model::{Deletion, ObjectName, OwnedSecret, Owner, Reply};

/// `DELETE /secrets/{name}`.
pub(in crate::engine) fn delete(
    head: Option<&Head>,
    name: &ObjectName,
    context: &Context,
) -> Result<Step<Head>, Error> {
    if let (Some(head), Some(done)) = (head, done_before(head, context))
        && let Some(state) = &head.secret
    {
        let deleted = Deletion::new(done.at, context.rules);
        let reply = deleted_secret(&head.name, state, &deleted, context.rules);
        return Ok(Step::Keep(Reply::Deleted(reply)));
    }
    let (head, state) = live_for_change(head, name)?;
    let deleted = Deletion::new(context.now, context.rules);
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
            let head = with_deleted(head, state, Deletion::new(context.now, context.rules), context)?;
            Ok(Step::Write {
                head,
                reply: Reply::Owned(OwnedSecret::Deleted),
                exempt: true,
            })
        }
        _ => Ok(Step::Confirm(Reply::Owned(found))),
    }
}

fn with_deleted(
    head: &Head,
    state: &SecretState,
    deleted: Deletion,
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
