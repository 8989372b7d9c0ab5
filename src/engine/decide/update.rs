//! Attributes, tags and content type of a version.

use std::sync::Arc;

use super::{Context, Step, done_before, following, live_for_change, note_request, secret, version};
use crate::engine::Error;
use crate::engine::heads::{Head, SecretState, VersionEntry};
use crate::model::{Reply, UpdateSecret};

/// `PATCH /secrets/{name}/{version}`. What the request leaves out stays; the value cannot be changed.
pub(in crate::engine) fn update(
    head: Option<&Head>,
    update: &UpdateSecret,
    context: &Context,
) -> Result<Step<Head>, Error> {
    if let (Some(head), Some(done)) = (head, done_before(head, context))
        && let Some(entry) = head.version(done.version)?
    {
        return Ok(Step::Keep(Reply::Secret(secret(
            &head.name,
            entry,
            context.rules,
        ))));
    }
    let (head, state) = live_for_change(head, &update.name)?;
    let before = version(state, &update.name, update.version)?;
    let change = &update.attributes;
    let entry = VersionEntry {
        enabled: change.enabled.unwrap_or(before.enabled),
        not_before: change.not_before.or(before.not_before),
        expires: change.expires.or(before.expires),
        updated: context.now,
        content_type: update
            .content_type
            .as_deref()
            .map(Arc::from)
            .or_else(|| before.content_type.clone()),
        tags: update
            .tags
            .as_ref()
            .map_or_else(|| Arc::clone(&before.tags), |tags| Arc::new(tags.clone())),
        ..VersionEntry::clone(before)
    };
    let reply = Reply::Secret(secret(&head.name, &entry, context.rules));
    let versions = state.versions.with(entry);
    let mut next = following(head, context)?;
    note_request(&mut next, Some(before.id), context);
    next.secret = Some(SecretState {
        versions,
        ..state.clone()
    });
    Ok(Step::Write {
        head: next,
        reply,
        // Attributes take no room: a value can be disabled in a full installation.
        exempt: update.tags.is_none() && update.content_type.is_none(),
    })
}
