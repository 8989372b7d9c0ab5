//! A vault's own head: made, deleted, taken up again, purged.

use super::Step;
use crate::engine::Error;
use crate::engine::heads::{FIRST_FORMAT, Incarnation, Purges, VaultHead, WriteId, WriteIds};
use crate::model::{Deletion, Reply, UnixSeconds, VaultEntry, VaultRules, VaultUuid};

/// What a vault is made with.
#[derive(Debug, Clone)]
pub(in crate::engine) struct NewVault {
    pub(in crate::engine) uuid: VaultUuid,
    pub(in crate::engine) incarnation: Incarnation,
    pub(in crate::engine) wrapped_key: Vec<u8>,
}

/// What a change of a vault's head is decided with.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct VaultContext {
    pub(in crate::engine) write: WriteId,
    pub(in crate::engine) now: UnixSeconds,
}

/// Makes the head, or takes up the one that the same name has in the same namespace, deleted or not: its objects and its
/// settings are there again under the new resource. Of the resource's settings it takes over what may change.
pub(in crate::engine) fn ensure_vault(
    head: Option<&VaultHead>,
    entry: &VaultEntry,
    new: &NewVault,
    context: VaultContext,
) -> Result<Step<VaultHead>, Error> {
    let reply = Reply::VaultReady;
    let next = match head {
        Some(head) if head.is_purging() => {
            return Err(Error::VaultIsBeingPurged {
                vault: entry.id.clone(),
            });
        }
        Some(head) if head.is_free() => {
            let receipt = head.following(context.write, context.now)?;
            new_head(entry, new, context).beginning_after(receipt)
        }
        Some(head)
            if head.deleted.is_none()
                && head.resource_uid == entry.uid
                && head.rules.following(&entry.settings) == head.rules =>
        {
            return Ok(Step::Keep(reply));
        }
        Some(head) => {
            let mut next = head.following(context.write, context.now)?;
            next.resource_uid = entry.uid.clone();
            next.deleted = None;
            next.under(head.rules.following(&entry.settings))
        }
        None => new_head(entry, new, context),
    };
    Ok(Step::Write {
        head: next,
        reply,
        exempt: head.is_some_and(|head| !head.is_free()),
    })
}

fn new_head(entry: &VaultEntry, new: &NewVault, context: VaultContext) -> VaultHead {
    let mut writes = WriteIds::default();
    writes.push(context.write);
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
        wrapped_key: Some(new.wrapped_key.clone()),
        made: context.now,
        deleted: None,
        purged: Purges::default(),
    };
    head.under(rules)
}

/// Deletes the vault, if it is still the one whose resource is gone: who applied that again meanwhile has taken it up.
pub(in crate::engine) fn delete_vault(
    head: Option<&VaultHead>,
    gone: &VaultEntry,
    uuid: VaultUuid,
    context: VaultContext,
) -> Result<Step<VaultHead>, Error> {
    let Some(head) = head.filter(|head| {
        head.uuid == uuid && head.resource_uid == gone.uid && head.deleted.is_none() && !head.is_free()
    }) else {
        return Ok(Step::Keep(Reply::NotDue));
    };
    let next = head.following(context.write, context.now)?;
    let deletion = Deletion::new(context.now, head.rules);
    Ok(Step::Write {
        head: next.with_deletion(Some(deletion)),
        reply: Reply::VaultDeleted,
        exempt: true,
    })
}

/// Begins the end of a deleted vault: from here on there is no way back, and [`end_purge_vault`] is to follow. Before its date
/// only what was `ordered` is done, and not where the vault is protected against that.
pub(in crate::engine) fn purge_vault(
    head: Option<&VaultHead>,
    uuid: VaultUuid,
    ordered: bool,
    context: VaultContext,
) -> Result<Step<VaultHead>, Error> {
    let found = head.filter(|head| head.uuid == uuid);
    let Some((head, deleted)) = found.and_then(|head| Some((head, head.deleted?))) else {
        return Ok(Step::Keep(Reply::NotDue));
    };
    if deleted.purging {
        return Ok(Step::Confirm(Reply::Purged));
    }
    if context.now < deleted.purge_due {
        if !ordered {
            return Ok(Step::Keep(Reply::NotDue));
        }
        if head.rules.purge_protection {
            return Err(Error::VaultPurgeProtected);
        }
    }
    let next = head.following(context.write, context.now)?;
    let purging = Deletion {
        purging: true,
        ..deleted
    };
    Ok(Step::Write {
        head: next.with_deletion(Some(purging)),
        reply: Reply::Purged,
        exempt: true,
    })
}

