//! A secret is taken away with all its versions, and brought back.

use std::sync::Arc;

use super::set::begin_life;
use super::{Context, SealBody, Step, done_before, live, note_request, secret, taken};
use crate::engine::Error;
use crate::engine::heads::{BackedUp, Body, Head, SecretState, VersionEntry, Versions};
use crate::engine::limits::MAX_BACKUP_VERSIONS;
use crate::engine::seals::BodyPlace;
use crate::model::{ObjectName, Reply};

/// `POST /secrets/{name}/backup`: what is to be backed up.
pub(in crate::engine) fn backup<'a>(head: Option<&'a Head>, name: &ObjectName) -> Result<&'a Head, Error> {
    let (head, state) = live(head, name)?;
    let (count, limit) = (state.versions.count(), MAX_BACKUP_VERSIONS);
    if count > limit {
        Err(Error::BackupTooManyVersions { count, limit })
    } else {
        Ok(head)
    }
}

/// `POST /secrets/restore`: all versions under their old ids, if the name is free.
pub(in crate::engine) fn restore(
    head: Option<&Head>,
    backup: &BackedUp,
    context: &Context,
    seal: &SealBody<'_>,
) -> Result<Step<Head>, Error> {
    if let (Some(head), Some(_)) = (head, done_before(head, context))
        && let Some(state) = &head.secret
    {
        let newest = secret(&head.name, state.versions.newest(), context.rules);
        return Ok(Step::Keep(Reply::Secret(newest)));
    }
    match head.and_then(|head| head.secret.as_ref()) {
        None => {}
        Some(SecretState {
            deleted: Some(deleted),
            ..
        }) => return Err(taken(deleted, backup.name.clone())),
        Some(_) => {
            return Err(Error::SecretExists {
                name: backup.name.clone(),
            });
        }
    }
    let mut next = begin_life(head, &backup.name, context)?;
    note_request(&mut next, None, context);
    let entry = |entry: &Arc<VersionEntry>| {
        let place = BodyPlace {
            name: next.name.folded(),
            incarnation: next.incarnation,
            version: entry.id,
            order: entry.order,
        };
        Ok(Arc::new(VersionEntry {
            body: Body::Inline(seal(&place)?),
            ..VersionEntry::clone(entry)
        }))
    };
    let entries = backup
        .versions
        .inline()
        .iter()
        .map(entry)
        .collect::<Result<_, Error>>()?;
    let versions = Versions::from_entries(entries).ok_or(Error::Encode)?;
    let reply = Reply::Secret(secret(&next.name, versions.newest(), context.rules));
    next.secret = Some(SecretState {
        deleted: None,
        versions,
        maker: None,
    });
    Ok(Step::Write {
        head: next,
        reply,
        exempt: false,
    })
}
