//! Whether a state of a record may follow the one that was seen last: a pure decision.

use crate::engine::Damage;
use crate::engine::heads::{Head, Incarnation, PurgedLife, VaultHead, WriteId};
use crate::store::Stamp;

/// What decides whether a state may follow another.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    incarnation: Incarnation,
    rev: u64,
    newest: Option<WriteId>,
    /// Lives of the name that were purged, as far as this state is their receipt.
    purged: &'a [PurgedLife],
    /// How many were purged before those.
    purged_before: u64,
    /// Whether it is a receipt and nothing else, which is removed once it is old.
    over: bool,
}

impl<'a> Life<'a> {
    pub(super) fn of_vault(head: &'a VaultHead) -> Self {
        Self {
            incarnation: head.incarnation,
            rev: head.rev,
            newest: head.writes.newest(),
            purged: &head.purged.lately,
            purged_before: head.purged.before,
            over: head.is_free(),
        }
    }

    pub(super) fn of_object(head: &'a Head) -> Self {
        Self {
            incarnation: head.incarnation,
            rev: head.rev,
            newest: head.writes.newest(),
            purged: &head.purged.lately,
            purged_before: head.purged.before,
            over: head.is_free(),
        }
    }

    fn knows_purge_of(&self, life: Incarnation) -> bool {
        self.purged.iter().any(|purged| purged.incarnation == life)
    }

    /// The how manieth life of its record this is.
    fn number(&self) -> u64 {
        let purged = self.purged_before.saturating_add(self.purged.len() as u64);
        purged.saturating_sub(u64::from(self.over))
    }

