//! A vault's own head.

use super::Step;
use crate::engine::Error;
use crate::engine::heads::{FIRST_FORMAT, Incarnation, VAULT_FORMAT, VaultHead, WriteId, WriteIds};
use crate::model::{Reply, UnixSeconds, VaultEntry, VaultRules, VaultUuid};

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
/// again under the new resource. Of the resource's settings it takes over what may change.
pub(in crate::engine) fn ensure_vault(
    head: Option<&VaultHead>,
    entry: &VaultEntry,
    new: &NewVault,
) -> Result<Step<VaultHead>, Error> {
    let reply = Reply::VaultReady;
    let next = match head {
        Some(head)
            if head.resource_uid == entry.uid && head.rules.following(&entry.settings) == head.rules =>
        {
            return Ok(Step::Keep(reply));
        }
        Some(head) if head.format > VAULT_FORMAT => return Err(Error::NewerFormat),
        Some(head) => {
            let mut next = VaultHead {
                resource_uid: entry.uid.clone(),
                ..head.clone()
            };
            next.rev = head.rev.saturating_add(1);
            next.writes.push(new.write);
            next.under(head.rules.following(&entry.settings))
        }
        None => {
            let mut writes = WriteIds::default();
            writes.push(new.write);
            let rules = VaultRules::of(&entry.settings);
            let head = VaultHead {
                format: FIRST_FORMAT,
                uuid: new.uuid,
                incarnation: new.incarnation,
                rev: 1,
                writes,
                id: entry.id.clone(),
                namespace_uid: entry.namespace_uid.clone(),
                resource_uid: entry.uid.clone(),
                rules,
                wrapped_key: new.wrapped_key.clone(),
                made: new.now,
            };
            head.under(rules)
        }
    };
    Ok(Step::Write {
        head: next,
        reply,
        exempt: head.is_some(),
    })
}
