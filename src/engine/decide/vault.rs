//! A vault's own head.

use super::Step;
use crate::engine::Error;
use crate::engine::heads::{FORMAT, Incarnation, VaultHead, WriteId, WriteIds};
use crate::model::{Reply, UnixSeconds, VaultEntry, VaultUuid};

/// What a vault is made with.
#[derive(Debug, Clone)]
pub(in crate::engine) struct NewVault {
    pub(in crate::engine) write: WriteId,
    pub(in crate::engine) uuid: VaultUuid,
    pub(in crate::engine) incarnation: Incarnation,
    pub(in crate::engine) wrapped_key: Vec<u8>,
    pub(in crate::engine) now: UnixSeconds,
}

/// Makes the head, or takes up the one that the same name has in the same namespace: its objects and its settings are there
/// again under the new resource.
pub(in crate::engine) fn ensure_vault(
    head: Option<&VaultHead>,
    entry: &VaultEntry,
    new: &NewVault,
) -> Result<Step<VaultHead>, Error> {
    let reply = Reply::VaultReady;
    let next = match head {
        Some(head) if head.resource_uid == entry.uid => return Ok(Step::Keep(reply)),
        Some(head) if head.format > FORMAT => return Err(Error::NewerFormat),
        Some(head) => {
            let mut next = VaultHead {
                resource_uid: entry.uid.clone(),
                ..head.clone()
            };
            next.rev = head.rev.saturating_add(1);
            next.writes.push(new.write);
            next
        }
        None => {
            let mut writes = WriteIds::default();
            writes.push(new.write);
            VaultHead {
                format: FORMAT,
                uuid: new.uuid,
                incarnation: new.incarnation,
                rev: 1,
                writes,
                id: entry.id.clone(),
                namespace_uid: entry.namespace_uid.clone(),
                resource_uid: entry.uid.clone(),
                retention_days: entry.settings.retention_days,
                wrapped_key: new.wrapped_key.clone(),
                made: new.now,
            }
        }
    };
    Ok(Step::Write {
        head: next,
        reply,
        exempt: head.is_some(),
    })
}
