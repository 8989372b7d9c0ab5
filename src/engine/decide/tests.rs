//! What each operation makes of each state of a name.

use std::collections::BTreeSet;

use super::*;
use crate::engine::heads::{BackedUp, Body, FIRST_FORMAT, PurgedLife, RequestMark, VaultHead, Versions};
use crate::model::{
    Alphabet, AttributesChange, Bypass, DefaultAction, EnsureGeneratedSecret, Kind, Namespace, NetworkAcls,
    NetworkSettings, OutsideValidity, OwnedSecret, Owner, RecoveryLevel, SecretBytes, SetSecret, Tags, Uid,
    UpdateSecret, VaultEntry, VaultId, VaultName, VaultSettings, VaultUuid,
};

const RULES: VaultRules = VaultRules {
    retention_days: 90,
    purge_protection: false,
    outside_validity: OutsideValidity::Deny,
    network: NetworkAcls {
        default_action: DefaultAction::Allow,
        bypass: Bypass::None,
    },
};

pub(in crate::engine) fn context(id: u8) -> Context {
    Context {
        now: UnixSeconds(1000),
        rules: RULES,
        max_versions: 5,
        write: WriteId([id; 16]),
        request: None,
        version: Version([id; 16]),
        incarnation: [id; 16],
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn owner(resource: &str) -> Owner {
    Owner {
        namespace: Namespace::parse("shop").unwrap(),
        namespace_uid: Uid::new("shop-uid"),
        resource: resource.to_owned(),
    }
}

fn set_of(secret: &str) -> SetSecret {
    SetSecret {
        name: name(secret),
        value: SecretBytes::new(b"value".to_vec()),
        content_type: Some("text/plain".to_owned()),
        tags: Tags::from([("k".to_owned(), "v".to_owned())]),
        attributes: AttributesChange::default(),
    }
}

fn update_of(version: Option<Version>) -> UpdateSecret {
    UpdateSecret {
        name: name("a"),
        version,
        content_type: None,
        tags: None,
        attributes: AttributesChange {
            enabled: Some(false),
            ..AttributesChange::default()
        },
    }
}

fn generate_for(resource: &str) -> EnsureGeneratedSecret {
    EnsureGeneratedSecret {
        name: name("a"),
        length: 16,
        alphabet: Alphabet::Hex,
        content_type: None,
        owner: owner(resource),
    }
}

fn seal(place: &BodyPlace<'_>) -> Result<Bytes, Error> {
    Ok(Bytes::from(format!(
        "{}/{}/{}",
        place.name, place.version, place.order
    )))
}

fn written(step: Result<Step<Head>, Error>) -> Head {
    match step.unwrap() {
        Step::Write { head, .. } => head,
        Step::Keep(reply) | Step::Confirm(reply) => panic!("{reply:?}"),
    }
}

/// A head with that many versions, with ids 1, 2, …
fn live_head(versions: u8) -> Head {
    let first = written(set(None, &set_of("a"), &context(1), &seal));
    (2..=versions).fold(first, |head, id| {
        written(set(Some(&head), &set_of("A"), &context(id), &seal))
    })
}

fn deleted_head() -> Head {
    written(delete(Some(&live_head(2)), &name("a"), &context(9)))
}

fn made_head() -> Head {
    written(ensure_generated(None, &generate_for("r"), &context(1), &seal))
}

fn purging_head() -> Head {
    written(purge(Some(&deleted_head()), &name("a"), &context(10)))
}

/// A name that was purged: its head is a receipt and nothing else.
fn free_head() -> Head {
    written(end_purge(Some(&purging_head()), &context(11)))
}

fn backed_up() -> BackedUp {
    BackedUp {
        name: name("A"),
        versions: live_head(3).secret.unwrap().versions,
    }
}

/// What a step does, in a word.
fn word(step: Result<Step<Head>, Error>) -> String {
    match step {
        Ok(Step::Write { head, .. }) => format!("writes rev {}", head.rev),
        Ok(Step::Keep(Reply::Owned(owned))) => format!("keeps {owned:?}"),
        Ok(Step::Confirm(Reply::Owned(owned))) => format!("declines: {owned:?}"),
        Ok(Step::Keep(Reply::Purged)) => "keeps".to_owned(),
        Ok(Step::Confirm(Reply::Purged)) => "confirms".to_owned(),
        Ok(other) => panic!("{other:?}"),
        Err(error) => format!("{error:?}")
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[test]
fn each_operation_has_one_answer_for_each_state_of_a_name() {
    let states = [
        None,
        Some(live_head(2)),
        Some(deleted_head()),
        Some(made_head()),
        Some(purging_head()),
        Some(free_head()),
    ];
    let live = "Live { version: Version([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]) }";
    let keeps = format!("keeps {live}");
    let (missing, not_deleted, busy) = ("SecretNotFound", "DeletedSecretNotFound", "ObjectIsBeingDeleted");
    // For: absent, live with two versions, deleted, made by resource "r", being purged, purged.
    let table: [(&str, [&str; 6]); 12] = [
        (
            "set",
            [
                "writes rev 1",
                "writes rev 3",
                "ObjectIsDeletedButRecoverable",
                "writes rev 2",
                busy,
                "writes rev 6",
            ],
        ),
        (
            "update",
            [missing, "writes rev 3", missing, "writes rev 2", busy, missing],
        ),
        (
            "update of another version",
            [
                missing,
                "SecretVersionNotFound",
                missing,
                "SecretVersionNotFound",
                busy,
                missing,
            ],
        ),
        (
            "delete",
            [missing, "writes rev 3", missing, "writes rev 2", busy, missing],
        ),
        (
            "recover",
            [
                not_deleted,
                not_deleted,
                "writes rev 4",
                not_deleted,
                busy,
                not_deleted,
            ],
        ),
        (
            "purge",
            [
                not_deleted,
                not_deleted,
                "writes rev 4",
                not_deleted,
                "confirms",
                not_deleted,
            ],
        ),
        (
            "end of a purge",
            ["keeps", "keeps", "keeps", "keeps", "writes rev 5", "keeps"],
        ),
        (
            "backup",
            [
                "SecretNotFound",
                "reads",
                "SecretNotFound",
                "reads",
                "SecretNotFound",
                "SecretNotFound",
            ],
        ),
        (
            "restore",
            [
                "writes rev 1",
                "SecretExists",
                "ObjectIsDeletedButRecoverable",
                "SecretExists",
                busy,
                "writes rev 6",
            ],
        ),
        (
            "generate for r",
            [
                "writes rev 1",
                "declines: Foreign",
                "declines: Foreign",
                &keeps,
                "declines: Foreign",
                "writes rev 6",
            ],
        ),
        (
            "delete for r",
            [
                "declines: Absent",
                "declines: Foreign",
                "declines: Foreign",
                "writes rev 2",
                "declines: Foreign",
                "declines: Absent",
            ],
        ),
        (
            "delete for s",
            [
                "declines: Absent",
                "declines: Foreign",
                "declines: Foreign",
                "declines: Foreign",
                "declines: Foreign",
                "declines: Absent",
            ],
        ),
    ];
    for (operation, answers) in table {
        for (state, answer) in states.iter().zip(answers) {
            let head = state.as_ref();
            let context = context(7);
            let step = match operation {
                "set" => set(head, &set_of("a"), &context, &seal),
                "update" => update(head, &update_of(None), &context),
                "update of another version" => update(head, &update_of(Some(Version([0xee; 16]))), &context),
                "delete" => delete(head, &name("a"), &context),
                "recover" => recover(head, &name("a"), &context),
                "purge" => purge(head, &name("a"), &context),
                "end of a purge" => end_purge(head, &context),
                "restore" => restore(head, &backed_up(), &context, &seal),
                "backup" => match backup(head, &name("a")) {
                    Ok(_) => {
                        assert_eq!(answer, "reads");
                        continue;
                    }
                    Err(error) => Err(error),
                },
                "generate for r" => ensure_generated(head, &generate_for("r"), &context, &seal),
                "delete for r" => delete_owned(head, &owner("r"), &context),
                _ => delete_owned(head, &owner("s"), &context),
            };
            assert_eq!(word(step), answer, "{operation} of {head:?}");
        }
    }
}

#[test]
fn only_what_is_deleted_and_not_being_purged_is_shown_as_deleted() {
    let shown =
        |head: Option<&Head>| get_deleted(head, &name("a"), RULES).map(|deleted| deleted.secret.version);
    assert_eq!(shown(Some(&deleted_head())), Ok(Version([2; 16])));
    let missing = Err(Error::DeletedSecretNotFound { name: name("a") });
    for head in [None, Some(live_head(2)), Some(purging_head()), Some(free_head())] {
        assert_eq!(shown(head.as_ref()), missing, "{head:?}");
    }
}

#[test]
fn recovery_brings_back_everything_as_it_was() {
    let before = live_head(3);
    let deleted = written(delete(Some(&before), &name("a"), &context(8)));
    let recovered = written(recover(Some(&deleted), &name("a"), &context(9)));
    assert_eq!(recovered.secret, before.secret);
    assert_eq!(recovered.incarnation, before.incarnation);
    assert_eq!(recovered.rev, before.rev + 2);
}

#[test]
fn a_purged_name_begins_anew_and_its_head_tells_of_the_life_before() {
    let free = free_head();
    assert!(free.is_free());
    assert_eq!(
        free.purged.lately,
        [PurgedLife {
            incarnation: [1; 16],
            at: UnixSeconds(1000)
        }]
    );
    let next = written(set(Some(&free), &set_of("A"), &context(12), &seal));
    assert_eq!(next.incarnation, [12; 16]);
    assert_eq!(next.name.as_written(), "A", "as its new user wrote it");
    assert_eq!(next.purged, free.purged);
    let state = next.secret.unwrap();
    assert_eq!((state.versions.count(), state.versions.newest().order), (1, 1));
    assert_eq!(state.maker, None);
}

#[test]
fn a_restored_secret_has_its_old_versions_sealed_for_its_new_life() {
    let restored = written(restore(Some(&free_head()), &backed_up(), &context(12), &seal));
    assert_eq!(restored.incarnation, [12; 16]);
    assert_eq!(restored.name.as_written(), "A");
    let state = restored.secret.unwrap();
    assert_eq!(state.maker, None);
    let before = backed_up().versions;
    for (old, new) in before.inline().iter().zip(state.versions.inline()) {
        let body = seal(&BodyPlace {
            name: "a",
            incarnation: [12; 16],
            version: old.id,
            order: old.order,
        });
        let expected = VersionEntry {
            body: Body::Inline(body.unwrap()),
            ..VersionEntry::clone(old)
        };
        assert_eq!(**new, expected);
    }
    assert_eq!(state.versions.count(), 3);
}

#[test]
fn receipts_are_kept_for_a_day_and_not_without_end() {
    let mut head = live_head(1);
    for round in 0..40 {
        let context = Context {
            now: UnixSeconds(1000 + round),
            ..context(round as u8)
        };
        let deleted = written(delete(Some(&head), &name("a"), &context));
        let purging = written(purge(Some(&deleted), &name("a"), &context));
        let free = written(end_purge(Some(&purging), &context));
        head = written(set(Some(&free), &set_of("a"), &context, &seal));
    }
    assert_eq!((head.purged.lately.len(), head.purged.before), (16, 24));
    assert_eq!(head.purged.lately.last().unwrap().at, UnixSeconds(1039));
    let at = |now| {
        let context = Context {
            now: UnixSeconds(now),
            ..context(9)
        };
        let head = written(update(Some(&head), &update_of(None), &context));
        (head.purged.lately.len(), head.purged.before)
    };
    assert_eq!(
        [at(1024 + 86_399), at(1024 + 86_400), at(1039 + 86_400)],
        [(16, 24), (15, 25), (0, 40)]
    );
}

#[test]
fn a_deleted_secret_of_a_resource_stays_deleted_for_it() {
    let deleted = written(delete(Some(&made_head()), &name("a"), &context(2)));
    for step in [
        ensure_generated(Some(&deleted), &generate_for("r"), &context(3), &seal),
        delete_owned(Some(&deleted), &owner("r"), &context(3)),
    ] {
        assert_eq!(word(step), "declines: Deleted");
    }
}

#[test]
fn a_change_leaves_all_else_as_it_was() {
    let before = live_head(3);
    let after = written(update(
        Some(&before),
        &update_of(Some(Version([2; 16]))),
        &context(8),
    ));
    assert_eq!(after.rev, before.rev + 1);
    assert_eq!(after.incarnation, before.incarnation);
    assert!(after.writes.contains(&WriteId([8; 16])) && after.writes.contains(&WriteId([1; 16])));
    let versions = |head: &Head| head.secret.as_ref().unwrap().versions.clone();
    for id in [1, 3] {
        assert_eq!(
            versions(&after).get(&Version([id; 16])),
            versions(&before).get(&Version([id; 16]))
        );
    }
    let (old, new) = (versions(&before), versions(&after));
    let (old, new) = (
        old.get(&Version([2; 16])).unwrap().unwrap(),
        new.get(&Version([2; 16])).unwrap().unwrap(),
    );
    assert!(old.enabled && !new.enabled);
    assert_eq!(
        (&new.body, &new.tags, &new.content_type, new.order),
        (&old.body, &old.tags, &old.content_type, old.order)
    );
}

#[test]
fn versions_are_ordered_as_they_were_made_even_if_the_clock_goes_back() {
    let mut head = live_head(1);
    for (id, now) in [(2, 5000), (3, 10), (4, 10)] {
        let context = Context {
            now: UnixSeconds(now),
            ..context(id)
        };
        head = written(set(Some(&head), &set_of("a"), &context, &seal));
    }
    let state = head.secret.as_ref().unwrap();
    let ids = state.versions.before(None).unwrap().map(|entry| entry.id.0[0]);
    let ids: Vec<u8> = ids.collect();
    assert_eq!(ids, [4, 3, 2, 1]);
    assert_eq!(state.versions.newest().id, Version([4; 16]));
}

#[test]
fn every_value_is_sealed_for_its_own_place() {
    let head = live_head(4);
    let secret = head.secret.unwrap();
    let bodies: BTreeSet<_> = secret
        .versions
        .inline()
        .iter()
        .map(|entry| match &entry.body {
            Body::Inline(body) => body.clone(),
            Body::Part(part) => panic!("{part:?}"),
        })
        .collect();
    assert_eq!(bodies.len(), 4);
    assert!(
        bodies.iter().all(|body| body.starts_with(b"a/")),
        "under the folded name: {bodies:?}"
    );
}

#[test]
fn an_object_has_no_more_versions_than_it_may() {
    let full = live_head(5);
    let refusal = set(Some(&full), &set_of("a"), &context(6), &seal).unwrap_err();
    assert_eq!(refusal, Error::TooManyVersions { limit: 5 });
}

#[test]
fn a_head_of_a_newer_format_is_read_and_not_changed() {
    let with_format = |head| Head {
        format: FORMAT + 1,
        ..head
    };
    let newer = with_format(live_head(1));
    assert!(
        get(
            Some(&newer),
            &name("a"),
            None,
            UnixSeconds(1000),
            OutsideValidity::Deny
        )
        .is_ok()
    );
    for step in [
        set(Some(&newer), &set_of("a"), &context(2), &seal),
        update(Some(&newer), &update_of(None), &context(2)),
        delete(Some(&newer), &name("a"), &context(2)),
        recover(Some(&with_format(deleted_head())), &name("a"), &context(2)),
        purge(Some(&with_format(deleted_head())), &name("a"), &context(2)),
        end_purge(Some(&with_format(purging_head())), &context(2)),
        set(Some(&with_format(free_head())), &set_of("a"), &context(2), &seal),
        ensure_generated(
            Some(&with_format(free_head())),
            &generate_for("r"),
            &context(2),
            &seal,
        ),
    ] {
        assert_eq!(step.unwrap_err(), Error::NewerFormat);
    }
}

#[test]
fn a_value_is_disclosed_inside_its_validity_alone() {
    let read = |outside, enabled, not_before: Option<i64>, expires: Option<i64>, now| {
        let mut entry = VersionEntry::clone(live_head(1).secret.unwrap().versions.newest());
        entry.enabled = enabled;
        entry.not_before = not_before.map(UnixSeconds);
        entry.expires = expires.map(UnixSeconds);
        let mut head = live_head(1);
        head.secret.as_mut().unwrap().versions = Versions::first(entry);
        get(Some(&head), &name("a"), None, UnixSeconds(now), outside).map(drop)
    };
    let at =
        |enabled, not_before, expires, now| read(OutsideValidity::Deny, enabled, not_before, expires, now);
    let cases = [
        (at(true, None, None, 50), Ok(())),
        (at(false, None, None, 50), Err(Error::SecretDisabled)),
        (at(true, Some(50), None, 49), Err(Error::SecretNotYetValid)),
        (at(true, Some(50), None, 50), Ok(())),
        (at(true, None, Some(50), 49), Ok(())),
        (at(true, None, Some(50), 50), Err(Error::SecretExpired)),
        (at(true, Some(60), Some(50), 55), Err(Error::SecretNotYetValid)),
        (at(false, Some(60), Some(50), 55), Err(Error::SecretDisabled)),
    ];
    for (i, (found, expected)) in cases.into_iter().enumerate() {
        assert_eq!(found, expected, "case {i}");
    }
    let allowed =
        |enabled, not_before, expires| read(OutsideValidity::Allow, enabled, not_before, expires, 50);
    assert_eq!(allowed(true, Some(60), None), Ok(()));
    assert_eq!(allowed(true, None, Some(40)), Ok(()));
    assert_eq!(allowed(false, None, None), Err(Error::SecretDisabled));
    let missing = get(
        Some(&live_head(1)),
        &name("A"),
        Some(Version([9; 16])),
        UnixSeconds(0),
        OutsideValidity::Deny,
    )
    .unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

#[test]
fn deletion_is_due_for_purge_after_the_vaults_retention() {
    let context = Context {
        rules: VaultRules {
            retention_days: 7,
            ..RULES
        },
        ..context(2)
    };
    let step = delete(Some(&live_head(2)), &name("a"), &context).unwrap();
    let Step::Write {
        reply: Reply::Deleted(deleted),
        exempt: true,
        ..
    } = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(deleted.scheduled_purge, UnixSeconds(1000 + 7 * 86_400));
    assert_eq!(
        deleted.secret.attributes.recovery_level,
        RecoveryLevel::CustomizedRecoverablePurgeable
    );
    assert_eq!(deleted.secret.version, Version([2; 16]));
}

/// A change that a client asked for under request id `request`.
fn asked(id: u8, request: u8) -> Context {
    Context {
        request: Some(RequestMark([request; 16])),
        ..context(id)
    }
}

#[test]
fn a_repeated_request_is_told_what_came_of_the_first_and_writes_nothing() {
    fn kept(step: Result<Step<Head>, Error>) -> Reply {
        match step {
            Ok(Step::Keep(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }
    let later = |context: Context| Context {
        now: UnixSeconds(1200),
        ..context
    };
    // The set is told its version, as it was made, whatever became of the secret since.
    let made = written(set(Some(&live_head(1)), &set_of("a"), &asked(7, 1), &seal));
    let updated = written(update(Some(&made), &update_of(None), &asked(8, 2)));
    let deleted = written(delete(Some(&updated), &name("a"), &asked(9, 3)));
    let purging = written(purge(Some(&deleted), &name("a"), &asked(10, 4)));
    let free = written(end_purge(Some(&purging), &asked(11, 4)));
    for head in [&made, &updated, &deleted, &purging, &free] {
        let Reply::Secret(told) = kept(set(Some(head), &set_of("a"), &later(asked(20, 1)), &seal)) else {
            panic!()
        };
        assert_eq!(told.version, Version([7; 16]));
        assert_eq!(
            (
                told.attributes.created,
                told.attributes.enabled,
                told.content_type.as_deref()
            ),
            (UnixSeconds(1000), true, Some("text/plain"))
        );
    }
    for head in [&updated, &deleted] {
        let Reply::Secret(told) = kept(update(Some(head), &update_of(None), &later(asked(20, 2)))) else {
            panic!()
        };
        assert_eq!((told.version, told.attributes.enabled), (Version([7; 16]), false));
    }
    for head in [&deleted, &purging] {
        let Reply::Deleted(told) = kept(delete(Some(head), &name("a"), &later(asked(20, 3)))) else {
            panic!()
        };
        assert_eq!(told.deleted, UnixSeconds(1000));
    }
    for head in [&purging, &free] {
        assert!(matches!(
            kept(purge(Some(head), &name("a"), &later(asked(20, 4)))),
            Reply::Purged
        ));
    }
    let recovered = written(recover(Some(&deleted), &name("a"), &asked(12, 5)));
    let restored = written(restore(Some(&free), &backed_up(), &asked(13, 6), &seal));
    let told = [
        kept(recover(Some(&recovered), &name("a"), &later(asked(20, 5)))),
        kept(restore(
            Some(&restored),
            &backed_up(),
            &later(asked(20, 6)),
            &seal,
        )),
    ];
    assert!(told.iter().all(|reply| matches!(reply, Reply::Secret(_))));

    // Another request, none, or one of long ago is done.
    let long_ago = Context {
        now: UnixSeconds(1300),
        ..asked(20, 1)
    };
    for context in [asked(20, 9), context(20), long_ago] {
        assert_eq!(
            word(set(Some(&made), &set_of("a"), &context, &seal)),
            "writes rev 3"
        );
    }
}

const VAULT_CONTEXT: VaultContext = VaultContext {
    write: WriteId([7; 16]),
    now: UnixSeconds(1000),
};

#[test]
fn a_vaults_rules_follow_its_resource_and_an_older_writer_must_not_forget_them() {
    let entry = |purge_protection, outside_validity| VaultEntry {
        id: VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        },
        uid: Uid::new("one"),
        namespace_uid: Uid::new("shop-uid"),
        settings: VaultSettings {
            retention_days: None,
            purge_protection,
            outside_validity,
            network: NetworkSettings::default(),
        },
    };
    let new = |id: u8| NewVault {
        uuid: VaultUuid([id; 16]),
        incarnation: [id; 16],
        wrapped_key: vec![id],
    };
    let step = |head: Option<&VaultHead>, entry: &VaultEntry| match ensure_vault(
        head,
        entry,
        &new(7),
        VAULT_CONTEXT,
    )
    .unwrap()
    {
        Step::Write { head, .. } => Some(head),
        Step::Keep(_) => None,
        Step::Confirm(reply) => panic!("{reply:?}"),
    };
    let plain = step(None, &entry(None, None)).unwrap();
    assert_eq!((plain.format, plain.rules), (1, RULES));
    let protected = step(Some(&plain), &entry(Some(true), None)).unwrap();
    assert_eq!((protected.format, protected.rev), (2, 2));
    assert!(protected.rules.purge_protection);
    assert!(
        step(Some(&protected), &entry(Some(false), None)).is_none(),
        "a ratchet"
    );
    assert!(step(Some(&protected), &entry(None, None)).is_none());
    let open = step(Some(&protected), &entry(None, Some(OutsideValidity::Allow))).unwrap();
    assert!(open.rules.purge_protection && open.rules.outside_validity == OutsideValidity::Allow);
    let closed = step(Some(&open), &entry(None, Some(OutsideValidity::Deny))).unwrap();
    assert_eq!(closed.rules, protected.rules);
    let made_so = step(None, &entry(Some(true), Some(OutsideValidity::Allow))).unwrap();
    assert_eq!((made_so.format, made_so.rules), (2, open.rules));
}

#[test]
fn purge_protection_holds_up_a_purge_that_has_not_begun() {
    let protected = Context {
        rules: VaultRules {
            purge_protection: true,
            ..RULES
        },
        ..context(7)
    };
    let purged = |head: &Head| word(purge(Some(head), &name("a"), &protected));
    assert_eq!(purged(&deleted_head()), "PurgeProtected");
    assert_eq!(purged(&purging_head()), "confirms");
    assert_eq!(purged(&live_head(1)), "DeletedSecretNotFound");
    assert_eq!(word(end_purge(Some(&purging_head()), &protected)), "writes rev 5");
    assert_eq!(
        word(recover(Some(&deleted_head()), &name("a"), &protected)),
        "writes rev 4"
    );
}

#[test]
fn a_vaults_head_keeps_from_where_it_may_be_called_until_a_resource_says_otherwise() {
    const OF_NETWORK: u32 = 3;
    let entry = |uid: &str, default_action, bypass| VaultEntry {
        id: VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        },
        uid: Uid::new(uid),
        namespace_uid: Uid::new("shop-uid"),
        settings: VaultSettings {
            network: NetworkSettings {
                default_action,
                bypass,
            },
            ..VaultSettings::default()
        },
    };
    let new = NewVault {
        uuid: VaultUuid([1; 16]),
        incarnation: [1; 16],
        wrapped_key: vec![1],
    };
    let mut head: Option<VaultHead> = None;
    // Each asks for what the vault is after the one before: (resource, says) -> (written, head)
    for (uid, action, bypass, written, denies, volumes, format) in [
        ("one", None, None, true, false, false, FIRST_FORMAT),
        (
            "one",
            Some(DefaultAction::Allow),
            None,
            false,
            false,
            false,
            FIRST_FORMAT,
        ),
        (
            "one",
            Some(DefaultAction::Deny),
            None,
            true,
            true,
            false,
            OF_NETWORK,
        ),
        (
            "one",
            Some(DefaultAction::Deny),
            None,
            false,
            true,
            false,
            OF_NETWORK,
        ),
        // What is no longer said stays, and so for whoever comes after it under its name.
        ("one", None, None, false, true, false, OF_NETWORK),
        ("two", None, None, true, true, false, OF_NETWORK),
        ("two", None, Some(Bypass::Volumes), true, true, true, OF_NETWORK),
        ("three", None, None, true, true, true, OF_NETWORK),
        (
            "three",
            Some(DefaultAction::Allow),
            Some(Bypass::None),
            true,
            false,
            false,
            OF_NETWORK,
        ),
    ] {
        let step = ensure_vault(head.as_ref(), &entry(uid, action, bypass), &new, VAULT_CONTEXT).unwrap();
        let next = match step {
            Step::Write { head, .. } => Some(head),
            Step::Keep(_) => None,
            Step::Confirm(reply) => panic!("{reply:?}"),
        };
        assert_eq!(next.is_some(), written, "{uid} {action:?} {bypass:?}");
        let now = next.or(head).unwrap();
        let expected = NetworkAcls {
            default_action: if denies {
                DefaultAction::Deny
            } else {
                DefaultAction::Allow
            },
            bypass: if volumes { Bypass::Volumes } else { Bypass::None },
        };
        assert_eq!(
            (now.rules.network, now.format),
            (expected, format),
            "{uid} {action:?} {bypass:?}"
        );
        head = Some(now);
    }
    let closed = ensure_vault(
        None,
        &entry("one", Some(DefaultAction::Deny), None),
        &new,
        VAULT_CONTEXT,
    )
    .unwrap();
    assert!(
        matches!(&closed, Step::Write { head, .. } if head.rules.network.denies() && head.format == OF_NETWORK),
        "closed from its first moment"
    );
}

#[test]
fn a_maker_is_known_by_the_uid_of_its_namespace() {
    let recycled = Owner {
        namespace_uid: Uid::new("another"),
        ..owner("r")
    };
    assert_eq!(owned_state(Some(&made_head()), &recycled), OwnedSecret::Foreign);
    assert!(matches!(
        owned_state(Some(&made_head()), &owner("r")),
        OwnedSecret::Live { .. }
    ));
}

#[test]
fn a_fence_changes_nothing_but_that_it_follows_and_leaves_a_receipt_where_nothing_is() {
    let fenced = |head: Option<&Head>, now| {
        let context = Context {
            now: UnixSeconds(now),
            ..context(2)
        };
        written(fence(head, &name("a"), &context))
    };
    for head in [live_head(2), deleted_head(), purging_head()] {
        let after = fenced(Some(&head), 1_000);
        let as_before = Head {
            rev: head.rev,
            writes: head.writes.clone(),
            ..after.clone()
        };
        assert_eq!((after.rev, as_before), (head.rev + 1, head));
    }
    // A receipt goes by the purges that it tells of: one that tells of none any more would never go.
    let receipts = [
        fenced(None, 1_000),
        fenced(Some(&free_head()), 1_000),
        fenced(Some(&free_head()), 1_000_000),
    ];
    for receipt in receipts {
        assert!(
            receipt.is_free() && receipt.purged.lately.len() == 1,
            "{receipt:?}"
        );
    }
}
