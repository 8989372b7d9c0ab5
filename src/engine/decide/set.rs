//! A new version.

use std::sync::Arc;

use bytes::Bytes;

use super::{Context, SealBody, Step, done_before, following, note_request, secret, taken};
use crate::engine::Error;
use crate::engine::heads::{
    Body, DoneRequests, FIRST_FORMAT, Head, Purges, SecretState, VersionEntry, Versions, WriteIds,
};
use crate::engine::seals::BodyPlace;
use crate::model::{AttributesChange, ObjectName, Owner, Reply, SetSecret, Tags, UnixSeconds, Version};

/// `PUT /secrets/{name}`.
pub(in crate::engine) fn set(
    head: Option<&Head>,
    set: &SetSecret,
    context: &Context,
    seal: &SealBody<'_>,
) -> Result<Step<Head>, Error> {
    let entry = New {
        name: &set.name,
        content_type: set.content_type.as_deref(),
        tags: &set.tags,
        attributes: &set.attributes,
        maker: None,
    };
    if let (Some(head), Some(done)) = (head, done_before(head, context))
        && let Some(version) = done.version
    {
        // As it was then, whatever became of it since.
        let made = entry.of(version, done.at, Body::Inline(Bytes::new()));
        return Ok(Step::Keep(Reply::Secret(secret(
            &head.name,
            &made,
            context.rules,
        ))));
    }
    let (mut head, made) = entry.write(head, context, seal)?;
    note_request(&mut head, Some(made.id), context);
    let reply = Reply::Secret(secret(&head.name, &made, context.rules));
    Ok(Step::Write {
        head,
        reply,
        exempt: false,
    })
}

/// A version to be made.
pub(super) struct New<'a> {
    pub(super) name: &'a ObjectName,
    pub(super) content_type: Option<&'a str>,
    pub(super) tags: &'a Tags,
    pub(super) attributes: &'a AttributesChange,
    /// Who makes the secret, if it is made with this version.
    pub(super) maker: Option<&'a Owner>,
}

impl New<'_> {
    /// The head with this version as its newest.
    pub(super) fn write(
        &self,
        head: Option<&Head>,
        context: &Context,
        seal: &SealBody<'_>,
    ) -> Result<(Head, Arc<VersionEntry>), Error> {
        let mut next = match head {
            Some(head) if !head.is_free() => following(head, context)?,
            head => begin_life(head, self.name, context)?,
        };
        let state = match next.secret.take() {
            None => SecretState {
                deleted: None,
                versions: Versions::first(self.entry(&next, 1, context, seal)?),
                maker: self.maker.cloned(),
            },
            Some(SecretState {
                deleted: Some(deleted),
                ..
            }) => return Err(taken(&deleted, next.name)),
            Some(state) if state.versions.count() >= context.max_versions => {
                return Err(Error::TooManyVersions {
                    limit: context.max_versions,
                });
            }
            Some(state) => {
                let order = state.versions.newest().order.saturating_add(1);
                let entry = self.entry(&next, order, context, seal)?;
                SecretState {
                    versions: state.versions.with(entry),
                    ..state
                }
            }
        };
        let made = Arc::clone(state.versions.newest());
        next.secret = Some(state);
        Ok((next, made))
    }

    fn entry(
        &self,
        head: &Head,
        order: u64,
        context: &Context,
        seal: &SealBody<'_>,
    ) -> Result<VersionEntry, Error> {
        let place = BodyPlace {
            name: head.name.folded(),
            incarnation: head.incarnation,
            version: context.version,
            order,
        };
        let entry = self.of(context.version, context.now, Body::Inline(seal(&place)?));
        Ok(VersionEntry { order, ..entry })
    }

    /// The version itself, made at that moment.
    fn of(&self, id: Version, at: UnixSeconds, body: Body) -> VersionEntry {
        VersionEntry {
            id,
            order: 1,
            enabled: self.attributes.enabled.unwrap_or(true),
            not_before: self.attributes.not_before,
            expires: self.attributes.expires,
            created: at,
            updated: at,
            content_type: self.content_type.map(Arc::from),
            tags: Arc::new(self.tags.clone()),
            body,
        }
    }
}

/// The head of a name that is free: nothing of a life before is left but its receipt.
pub(super) fn begin_life(head: Option<&Head>, name: &ObjectName, context: &Context) -> Result<Head, Error> {
    let Some(head) = head else {
        return Ok(new_head(name, context));
    };
    let mut next = following(head, context)?;
    next.name = name.clone();
    next.incarnation = context.incarnation;
    Ok(next)
}

pub(super) fn new_head(name: &ObjectName, context: &Context) -> Head {
    let mut writes = WriteIds::default();
    writes.push(context.write);
    Head {
        format: FIRST_FORMAT,
        name: name.clone(),
        incarnation: context.incarnation,
        rev: 1,
        writes,
        requests: DoneRequests::default(),
        secret: None,
        purged: Purges::default(),
    }
}
