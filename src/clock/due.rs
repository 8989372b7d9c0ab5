//! What is due: pure decisions of what is kept, what is declared, and the moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gate::{Declared, Kept};
use crate::model::{DeclaredVaults, Moment, ObjectName, StoredVault, UnixSeconds, VaultId, VaultUuid};

/// For how long it is announced that something is due before it goes.
const ANNOUNCED_FOR: Duration = Duration::from_hours(1);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Errand {
    /// Its resource is gone.
    Delete(StoredVault),
    /// Its date has come, or its purge was `ordered`.
    Purge { vault: StoredVault, ordered: bool },
}

/// What is due of vaults.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) errands: Vec<Errand>,
    /// Vaults whose resources are gone and that are not deleted yet, since too many went at once.
    pub(super) waiting: usize,
}

/// How far the clock may go.
pub(super) struct Limits<'a> {
    /// How many more vaults may be deleted now.
    pub(super) left: &'a (dyn Fn(&[StoredVault]) -> usize + Sync),
    /// After this long every replica knows what was changed, or answers nobody.
    pub(super) staleness_bound: Duration,
}

/// Since when it is known that something is due. Whoever becomes the leader begins anew: it goes later then, not sooner.
#[derive(Debug, Default)]
pub(super) struct Announced {
    vaults: HashMap<VaultUuid, Instant>,
    /// Since when it is known that a vault is deleted.
    deleted: HashMap<VaultUuid, Instant>,
    secrets: HashMap<(VaultId, Arc<str>), Instant>,
}

/// What is due of vaults.
pub(super) fn vaults(
    kept: &[Kept],
    declared: &DeclaredVaults,
    limits: &Limits<'_>,
    announced: &mut Announced,
    now: Moment,
) -> Due {
    let due = |vault: &StoredVault| {
        let deletion = vault.deletion.filter(|deletion| !deletion.purging);
        deletion.is_some_and(|deletion| has_come(deletion.purge_due, declared, now))
    };
    let before = std::mem::take(&mut announced.vaults);
    let deleted = std::mem::take(&mut announced.deleted);
    let mut errands = Vec::new();
    for Kept { vault, .. } in kept {
        let Some(deletion) = vault.deletion else { continue };
        let ordered = !vault.rules.purge_protection && declared.purges.contains(&vault.deleted_name());
        let known = deleted.get(&vault.uuid).copied().unwrap_or(now.monotonic);
        announced.deleted.insert(vault.uuid, known);
        // Until then a replica may take the vault for live, and say of a write that it was made.
        let all_know = now.monotonic.saturating_duration_since(known) >= limits.staleness_bound;
        let mut purge = deletion.purging || ordered && all_know;
        if due(vault) {
            let since = before.get(&vault.uuid).copied().unwrap_or(now.monotonic);
            announced.vaults.insert(vault.uuid, since);
            purge |= is_long(since, now);
        }
        if purge {
            let vault = vault.clone();
            errands.push(Errand::Purge { vault, ordered });
        }
    }
    let gone: Vec<_> = kept.iter().filter(|kept| is_gone(kept, declared)).collect();
    let stored: Vec<_> = kept.iter().map(|kept| kept.vault.clone()).collect();
    let left = (limits.left)(&stored);
    errands.extend(
        gone.iter()
            .take(left)
            .map(|kept| Errand::Delete(kept.vault.clone())),
    );
    Due {
        errands,
        waiting: gone.len().saturating_sub(left),
    }
}

/// Deleted secrets that are to go, of those whose date has come by our clock.
pub(super) fn secrets(
    due: Vec<(VaultId, ObjectName)>,
    declared: &DeclaredVaults,
    announced: &mut Announced,
    now: Moment,
) -> Vec<(VaultId, ObjectName)> {
    let before = std::mem::take(&mut announced.secrets);
    // Their own dates are compared with our clock alone; should that be ahead of the API server's, nothing goes.
    if !has_come(now.wall, declared, now) {
        return Vec::new();
    }
    let mut go = Vec::new();
    for (vault, name) in due {
        let key = (vault.clone(), Arc::from(name.folded()));
        let since = before.get(&key).copied().unwrap_or(now.monotonic);
        if is_long(since, now) {
            go.push((vault, name));
        }
        announced.secrets.insert(key, since);
    }
    go
}

