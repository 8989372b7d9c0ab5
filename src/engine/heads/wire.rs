//! How heads are written down: CBOR maps with numbered fields. A number is never used anew; a field that is added is optional,
//! and [`super::FORMAT`] is raised if an older writer must not drop it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::{
    Body, DoneRequest, DoneRequests, FORMAT, FORMAT_OF_PARTS, Head, PageRef, PartRef, PurgedLife, Purges,
    RequestMark, SecretState, VaultHead, VersionEntry, Versions, WriteId, WriteIds,
};
use crate::engine::Error;
use crate::model::{
    Bypass, DefaultAction, Deletion, InvalidName, Namespace, NetworkAcls, ObjectName, OutsideValidity, Owner,
    Tags, Uid, UnixSeconds, VaultId, VaultName, VaultRules, VaultUuid, Version,
};

/// Bytes that are no head. It tells nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record's content is not a head")]
pub(in crate::engine) struct DecodeError;

impl From<minicbor::decode::Error> for DecodeError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

impl From<InvalidName> for DecodeError {
    fn from(_: InvalidName) -> Self {
        Self
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireHead<'a> {
    #[n(0)]
    format: u32,
    #[b(1)]
    name: &'a str,
    #[cbor(n(2), with = "minicbor::bytes")]
    incarnation: [u8; 16],
    #[n(3)]
    rev: u64,
    #[n(4)]
    writes: Vec<WireId>,
    #[b(5)]
    secret: Option<WireSecret<'a>>,
    #[n(6)]
    purged: Option<Vec<WirePurged>>,
    #[n(7)]
    requests: Option<Vec<WireRequest>>,
    /// The lowest format number that a reader must know; none: any.
    #[n(8)]
    readers: Option<u32>,
    /// A writer that loses it loses no more than the receipts of lives long gone.
    #[n(9)]
    purged_before: Option<u64>,
}

/// What a head of whatever format says first.
#[derive(Decode)]
#[cbor(map)]
struct WireReaders {
    #[n(8)]
    readers: Option<u32>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireRequest {
    #[cbor(n(0), with = "minicbor::bytes")]
    mark: [u8; 16],
    #[n(1)]
    version: Option<WireId>,
    #[n(2)]
    at: i64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WirePurged {
    #[cbor(n(0), with = "minicbor::bytes")]
    incarnation: [u8; 16],
    #[n(1)]
    at: i64,
}

#[derive(Encode, Decode)]
#[cbor(transparent)]
struct WireId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireSecret<'a> {
    #[b(0)]
    versions: Option<Vec<WireVersion<'a>>>,
    #[n(1)]
    deleted: Option<WireDeleted>,
    #[b(2)]
    maker: Option<WireOwner<'a>>,
    #[n(3)]
    pages: Option<Vec<WirePage>>,
    /// How many versions there are, where some are on pages.
    #[n(4)]
    count: Option<u32>,
    /// The versions of a head that names parts: versions of Strongroom before format 3, which know no readers' number, find
    /// none then, and refuse the head instead of taking what they understand of it for all of it.
    #[b(5)]
    beside_parts: Option<Vec<WireVersion<'a>>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WirePage {
    #[n(0)]
    part: WirePart,
    #[n(1)]
    entries: u32,
    #[n(2)]
    bytes: u32,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WirePart {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[cbor(n(1), with = "minicbor::bytes")]
    hash: [u8; 16],
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireDeleted {
    #[n(0)]
    at: i64,
    #[n(1)]
    purge_due: i64,
    #[n(2)]
    purging: Option<bool>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireOwner<'a> {
    #[b(0)]
    namespace: &'a str,
    #[b(1)]
    namespace_uid: &'a str,
    #[b(2)]
    resource: &'a str,
}

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct WireVersion<'a> {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[n(1)]
    order: u64,
    #[n(2)]
    enabled: bool,
    #[n(3)]
    not_before: Option<i64>,
    #[n(4)]
    expires: Option<i64>,
    #[n(5)]
    created: i64,
    #[n(6)]
    updated: i64,
    #[b(7)]
    content_type: Option<&'a str>,
    #[b(8)]
    tags: Option<BTreeMap<&'a str, &'a str>>,
    /// Empty where it is a part.
    #[cbor(b(9), with = "minicbor::bytes")]
    body: &'a [u8],
    #[n(10)]
    part: Option<WirePart>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireVault<'a> {
    #[n(0)]
    format: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    uuid: [u8; 16],
    #[cbor(n(2), with = "minicbor::bytes")]
    incarnation: [u8; 16],
    #[n(3)]
    rev: u64,
    #[n(4)]
    writes: Vec<WireId>,
    #[b(5)]
    namespace: &'a str,
    #[b(6)]
    name: &'a str,
    #[b(7)]
    namespace_uid: &'a str,
    #[b(8)]
    resource_uid: &'a str,
    #[n(9)]
    retention_days: u16,
    /// Empty in the receipt of a purge.
    #[cbor(b(10), with = "minicbor::bytes")]
    wrapped_key: &'a [u8],
    #[n(11)]
    made: i64,
    #[n(12)]
    purge_protection: Option<bool>,
    /// Whether secrets are read outside their dates.
    #[n(13)]
    outside_allowed: Option<bool>,
    /// Whether it denies what no network rule speaks of.
    #[n(14)]
    network_denies: Option<bool>,
    /// Whether volumes need no network rule.
    #[n(15)]
    volumes_bypass: Option<bool>,
    #[n(16)]
    deleted: Option<WireDeleted>,
    #[n(17)]
    purged: Option<Vec<WirePurged>>,
    #[n(18)]
    purged_before: Option<u64>,
}

pub(super) fn encode_head(head: &Head) -> Result<Vec<u8>, Error> {
    let has_parts = head.has_parts();
    encode(&WireHead {
        format: head.format,
        name: head.name.as_written(),
        incarnation: head.incarnation,
        rev: head.rev,
        writes: write_ids(&head.writes),
        secret: head.secret.as_ref().map(|secret| WireSecret {
            versions: (!has_parts).then(|| wire_versions(secret.versions.inline())),
            beside_parts: has_parts.then(|| wire_versions(secret.versions.inline())),
            pages: (!secret.versions.pages().is_empty())
                .then(|| secret.versions.pages().iter().map(wire_page).collect()),
            count: (!secret.versions.pages().is_empty())
                .then(|| u32::try_from(secret.versions.count()).unwrap_or(u32::MAX)),
            deleted: secret.deleted.map(wire_deleted),
            maker: secret.maker.as_ref().map(|owner| WireOwner {
                namespace: owner.namespace.as_str(),
                namespace_uid: owner.namespace_uid.as_str(),
                resource: &owner.resource,
            }),
        }),
        purged: wire_purges(&head.purged),
        requests: (head.requests.iter().len() > 0).then(|| head.requests.iter().map(wire_request).collect()),
        readers: has_parts.then_some(FORMAT_OF_PARTS),
        purged_before: (head.purged.before > 0).then_some(head.purged.before),
    })
}

pub(super) fn wire_versions(entries: &[Arc<VersionEntry>]) -> Vec<WireVersion<'_>> {
    entries.iter().map(|entry| wire_version(entry)).collect()
}

fn wire_page(page: &PageRef) -> WirePage {
    WirePage {
        part: wire_part(&page.part),
        entries: page.entries,
        bytes: page.bytes,
    }
}

const fn wire_part(part: &PartRef) -> WirePart {
    WirePart {
        id: part.id,
        hash: part.hash,
    }
}

const fn read_part(wire: &WirePart) -> PartRef {
    PartRef {
        id: wire.id,
        hash: wire.hash,
    }
}

/// The content of a page.
pub(in crate::engine) fn encode_page(entries: &[Arc<VersionEntry>]) -> Result<Vec<u8>, Error> {
    encode(&wire_versions(entries))
}

/// The versions on a page.
pub(in crate::engine) fn decode_page(bytes: &[u8]) -> Result<Vec<Arc<VersionEntry>>, DecodeError> {
    let entries: Vec<WireVersion<'_>> = minicbor::decode(bytes)?;
    Ok(entries
        .into_iter()
        .map(|entry| Arc::new(read_version(entry)))
        .collect())
}

fn wire_request(done: &DoneRequest) -> WireRequest {
    WireRequest {
        mark: done.mark.0,
        version: done.version.map(|version| WireId(version.0)),
        at: done.at.0,
    }
}

fn wire_purges(purges: &Purges) -> Option<Vec<WirePurged>> {
    (!purges.lately.is_empty()).then(|| purges.lately.iter().map(wire_purged).collect())
}

fn read_purges(lately: Option<&[WirePurged]>, before: Option<u64>) -> Purges {
    Purges {
        lately: lately.unwrap_or_default().iter().map(read_purged).collect(),
        before: before.unwrap_or_default(),
    }
}

const fn wire_purged(life: &PurgedLife) -> WirePurged {
    WirePurged {
        incarnation: life.incarnation,
        at: life.at.0,
    }
}

/// Whether this version can read a head of this content. What is no head at all is for [`decode_head`] to say.
pub(in crate::engine) fn can_read(bytes: &[u8]) -> bool {
    minicbor::decode::<WireReaders>(bytes)
        .map_or(true, |head| head.readers.is_none_or(|needed| needed <= FORMAT))
}

pub(super) fn decode_head(bytes: &[u8]) -> Result<Head, DecodeError> {
    let wire: WireHead<'_> = minicbor::decode(bytes)?;
    Ok(Head {
        format: wire.format,
        name: ObjectName::parse(wire.name)?,
        incarnation: wire.incarnation,
        rev: wire.rev,
        writes: read_ids(&wire.writes),
        secret: wire.secret.map(read_secret).transpose()?,
        purged: read_purges(wire.purged.as_deref(), wire.purged_before),
        requests: read_requests(wire.requests.as_deref()),
    })
}

pub(super) fn encode_vault(head: &VaultHead) -> Result<Vec<u8>, Error> {
    encode(&WireVault {
        format: head.format,
        uuid: head.uuid.0,
        incarnation: head.incarnation,
        rev: head.rev,
        writes: write_ids(&head.writes),
        namespace: head.id.namespace.as_str(),
        name: head.id.name.as_str(),
        namespace_uid: head.namespace_uid.as_str(),
        resource_uid: head.resource_uid.as_str(),
        retention_days: head.rules.retention_days,
        wrapped_key: head.wrapped_key.as_deref().unwrap_or_default(),
        made: head.made.0,
        purge_protection: head.rules.purge_protection.then_some(true),
        outside_allowed: (head.rules.outside_validity == OutsideValidity::Allow).then_some(true),
        network_denies: head.rules.network.denies().then_some(true),
        volumes_bypass: (head.rules.network.bypass == Bypass::Volumes).then_some(true),
        deleted: head.deleted.map(wire_deleted),
        purged: wire_purges(&head.purged),
        purged_before: (head.purged.before > 0).then_some(head.purged.before),
    })
}

pub(super) fn decode_vault(bytes: &[u8]) -> Result<VaultHead, DecodeError> {
    let wire: WireVault<'_> = minicbor::decode(bytes)?;
    Ok(VaultHead {
        format: wire.format,
        uuid: VaultUuid(wire.uuid),
        incarnation: wire.incarnation,
        rev: wire.rev,
        writes: read_ids(&wire.writes),
        id: VaultId {
            namespace: Namespace::parse(wire.namespace)?,
            name: VaultName::parse(wire.name)?,
        },
        namespace_uid: Uid::new(wire.namespace_uid),
        resource_uid: Uid::new(wire.resource_uid),
        rules: VaultRules {
            retention_days: wire.retention_days,
            purge_protection: wire.purge_protection.unwrap_or(false),
            outside_validity: match wire.outside_allowed {
                Some(true) => OutsideValidity::Allow,
                Some(false) | None => OutsideValidity::Deny,
            },
            network: NetworkAcls {
                default_action: match wire.network_denies {
                    Some(true) => DefaultAction::Deny,
                    Some(false) | None => DefaultAction::Allow,
                },
                bypass: match wire.volumes_bypass {
                    Some(true) => Bypass::Volumes,
                    Some(false) | None => Bypass::None,
                },
            },
        },
        wrapped_key: (!wire.wrapped_key.is_empty()).then(|| wire.wrapped_key.to_vec()),
        made: UnixSeconds(wire.made),
        deleted: wire.deleted.as_ref().map(read_deleted),
        purged: read_purges(wire.purged.as_deref(), wire.purged_before),
    })
}

const fn wire_deleted(deleted: Deletion) -> WireDeleted {
    WireDeleted {
        at: deleted.at.0,
        purge_due: deleted.purge_due.0,
        purging: if deleted.purging { Some(true) } else { None },
    }
}

fn read_deleted(wire: &WireDeleted) -> Deletion {
    Deletion {
        at: UnixSeconds(wire.at),
        purge_due: UnixSeconds(wire.purge_due),
        purging: wire.purging.unwrap_or(false),
    }
}

pub(super) fn encode(value: &impl Encode<()>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    minicbor::encode(value, &mut out).map_err(|_| Error::Encode)?;
    Ok(out)
}

fn write_ids(ids: &WriteIds) -> Vec<WireId> {
    ids.iter().map(|id| WireId(id.0)).collect()
}

fn read_ids(ids: &[WireId]) -> WriteIds {
    let mut read = WriteIds::default();
    ids.iter().for_each(|id| read.push(WriteId(id.0)));
    read
}

fn wire_version(entry: &VersionEntry) -> WireVersion<'_> {
    let tags = || {
        entry
            .tags
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    };
    WireVersion {
        id: entry.id.0,
        order: entry.order,
        enabled: entry.enabled,
        not_before: entry.not_before.map(|t| t.0),
        expires: entry.expires.map(|t| t.0),
        created: entry.created.0,
        updated: entry.updated.0,
        content_type: entry.content_type.as_deref(),
        tags: (!entry.tags.is_empty()).then(tags),
        body: match &entry.body {
            Body::Inline(body) => body,
            Body::Part(_) => &[],
        },
        part: match &entry.body {
            Body::Inline(_) => None,
            Body::Part(part) => Some(wire_part(part)),
        },
    }
}

fn read_requests(wire: Option<&[WireRequest]>) -> DoneRequests {
    let mut requests = DoneRequests::default();
    for done in wire.into_iter().flatten() {
        requests.push(DoneRequest {
            mark: RequestMark(done.mark),
            version: done.version.as_ref().map(|id| Version(id.0)),
            at: UnixSeconds(done.at),
        });
    }
    requests
}

const fn read_purged(wire: &WirePurged) -> PurgedLife {
    PurgedLife {
        incarnation: wire.incarnation,
        at: UnixSeconds(wire.at),
    }
}

fn read_secret(wire: WireSecret<'_>) -> Result<SecretState, DecodeError> {
    let entries = wire.beside_parts.or(wire.versions).ok_or(DecodeError)?;
    let entries: Vec<_> = entries
        .into_iter()
        .map(|version| Arc::new(read_version(version)))
        .collect();
    let count = match wire.count {
        Some(count) => count,
        None => u32::try_from(entries.len()).map_err(|_| DecodeError)?,
    };
    let pages = wire.pages.iter().flatten().map(|page| PageRef {
        part: read_part(&page.part),
        entries: page.entries,
        bytes: page.bytes,
    });
    Ok(SecretState {
        deleted: wire.deleted.as_ref().map(read_deleted),
        versions: Versions::from_parts(entries, pages.collect(), count).ok_or(DecodeError)?,
        maker: wire.maker.as_ref().map(read_owner).transpose()?,
    })
}

fn read_owner(wire: &WireOwner<'_>) -> Result<Owner, DecodeError> {
    Ok(Owner {
        namespace: Namespace::parse(wire.namespace)?,
        namespace_uid: Uid::new(wire.namespace_uid),
        resource: wire.resource.to_owned(),
    })
}

pub(super) fn read_version(wire: WireVersion<'_>) -> VersionEntry {
    let tags: Tags = wire
        .tags
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    VersionEntry {
        id: Version(wire.id),
        order: wire.order,
        enabled: wire.enabled,
        not_before: wire.not_before.map(UnixSeconds),
        expires: wire.expires.map(UnixSeconds),
        created: UnixSeconds(wire.created),
        updated: UnixSeconds(wire.updated),
        content_type: wire.content_type.map(Arc::from),
        tags: Arc::new(tags),
        body: match &wire.part {
            None => Body::Inline(Bytes::copy_from_slice(wire.body)),
            Some(part) => Body::Part(read_part(part)),
        },
    }
}