/// Ends what [`purge_vault`] began: nothing is left but the receipt, and the name is free.
pub(in crate::engine) fn end_purge_vault(
    head: Option<&VaultHead>,
    uuid: VaultUuid,
    context: VaultContext,
) -> Result<Step<VaultHead>, Error> {
    let Some(head) = head.filter(|head| head.uuid == uuid && head.is_purging()) else {
        return Ok(Step::Keep(Reply::Purged));
    };
    let next = head.following(context.write, context.now)?;
    Ok(Step::Write {
        head: next.into_receipt(context.now),
        reply: Reply::Purged,
        exempt: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::heads::VAULT_FORMAT;
    use crate::model::{Namespace, Uid, VaultId, VaultName, VaultSettings};

    const DAY: i64 = 86_400;

    fn entry(uid: &str, settings: VaultSettings) -> VaultEntry {
        VaultEntry {
            id: VaultId {
                namespace: Namespace::parse("shop").unwrap(),
                name: VaultName::parse("demo").unwrap(),
            },
            uid: Uid::new(uid),
            namespace_uid: Uid::new("shop-uid"),
            settings,
        }
    }

    fn days(retention_days: u16) -> VaultSettings {
        VaultSettings {
            retention_days: Some(retention_days),
            ..VaultSettings::default()
        }
    }

    fn new(id: u8) -> NewVault {
        NewVault {
            uuid: VaultUuid([id; 16]),
            incarnation: [id; 16],
            wrapped_key: vec![id],
        }
    }

    fn at(id: u8, now: i64) -> VaultContext {
        VaultContext {
            write: WriteId([id; 16]),
            now: UnixSeconds(now),
        }
    }

    fn written(step: Result<Step<VaultHead>, Error>) -> VaultHead {
        match step {
            Ok(Step::Write { head, .. }) => head,
            other => panic!("{other:?}"),
        }
    }

    fn word(step: Result<Step<VaultHead>, Error>) -> String {
        match step {
            Ok(Step::Write { reply, .. }) => format!("writes {reply:?}"),
            Ok(Step::Keep(reply)) => format!("keeps {reply:?}"),
            Ok(Step::Confirm(reply)) => format!("confirms {reply:?}"),
            Err(error) => format!("{error:?}").split([' ', '{']).next().unwrap().to_owned(),
        }
    }

    /// Made at 1000 by resource "one", kept for 7 days.
    fn live() -> VaultHead {
        written(ensure_vault(None, &entry("one", days(7)), &new(1), at(1, 1000)))
    }

    fn deleted() -> VaultHead {
        let gone = entry("one", VaultSettings::default());
        written(delete_vault(
            Some(&live()),
            &gone,
            VaultUuid([1; 16]),
            at(2, 2000),
        ))
    }

    fn protected() -> VaultHead {
        let mut head = deleted();
        head.rules.purge_protection = true;
        head
    }

    fn purging() -> VaultHead {
        let due = 2000 + 7 * DAY;
        written(purge_vault(
            Some(&deleted()),
            VaultUuid([1; 16]),
            false,
            at(3, due),
        ))
    }

    fn receipt() -> VaultHead {
        written(end_purge_vault(Some(&purging()), VaultUuid([1; 16]), at(4, 3000)))
    }

    #[test]
    fn a_vaults_head_is_made_once_and_follows_its_resource() {
        let entry = entry("one", days(30));
        let made = written(ensure_vault(None, &entry, &new(1), at(1, 1000)));
        assert_eq!(
            (made.uuid, made.rev, made.rules.retention_days),
            (VaultUuid([1; 16]), 1, 30)
        );
        let same = ensure_vault(Some(&made), &entry, &new(2), at(2, 1000));
        assert_eq!(word(same), "keeps VaultReady");
        let again = VaultEntry {
            uid: Uid::new("two"),
            settings: days(7),
            ..entry.clone()
        };
        let followed = written(ensure_vault(Some(&made), &again, &new(2), at(2, 1000)));
        let expected = VaultHead {
            rev: 2,
            resource_uid: Uid::new("two"),
            writes: followed.writes.clone(),
            ..made.clone()
        };
        assert_eq!(followed, expected, "key, identity and retention stay");
        let newer = VaultHead {
            format: VAULT_FORMAT + 1,
            ..made
        };
        let refused = ensure_vault(Some(&newer), &again, &new(2), at(2, 1000));
        assert_eq!(refused.unwrap_err(), Error::NewerFormat);
        let kept = ensure_vault(Some(&newer), &entry, &new(2), at(2, 1000));
        assert_eq!(word(kept), "keeps VaultReady");
    }

    #[test]
    fn a_vault_is_deleted_only_while_it_belongs_to_the_resource_that_is_gone() {
        let uuid = VaultUuid([1; 16]);
        let gone = |head: Option<&VaultHead>, uid: &str, uuid| {
            let gone = entry(uid, VaultSettings::default());
            word(delete_vault(head, &gone, uuid, at(9, 5000)))
        };
        for (what, head, uid, uuid, expected) in [
            ("none", None, "one", uuid, "keeps NotDue"),
            ("its own", Some(live()), "one", uuid, "writes VaultDeleted"),
            ("taken up by another", Some(live()), "two", uuid, "keeps NotDue"),
            (
                "another vault",
                Some(live()),
                "one",
                VaultUuid([2; 16]),
                "keeps NotDue",
            ),
            ("deleted", Some(deleted()), "one", uuid, "keeps NotDue"),
            ("being purged", Some(purging()), "one", uuid, "keeps NotDue"),
            ("purged", Some(receipt()), "one", uuid, "keeps NotDue"),
        ] {
            assert_eq!(gone(head.as_ref(), uid, uuid), expected, "{what}");
        }
        let deletion = deleted().deleted.unwrap();
        assert_eq!(deletion.purge_due, UnixSeconds(2000 + 7 * DAY));
    }

    #[test]
    fn a_deleted_vault_comes_back_with_its_resource_and_a_purged_one_begins_anew() {
        let again = entry("two", VaultSettings::default());
        let back = written(ensure_vault(Some(&deleted()), &again, &new(8), at(8, 5000)));
        assert_eq!((back.uuid, back.deleted, back.rev), (VaultUuid([1; 16]), None, 3));
        assert_eq!(back.rules.retention_days, 7, "as it was made");
        assert_eq!(back.wrapped_key, live().wrapped_key);
        let same = entry("one", VaultSettings::default());
        let back = written(ensure_vault(Some(&deleted()), &same, &new(8), at(8, 5000)));
        assert_eq!(back.deleted, None, "also under the same resource");
        let refused = ensure_vault(Some(&purging()), &again, &new(8), at(8, 5000));
        assert_eq!(word(refused), "VaultIsBeingPurged");
        let anew = written(ensure_vault(Some(&receipt()), &again, &new(8), at(8, 5000)));
        assert_eq!(
            (anew.uuid, anew.incarnation, anew.rev),
            (VaultUuid([8; 16]), [8; 16], 5)
        );
        assert_eq!(anew.wrapped_key, Some(vec![8]), "a key of its own");
        assert_eq!(anew.rules.retention_days, 90, "nothing of the former");
        assert_eq!(anew.purged, receipt().purged, "who saw the former is told");
    }

    #[test]
    fn a_deleted_vault_is_purged_at_its_date_or_by_an_order_that_its_protection_allows() {
        let uuid = VaultUuid([1; 16]);
        let due = 2000 + 7 * DAY;
        for (what, head, ordered, now, expected) in [
            ("no vault", None, true, due, "keeps NotDue"),
            ("live", Some(live()), true, due, "keeps NotDue"),
            ("before its date", Some(deleted()), false, due - 1, "keeps NotDue"),
            ("at its date", Some(deleted()), false, due, "writes Purged"),
            ("ordered", Some(deleted()), true, 2001, "writes Purged"),
            (
                "protected",
                Some(protected()),
                true,
                due - 1,
                "VaultPurgeProtected",
            ),
            (
                "protected, not ordered",
                Some(protected()),
                false,
                due - 1,
                "keeps NotDue",
            ),
            (
                "protected, at its date",
                Some(protected()),
                false,
                due,
                "writes Purged",
            ),
            ("begun", Some(purging()), false, 0, "confirms Purged"),
            ("purged", Some(receipt()), true, due, "keeps NotDue"),
        ] {
            let step = purge_vault(head.as_ref(), uuid, ordered, at(9, now));
            assert_eq!(word(step), expected, "{what}");
        }
        let other = purge_vault(Some(&deleted()), VaultUuid([2; 16]), true, at(9, due));
        assert_eq!(word(other), "keeps NotDue", "another life of the name");
    }

    #[test]
    fn a_purge_leaves_a_receipt_without_the_key() {
        let receipt = receipt();
        assert!(receipt.is_free());
        assert_eq!(receipt.wrapped_key, None);
        assert_eq!(receipt.purged.lately.len(), 1);
        for head in [None, Some(live()), Some(deleted()), Some(receipt)] {
            let step = end_purge_vault(head.as_ref(), VaultUuid([1; 16]), at(9, 0));
            assert_eq!(word(step), "keeps Purged");
        }
    }
}
