//! Heads written down and read again.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Bypass, DefaultAction, Deletion, Namespace, NetworkAcls, ObjectName, OutsideValidity, Owner, Uid,
    UnixSeconds, VaultId, VaultName, VaultRules, VaultUuid, Version,
};

fn seconds() -> impl Strategy<Value = UnixSeconds> {
    any::<i64>().prop_map(UnixSeconds)
}

fn write_ids() -> impl Strategy<Value = WriteIds> {
    vec(any::<[u8; 16]>(), 0..40).prop_map(|ids| {
        let mut writes = WriteIds::default();
        ids.into_iter().for_each(|id| writes.push(WriteId(id)));
        writes
    })
}

fn entry() -> impl Strategy<Value = VersionEntry> {
    let dates = (option::of(seconds()), option::of(seconds()), seconds(), seconds());
    let texts = (option::of(".{0,40}"), btree_map(".{0,10}", ".{0,10}", 0..4));
    (
        any::<[u8; 16]>(),
        any::<bool>(),
        dates,
        texts,
        vec(any::<u8>(), 0..80),
    )
        .prop_map(
            |(id, enabled, (not_before, expires, created, updated), (content_type, tags), body)| {
                VersionEntry {
                    id: Version(id),
                    order: 0,
                    enabled,
                    not_before,
                    expires,
                    created,
                    updated,
                    content_type: content_type.map(Arc::from),
                    tags: Arc::new(tags),
                    body: Body::Inline(Bytes::from(body)),
                }
            },
        )
}

fn deleted() -> impl Strategy<Value = Deletion> {
    (seconds(), seconds(), any::<bool>()).prop_map(|(at, purge_due, purging)| Deletion {
        at,
        purge_due,
        purging,
    })
}

fn purges() -> impl Strategy<Value = Purges> {
    let lately = vec((any::<[u8; 16]>(), seconds()), 0..4);
    (lately, any::<u64>()).prop_map(|(lately, before)| Purges {
        lately: lately
            .into_iter()
            .map(|(incarnation, at)| PurgedLife { incarnation, at })
            .collect(),
        before,
    })
}

fn secret() -> impl Strategy<Value = SecretState> {
    let deleted = option::of(deleted());
    let maker = option::of(("[a-z]{1,63}", ".{0,36}", "[a-z.]{1,80}").prop_map(
        |(namespace, uid, resource)| Owner {
            namespace: Namespace::parse(&namespace).unwrap(),
            namespace_uid: Uid::new(&uid),
            resource,
        },
    ));
    (vec(entry(), 1..6), 0..u64::MAX - 10, deleted, maker).prop_filter_map(
        "ids are distinct",
        |(entries, first, deleted, maker)| {
            let entries = entries.into_iter().zip(first..);
            let entries = entries
                .map(|(entry, order)| Arc::new(VersionEntry { order, ..entry }))
                .collect();
            Some(SecretState {
                deleted,
                versions: Versions::from_entries(entries)?,
                maker,
            })
        },
    )
}

fn requests() -> impl Strategy<Value = DoneRequests> {
    let one = (any::<[u8; 16]>(), option::of(any::<[u8; 16]>()), seconds());
    vec(one, 0..20).prop_map(|all| {
        let mut requests = DoneRequests::default();
        for (mark, version, at) in all {
            let (mark, version) = (RequestMark(mark), version.map(Version));
            requests.push(DoneRequest { mark, version, at });
        }
        requests
    })
}

prop_compose! {
    fn head()(
        format: u32,
        name in "[0-9a-zA-Z-]{1,127}",
        incarnation: [u8; 16],
        rev: u64,
        writes in write_ids(),
        secret in option::of(secret()),
        purged in purges(),
        requests in requests(),
    ) -> Head {
        Head { format, name: ObjectName::parse(&name).unwrap(), incarnation, rev, writes, requests, secret, purged }
    }
}

prop_compose! {
    fn rules()(
        retention_days: u16,
        (purge_protection, allowed, denies, bypass) in any::<(bool, bool, bool, bool)>(),
    ) -> VaultRules {
        let outside_validity = if allowed { OutsideValidity::Allow } else { OutsideValidity::Deny };
        let network = NetworkAcls {
            default_action: if denies { DefaultAction::Deny } else { DefaultAction::Allow },
            bypass: if bypass { Bypass::Volumes } else { Bypass::None },
        };
        VaultRules { retention_days, purge_protection, outside_validity, network }
    }
}

