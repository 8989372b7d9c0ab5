//! The value of a version.

use std::sync::Arc;

use super::{live, version};
use crate::engine::Error;
use crate::engine::heads::{Head, VersionEntry};
use crate::model::{ObjectName, OutsideValidity, UnixSeconds, Version};

/// `GET /secrets/{name}/{version}`: the version whose value may be disclosed now. Unlike Azure's, our vaults do not give out
/// what is outside `nbf..exp`, unless they are told to.
pub(in crate::engine) fn get<'a>(
    head: Option<&'a Head>,
    name: &ObjectName,
    wanted: Option<Version>,
    now: UnixSeconds,
    outside: OutsideValidity,
) -> Result<(&'a Head, &'a Arc<VersionEntry>), Error> {
    let (head, state) = live(head, name)?;
    let entry = version(state, name, wanted)?;
    if !entry.enabled {
        Err(Error::SecretDisabled)
    } else if outside == OutsideValidity::Allow {
        Ok((head, entry))
    } else if entry.not_before.is_some_and(|from| now < from) {
        Err(Error::SecretNotYetValid)
    } else if entry.expires.is_some_and(|end| now >= end) {
        Err(Error::SecretExpired)
    } else {
        Ok((head, entry))
    }
}