    /// Whether that life's purge is among those that are counted and no longer listed: so it is for whoever saw it and nothing
    /// since.
    fn counts_purge_of(&self, life: &Life<'_>) -> bool {
        life.number() < self.purged_before
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A state that was passed already.
    Old,
    Follows,
    Refused(Damage),
}

/// Whether a state that the store gave this stamp may follow what was seen last.
pub(super) fn judge(seen: (&Stamp, Life<'_>), stamp: &Stamp, life: Life<'_>) -> Verdict {
    let (seen_stamp, seen) = seen;
    let made_anew = seen.over && stamp.uid != seen_stamp.uid;
    if stamp.revision <= seen_stamp.revision {
        Verdict::Old
    } else if made_anew && life.incarnation != seen.incarnation && !seen.knows_purge_of(life.incarnation) {
        // The old receipt was removed, and the name begins again.
        Verdict::Follows
    } else if life.incarnation != seen.incarnation
        && !life.knows_purge_of(seen.incarnation)
        && !life.counts_purge_of(&seen)
    {
        Verdict::Refused(Damage::Replaced)
    } else if life.rev > seen.rev || (life.rev == seen.rev && life.newest == seen.newest) {
        Verdict::Follows
    } else {
        Verdict::Refused(Damage::RolledBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uid;

    fn life(incarnation: u8, rev: u64, write: u8) -> Life<'static> {
        Life {
            incarnation: [incarnation; 16],
            rev,
            newest: Some(WriteId([write; 16])),
            purged: &[],
            purged_before: 0,
            over: false,
        }
    }

    fn with<'a>(life: Life<'a>, purged: &'a [PurgedLife]) -> Life<'a> {
        Life { purged, ..life }
    }

    fn over<'a>(life: Life<'a>, purged: &'a [PurgedLife]) -> Life<'a> {
        Life {
            over: true,
            purged,
            ..life
        }
    }

    fn after(purged_before: u64, life: Life<'_>) -> Life<'_> {
        Life {
            purged_before,
            ..life
        }
    }

    fn stamp(uid: &str, revision: u64) -> Stamp {
        Stamp {
            uid: Uid::new(uid),
            revision,
        }
    }

    const REFUSED: fn(Damage) -> Verdict = Verdict::Refused;

    #[test]
    fn a_state_follows_only_what_it_grew_from() {
        let cases = [
            (stamp("a", 11), life(1, 6, 6), Verdict::Follows),
            (stamp("a", 19), life(1, 40, 40), Verdict::Follows),
            (stamp("b", 11), life(1, 6, 6), Verdict::Follows),
            (stamp("a", 11), life(1, 5, 5), Verdict::Follows),
            (stamp("a", 11), life(1, 5, 9), REFUSED(Damage::RolledBack)),
            (stamp("a", 11), life(1, 4, 4), REFUSED(Damage::RolledBack)),
            (stamp("a", 11), life(2, 6, 6), REFUSED(Damage::Replaced)),
            (stamp("a", 10), life(1, 5, 5), Verdict::Old),
            (stamp("a", 9), life(1, 4, 4), Verdict::Old),
            (stamp("a", 9), life(2, 9, 9), Verdict::Old),
        ];
        for (stamp_now, now, expected) in cases {
            let found = judge((&stamp("a", 10), life(1, 5, 5)), &stamp_now, now);
            assert_eq!(found, expected, "{stamp_now:?} rev {}", now.rev);
        }
    }

    #[test]
    fn another_life_follows_where_its_head_tells_of_the_purge_of_the_one_before() {
        let one = |incarnation: u8| PurgedLife {
            incarnation: [incarnation; 16],
            at: crate::model::UnixSeconds(0),
        };
        let (purged_1, purged_both) = ([one(1)], [one(1), one(2)]);
        // What was seen (under UID "a" at revision 10), what comes at 11 under which UID, and what of it.
        let cases = [
            (
                "the next life",
                life(1, 5, 5),
                "a",
                with(life(2, 9, 9), &purged_1[..]),
                Verdict::Follows,
            ),
            (
                "the next but one",
                life(1, 5, 5),
                "a",
                with(life(3, 20, 9), &purged_both),
                Verdict::Follows,
            ),
            (
                "a life that went back",
                life(1, 5, 5),
                "a",
                with(life(2, 4, 9), &purged_1),
                REFUSED(Damage::RolledBack),
            ),
            (
                "a life before the last",
                life(2, 5, 5),
                "a",
                with(life(3, 9, 9), &purged_1),
                REFUSED(Damage::Replaced),
            ),
            (
                "a life whose receipt is counted and no longer listed",
                with(life(7, 30, 5), &purged_both),
                "a",
                after(9, with(life(9, 90, 9), &purged_both)),
                Verdict::Follows,
            ),
            (
                "a life that would have to be listed",
                after(9, with(life(7, 30, 5), &purged_1)),
                "a",
                after(9, with(life(9, 90, 9), &purged_both)),
                REFUSED(Damage::Replaced),
            ),
            (
                "a life that went back, whatever is counted",
                life(7, 91, 5),
                "a",
                after(9, with(life(9, 90, 9), &purged_both)),
                REFUSED(Damage::RolledBack),
            ),
            (
                "after the receipt, in place",
                over(life(1, 5, 5), &purged_1),
                "a",
                with(life(2, 6, 6), &purged_1),
                Verdict::Follows,
            ),
            (
                "after the receipt was removed",
                over(life(1, 5, 5), &purged_1),
                "b",
                life(2, 1, 1),
                Verdict::Follows,
            ),
            (
                "a purged life, brought back",
                over(life(1, 5, 5), &purged_1),
                "a",
                life(1, 4, 4),
                REFUSED(Damage::RolledBack),
            ),
            (
                "the same, under another UID",
                over(life(1, 5, 5), &purged_1),
                "b",
                life(1, 4, 4),
                REFUSED(Damage::RolledBack),
            ),
            (
                "an older purged life",
                over(life(2, 9, 9), &purged_both),
                "b",
                life(1, 4, 4),
                REFUSED(Damage::Replaced),
            ),
        ];
        for (what, seen, uid, now, expected) in cases {
            assert_eq!(
                judge((&stamp("a", 10), seen), &stamp(uid, 11), now),
                expected,
                "{what}"
            );
        }
    }
}