prop_compose! {
    fn vault()(
        format: u32,
        (uuid, incarnation) in any::<([u8; 16], [u8; 16])>(),
        rev: u64,
        writes in write_ids(),
        (namespace, name) in ("[a-z]{1,63}", "[a-z]{3,24}"),
        (namespace_uid, resource_uid) in (".{0,36}", ".{0,36}"),
        rules in rules(),
        wrapped_key in option::of(vec(any::<u8>(), 1..200)),
        made in seconds(),
        deleted in option::of(deleted()),
        purged in purges(),
    ) -> VaultHead {
        VaultHead {
            format,
            uuid: VaultUuid(uuid),
            incarnation,
            rev,
            writes,
            id: VaultId { namespace: Namespace::parse(&namespace).unwrap(), name: VaultName::parse(&name).unwrap() },
            namespace_uid: Uid::new(&namespace_uid),
            resource_uid: Uid::new(&resource_uid),
            rules,
            wrapped_key,
            made,
            deleted,
            purged,
        }
    }
}

/// A CBOR map with one field more, of a number that this version does not know.
fn with_a_field_more(map: &[u8], number: u8, content: &[u8]) -> Vec<u8> {
    let (first, rest) = map.split_first().unwrap();
    assert!((0xa0..0xb7).contains(first), "a map of fewer than 23 fields");
    let mut longer = vec![first + 1];
    longer.extend_from_slice(rest);
    minicbor::Encoder::new(&mut longer)
        .u8(number)
        .unwrap()
        .bytes(content)
        .unwrap();
    longer
}

proptest! {
    #[test]
    fn a_head_survives_being_written_down(head in head()) {
        prop_assert_eq!(Head::decode(&head.encode().unwrap()), Ok(head));
    }

    #[test]
    fn a_vaults_head_survives_being_written_down(vault in vault()) {
        prop_assert_eq!(VaultHead::decode(&vault.encode().unwrap()), Ok(vault));
    }

    #[test]
    fn a_backup_survives_being_written_down(name in "[0-9a-zA-Z-]{1,127}", secret in secret()) {
        let backup = BackedUp { name: ObjectName::parse(&name).unwrap(), versions: secret.versions };
        prop_assert_eq!(BackedUp::decode(&backup.encode().unwrap()), Ok(backup));
    }

    #[test]
    fn fields_of_a_newer_version_are_passed_over(head in head(), vault in vault(), content in vec(any::<u8>(), 0..50)) {
        let longer = with_a_field_more(&head.encode().unwrap(), 200, &content);
        prop_assert_eq!(Head::decode(&longer), Ok(head));
        let longer = with_a_field_more(&vault.encode().unwrap(), 200, &content);
        prop_assert_eq!(VaultHead::decode(&longer), Ok(vault));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..600)) {
        let _ = (Head::decode(&bytes), VaultHead::decode(&bytes), BackedUp::decode(&bytes));
    }

    #[test]
    fn no_change_of_a_good_head_makes_a_decoder_panic(head in head(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = head.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Head::decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Head::decode(&bytes);
    }
}

#[test]
fn a_declared_length_without_content_costs_nothing() {
    // A map whose field 4 is an array of 2^60 entries.
    let hostile = [0xa1, 0x04, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0];
    assert!(Head::decode(&hostile).is_err());
    // Arrays nested a hundred thousand deep, under a field that nobody knows.
    let mut deep = vec![0xa1, 0x18, 0xc8];
    deep.extend(std::iter::repeat_n(0x81, 100_000));
    assert!(Head::decode(&deep).is_err());
}

/// Written by the first version; each later one must read it.
#[test]
fn a_head_of_the_first_format_stays_readable() {
    let entry = VersionEntry {
        id: Version([1; 16]),
        order: 1,
        enabled: true,
        not_before: None,
        expires: Some(UnixSeconds(2000)),
        created: UnixSeconds(1000),
        updated: UnixSeconds(1000),
        content_type: Some("t".into()),
        tags: Arc::new([("k".to_owned(), "v".to_owned())].into()),
        body: Body::Inline(Bytes::from_static(b"b")),
    };
    let mut writes = WriteIds::default();
    writes.push(WriteId([3; 16]));
    let secret = SecretState {
        deleted: None,
        versions: Versions::first(entry),
        maker: None,
    };
    let head = Head {
        format: 1,
        name: ObjectName::parse("Db").unwrap(),
        incarnation: [2; 16],
        rev: 1,
        writes,
        requests: DoneRequests::default(),
        secret: Some(secret),
        purged: Purges::default(),
    };
    let first = "a6000101624462025002020202020202020202020202020202030104815003030303030303030303030303030303\
                 05a10081a90050010101010101010101010101010101010101\
                 02f5041907d0051903e8061903e807617408a1616b617609416\
                 2";
    let hex: String = head
        .encode()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, first.replace(char::is_whitespace, ""));
}