/// How far our clock may be ahead of the API server's, in seconds: both are cut to whole seconds, and one was read first.
const AHEAD: i64 = 30;

/// Whether a date has come by both clocks.
const fn has_come(date: UnixSeconds, declared: &DeclaredVaults, now: Moment) -> bool {
    date.0 <= now.wall.0 && date.0 <= declared.now.plus(AHEAD).0
}

fn is_long(since: Instant, now: Moment) -> bool {
    now.monotonic.saturating_duration_since(since) >= ANNOUNCED_FOR
}

/// Whether a live vault has no resource any more, by the world and by the list.
fn is_gone(kept: &Kept, declared: &DeclaredVaults) -> bool {
    let Kept {
        vault,
        declared: world,
    } = kept;
    if vault.deletion.is_some() || !declared.established || *world == Declared::Yes {
        return false;
    }
    let by_name = declared.vaults.get(&vault.id);
    // A resource of that name that the world does not know yet may be in the same namespace.
    by_name.is_none_or(|uid| *uid != vault.resource_uid && *world == Declared::Elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deletion, Namespace, Uid, VaultName, VaultRules, VaultSettings};

    const NOW: i64 = 10_000_000;

    fn stored(number: u8, deletion: Option<(i64, bool)>) -> StoredVault {
        StoredVault {
            uuid: VaultUuid([number; 16]),
            id: VaultId {
                namespace: Namespace::parse("shop").unwrap(),
                name: VaultName::parse(&format!("vault{number}")).unwrap(),
            },
            namespace_uid: Uid::new("n"),
            resource_uid: Uid::new(&format!("r{number}")),
            rules: VaultRules::of(&VaultSettings::default()),
            secrets: 1,
            deletion: deletion.map(|(due, purging)| Deletion {
                at: UnixSeconds(1),
                purge_due: UnixSeconds(due),
                purging,
            }),
        }
    }

    fn kept(vault: StoredVault, declared: Declared) -> Kept {
        Kept { vault, declared }
    }

    fn list(vaults: &[(u8, &str)]) -> DeclaredVaults {
        DeclaredVaults {
            established: true,
            vaults: vaults
                .iter()
                .map(|(number, uid)| (stored(*number, None).id, Uid::new(uid)))
                .collect(),
            purges: std::collections::HashSet::new(),
            now: UnixSeconds(NOW),
        }
    }

    const THREE: &Limits<'static> = &Limits {
        left: &|_| 3,
        staleness_bound: Duration::from_mins(5),
    };

    fn moment(wall: i64, monotonic: Instant) -> Moment {
        Moment {
            wall: UnixSeconds(wall),
            nanos: 0,
            monotonic,
        }
    }

    fn word(due: &Due) -> String {
        let word = |errand: &Errand| match errand {
            Errand::Delete(vault) => format!("delete {}", vault.id.name),
            Errand::Purge { vault, ordered } if *ordered => format!("purge {} as ordered", vault.id.name),
            Errand::Purge { vault, .. } => format!("purge {}", vault.id.name),
        };
        let words: Vec<_> = due.errands.iter().map(word).collect();
        words.join(", ")
    }

    #[test]
    fn only_a_vault_without_a_resource_by_world_and_list_is_deleted() {
        let not_established = DeclaredVaults {
            established: false,
            ..list(&[])
        };
        for (what, vault, world, listed, expected) in [
            ("gone", stored(1, None), Declared::No, list(&[]), "delete vault1"),
            ("the world has it", stored(1, None), Declared::Yes, list(&[]), ""),
            (
                "the list has it",
                stored(1, None),
                Declared::No,
                list(&[(1, "r1")]),
                "",
            ),
            (
                "applied again",
                stored(1, None),
                Declared::No,
                list(&[(1, "new")]),
                "",
            ),
            (
                "another namespace's of the same name",
                stored(1, None),
                Declared::Elsewhere,
                list(&[(1, "new")]),
                "delete vault1",
            ),
            (
                "its own, while the world lags",
                stored(1, None),
                Declared::Elsewhere,
                list(&[(1, "r1")]),
                "",
            ),
            (
                "the kind itself is gone",
                stored(1, None),
                Declared::No,
                not_established,
                "",
            ),
            (
                "deleted",
                stored(1, Some((NOW + 1, false))),
                Declared::No,
                list(&[]),
                "",
            ),
        ] {
            let at = moment(NOW, Instant::now());
            let due = vaults(
                &[kept(vault, world)],
                &listed,
                THREE,
                &mut Announced::default(),
                at,
            );
            assert_eq!(word(&due), expected, "{what}");
            assert_eq!(due.waiting, 0, "{what}");
        }
    }

    #[test]
    fn when_all_resources_go_at_once_as_many_vaults_are_deleted_as_may_be_and_the_others_wait() {
        let all: Vec<_> = (1..=8).map(|n| kept(stored(n, None), Declared::No)).collect();
        let at = moment(NOW, Instant::now());
        let due = vaults(&all, &list(&[]), THREE, &mut Announced::default(), at);
        assert_eq!(word(&due), "delete vault1, delete vault2, delete vault3");
        assert_eq!(due.waiting, 5);
    }

    #[test]
    fn a_deleted_vault_goes_an_hour_after_its_date_was_seen_to_have_come() {
        let began = Instant::now();
        let mut announced = Announced::default();
        let mut at = |due: i64, wall: i64, minutes: u64| {
            let all = [kept(stored(1, Some((due, false))), Declared::No)];
            let now = moment(wall, began + Duration::from_mins(minutes));
            let declared = DeclaredVaults {
                now: UnixSeconds(wall),
                ..list(&[])
            };
            word(&vaults(&all, &declared, THREE, &mut announced, now))
        };
        assert_eq!(at(NOW, NOW - 1, 0), "", "before");
        assert_eq!(at(NOW, NOW, 1), "", "announced");
        assert_eq!(
            at(NOW, NOW + 10_000, 60),
            "",
            "59 minutes of it, whatever the wall clock says"
        );
        assert_eq!(at(NOW, NOW + 10_000, 61), "purge vault1");
        assert_eq!(at(NOW, NOW - 1, 62), "", "the clock was set back");
        assert_eq!(at(NOW, NOW, 120), "", "and it is announced anew");
    }

    #[test]
    fn a_clock_that_has_jumped_ahead_of_the_api_servers_purges_nothing() {
        let mut announced = Announced::default();
        let began = Instant::now();
        let all = [kept(stored(1, Some((NOW + 3600, false))), Declared::No)];
        let name = ObjectName::parse("a").unwrap();
        let secret = || vec![(stored(2, None).id, name.clone())];
        for hours in 0..5 {
            let now = moment(NOW + 4000, began + Duration::from_hours(hours));
            assert_eq!(word(&vaults(&all, &list(&[]), THREE, &mut announced, now)), "");
            assert!(secrets(secret(), &list(&[]), &mut announced, now).is_empty());
        }
        let agree = DeclaredVaults {
            now: UnixSeconds(NOW + 4000),
            ..list(&[])
        };
        for (hours, purges) in [(5, 0), (6, 1)] {
            let now = moment(NOW + 4000, began + Duration::from_hours(hours));
            assert_eq!(
                vaults(&all, &agree, THREE, &mut announced, now).errands.len(),
                purges
            );
            assert_eq!(secrets(secret(), &agree, &mut announced, now).len(), purges);
        }
    }

    #[test]
    fn an_order_purges_what_is_not_protected_once_all_know_of_its_deletion_and_what_was_begun_is_ended() {
        let mut protected = stored(2, Some((NOW + 1, false)));
        protected.rules.purge_protection = true;
        let all = [
            kept(stored(1, Some((NOW + 1, false))), Declared::No),
            kept(protected, Declared::No),
            kept(stored(3, Some((NOW + 1, false))), Declared::No),
            kept(stored(4, Some((NOW + 1, true))), Declared::No),
            kept(stored(5, None), Declared::Yes),
        ];
        let ordered = [1, 2, 5].map(|number| stored(number, None).deleted_name());
        let declared = DeclaredVaults {
            purges: ordered.into(),
            ..list(&[(5, "r5")])
        };
        let (mut announced, began) = (Announced::default(), Instant::now());
        for (minutes, expected) in [
            (0, "purge vault4"),
            (4, "purge vault4"),
            (5, "purge vault1 as ordered, purge vault4"),
        ] {
            let at = moment(NOW, began + Duration::from_mins(minutes));
            let due = vaults(&all, &declared, THREE, &mut announced, at);
            assert_eq!(word(&due), expected, "{minutes}");
        }
    }
}
