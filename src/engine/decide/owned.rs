//! Secrets that `Secret` resources make.

use super::set::New;
use super::{Context, SealBody, Step};
use crate::engine::Error;
use crate::engine::heads::Head;
use crate::model::{AttributesChange, EnsureGeneratedSecret, OwnedSecret, Owner, Reply, Tags};

/// What the resource's object is.
pub(in crate::engine) fn owned_state(head: Option<&Head>, owner: &Owner) -> OwnedSecret {
    let Some(state) = head.and_then(|head| head.secret.as_ref()) else {
        return OwnedSecret::Absent;
    };
    let ours = state.maker.as_ref().is_some_and(|maker| same(maker, owner));
    match (ours, state.deleted) {
        (false, _) => OwnedSecret::Foreign,
        (true, Some(_)) => OwnedSecret::Deleted,
        (true, None) => OwnedSecret::Live {
            version: state.versions.newest().id,
        },
    }
}

/// A namespace keeps its name for as long as it has its UID, so the UID says all.
fn same(maker: &Owner, owner: &Owner) -> bool {
    maker.namespace_uid == owner.namespace_uid && maker.resource == owner.resource
}

/// Makes the value unless the name was ever made.
pub(in crate::engine) fn ensure_generated(
    head: Option<&Head>,
    ensure: &EnsureGeneratedSecret,
    context: &Context,
    seal: &SealBody<'_>,
) -> Result<Step<Head>, Error> {
    match owned_state(head, &ensure.owner) {
        found @ OwnedSecret::Live { .. } => Ok(Step::Keep(Reply::Owned(found))),
        found @ (OwnedSecret::Deleted | OwnedSecret::Foreign) => Ok(Step::Confirm(Reply::Owned(found))),
        OwnedSecret::Absent => {
            let entry = New {
                name: &ensure.name,
                content_type: ensure.content_type.as_deref(),
                tags: &Tags::new(),
                attributes: &AttributesChange::default(),
                maker: Some(&ensure.owner),
            };
            let (head, made) = entry.write(head, context, seal)?;
            let reply = Reply::Owned(OwnedSecret::Live { version: made.id });
            Ok(Step::Write {
                head,
                reply,
                exempt: false,
            })
        }
    }
}