/// Written by the first version; each later one must read it, and write it as long as nothing newer is in it.
#[test]
fn a_vaults_head_of_the_first_format_stays_readable() {
    let mut writes = WriteIds::default();
    writes.push(WriteId([3; 16]));
    let vault = VaultHead {
        format: 1,
        uuid: VaultUuid([1; 16]),
        incarnation: [2; 16],
        rev: 1,
        writes,
        id: VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        },
        namespace_uid: Uid::new("n"),
        resource_uid: Uid::new("r"),
        rules: VaultRules {
            retention_days: 90,
            purge_protection: false,
            outside_validity: OutsideValidity::Deny,
            network: NetworkAcls::default(),
        },
        wrapped_key: Some(vec![4]),
        made: UnixSeconds(1000),
        deleted: None,
        purged: Purges::default(),
    };
    let first = "ac0001015001010101010101010101010101010101025002020202020202020202020202020202\
                 0301048150030303030303030303030303030303030564736 86f70066464656d6f07616e086172\
                 09185a0a41040b1903e8";
    let hex: String = vault
        .encode()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, first.replace(char::is_whitespace, ""));
}

/// What versions before format 3 read of a head: enough to see what they take it for.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct HeadOfFormat2 {
    #[n(5)]
    secret: Option<SecretOfFormat2>,
}

#[derive(minicbor::Decode)]
#[cbor(map)]
struct SecretOfFormat2 {
    #[n(0)]
    versions: Vec<VersionOfFormat2>,
}

#[derive(minicbor::Decode)]
#[cbor(map)]
struct VersionOfFormat2 {
    #[n(1)]
    order: u64,
}

/// A head with versions of these lengths, and this many purges.
fn head_of(lengths: &[usize], purges: usize) -> Head {
    let entry = |(at, length): (usize, &usize)| {
        Arc::new(VersionEntry {
            body: Body::Inline(vec![b'x'; *length].into()),
            ..versions::tests::entry(at as u64 + 1)
        })
    };
    let entries = lengths.iter().enumerate().map(entry).collect();
    let secret = Versions::from_entries(entries).map(|versions| SecretState {
        deleted: None,
        versions,
        maker: None,
    });
    let purged = PurgedLife {
        incarnation: [9; 16],
        at: UnixSeconds(1000),
    };
    Head {
        // Whatever it needed before.
        format: FORMAT,
        name: ObjectName::parse("a").unwrap(),
        incarnation: [2; 16],
        rev: 1,
        writes: WriteIds::default(),
        requests: DoneRequests::default(),
        secret,
        purged: Purges {
            lately: vec![purged; purges],
            before: 0,
        },
    }
}

#[test]
fn a_head_is_of_a_newer_format_only_while_it_needs_that_and_older_versions_refuse_it_then() {
    type Orders = Result<Vec<u64>, ()>;
    let sizes = Sizes {
        head: 1_000,
        body: 300,
        ..Sizes::default()
    };
    // Versions, purges; the format, and what a version before format 3 takes for all versions.
    let cases: [(&[usize], usize, u32, Orders); 7] = [
        (&[10], 0, 1, Ok(vec![1])),
        (&[10, 300, 10], 0, 1, Ok(vec![1, 2, 3])),
        (&[], 1, 2, Ok(vec![])),
        (&[10, 10], 1, 2, Ok(vec![1, 2])),
        (&[301], 0, 3, Err(())),
        (&[300, 300, 300, 10], 0, 3, Err(())),
        (&[301, 10], 2, 3, Err(())),
    ];
    for (lengths, purges, format, expected) in cases {
        let part = PartRef {
            id: [1; 16],
            hash: [2; 16],
        };
        let fitted = fit(
            head_of(lengths, purges),
            false,
            &sizes,
            &|_| panic!("no page is merged"),
            &mut |_, _| Ok(part),
        );
        let fitted = fitted.unwrap();
        assert_eq!(fitted.head.format, format, "{lengths:?} {purges}");
        assert!(can_read(&fitted.content));
        let read = Head::decode(&fitted.content).unwrap();
        assert_eq!(read.secret.as_ref().map(|secret| secret.versions.count()), {
            (!lengths.is_empty()).then_some(lengths.len())
        });
        let old: Result<HeadOfFormat2, _> = minicbor::decode(&fitted.content);
        let old = old.map(|head| head.secret.map_or_else(Vec::new, |secret| secret.versions));
        let old = old.map(|versions| versions.iter().map(|version| version.order).collect::<Vec<_>>());
        assert_eq!(old.map_err(drop), expected, "{lengths:?} {purges}");
    }
}

#[test]
fn a_head_says_by_itself_whether_this_version_can_read_it() {
    let head = |readers: u8| [0xa2, 0x00, 0x18, 99, 0x08, readers];
    assert!(
        can_read(&[0xa1, 0x00, 0x18, 99]),
        "one that only writers must know"
    );
    let known = u8::try_from(FORMAT).unwrap();
    assert!(can_read(&head(known)) && !can_read(&head(known + 1)));
    assert!(can_read(b"no head at all"), "that is for the decoder to say");
}
