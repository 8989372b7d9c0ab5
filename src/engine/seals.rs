//! Under which names and keys heads and values are sealed.

use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::heads::{Head, Incarnation, PartKind, PartRef, VaultHead, can_read};
use super::objects::Life;
use super::parts::NewPart;
use super::{Damage, Error};
use crate::crypto::mac::sha256;
use crate::crypto::{
    BackupKey, Header, InstallationId, NamingKey, RecordType, RootKey, SealingKey, VaultKey, random, seal,
};
use crate::model::{SecretBytes, Uid, VaultName, VaultUuid, Version};
use crate::store::RecordName;

/// The keys of an installation, and the shape of its records.
pub(super) struct Seals {
    installation: InstallationId,
    root: SealingKey,
    naming: NamingKey,
    paging: SealingKey,
    backup: BackupKey,
}

/// The name under which backups of secrets are sealed.
const BACKUP_NAME: &str = "secret";
/// Backups belong to no vault.
const NO_VAULT: VaultUuid = VaultUuid([0; 16]);

/// Where the value of one version lies: bound into its seal, so that it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyPlace<'a> {
    /// The object's name in lower case.
    pub(super) name: &'a str,
    pub(super) incarnation: Incarnation,
    pub(super) version: Version,
    pub(super) order: u64,
}

impl Seals {
    pub(super) fn new(root: &RootKey, installation: InstallationId) -> Self {
        Self {
            installation,
            root: root.sealing_key(),
            naming: root.naming_key(),
            paging: root.paging_key(),
            backup: root.backup_key(),
        }
    }

    pub(super) fn vault_record(&self, namespace_uid: &Uid, name: &VaultName) -> Result<RecordName, Error> {
        self.name(&[
            b"vault",
            namespace_uid.as_str().as_bytes(),
            name.as_str().as_bytes(),
        ])
    }

    pub(super) fn object_record(&self, vault: VaultUuid, folded: &str) -> Result<RecordName, Error> {
        self.name(&[b"object", &vault.0, folded.as_bytes()])
    }

    fn name(&self, parts: &[&[u8]]) -> Result<RecordName, Error> {
        RecordName::parse(&self.naming.name(parts)).map_err(|_| Error::Encode)
    }

    /// What a request of a client is known by.
    pub(super) fn request_mark(&self, parts: &[&[u8]]) -> [u8; 16] {
        let all: Vec<&[u8]> = std::iter::once(b"request".as_slice())
            .chain(parts.iter().copied())
            .collect();
        self.naming.tag(&all)
    }

    pub(super) fn new_vault_key(&self, vault: VaultUuid) -> Result<Vec<u8>, Error> {
        let key = VaultKey::generate(vault).map_err(Error::Crypto)?;
        key.wrap(&self.root, &self.installation).map_err(Error::Crypto)
    }

    /// The key of a vault; none once it was purged.
    pub(super) fn vault_key(&self, head: &VaultHead) -> Result<Option<SealingKey>, Damage> {
        let Some(wrapped) = &head.wrapped_key else {
            return Ok(None);
        };
        VaultKey::unwrap(&self.root, &self.installation, head.uuid, wrapped)
            .map(|key| Some(key.sealing_key().clone()))
            .map_err(|_| Damage::DoesNotOpen)
    }

    pub(super) fn seal_vault(&self, record: &RecordName, head: &VaultHead) -> Result<Bytes, Error> {
        let header = Header {
            record_type: RecordType::Vault,
            vault: head.uuid,
            incarnation: head.incarnation,
            term: self.root.term(),
            rev: head.rev,
        };
        self.seal(&self.root, &header, record.as_str(), &head.encode()?)
    }

    pub(super) fn open_vault(&self, record: &RecordName, envelope: &[u8]) -> Result<VaultHead, Damage> {
        let (header, content) = seal::open(
            &self.root,
            &self.installation,
            RecordType::Vault,
            record.as_str(),
            envelope,
        )
        .map_err(|_| Damage::DoesNotOpen)?;
        let head = VaultHead::decode(content.expose()).map_err(|_| Damage::DoesNotOpen)?;
        let fits =
            head.uuid == header.vault && head.incarnation == header.incarnation && head.rev == header.rev;
        if fits { Ok(head) } else { Err(Damage::DoesNotOpen) }
    }

    /// `content` is the head, written down.
    pub(super) fn seal_object(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        record: &RecordName,
        head: &Head,
        content: &[u8],
    ) -> Result<Bytes, Error> {
        let header = Header {
            record_type: RecordType::Object,
            vault,
            incarnation: head.incarnation,
            term: key.term(),
            rev: head.rev,
        };
        self.seal(key, &header, record.as_str(), content)
    }

    pub(super) fn open_object(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        record: &RecordName,
        envelope: &[u8],
    ) -> Result<Head, Damage> {
        let (header, content) = seal::open(
            key,
            &self.installation,
            RecordType::Object,
            record.as_str(),
            envelope,
        )
        .map_err(|_| Damage::DoesNotOpen)?;
        if !can_read(content.expose()) {
            return Err(Damage::NewerFormat);
        }
        let head = Head::decode(content.expose()).map_err(|_| Damage::DoesNotOpen)?;
        let fits = header.vault == vault && head.incarnation == header.incarnation && head.rev == header.rev;
        if fits { Ok(head) } else { Err(Damage::DoesNotOpen) }
    }

    pub(super) fn seal_body(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        place: &BodyPlace<'_>,
        value: &[u8],
    ) -> Result<Bytes, Error> {
        let header = body_header(vault, key, place);
        self.seal(key, &header, &body_name(place), value)
    }

    pub(super) fn open_body(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        place: &BodyPlace<'_>,
        body: &[u8],
    ) -> Result<SecretBytes, Error> {
        let (header, value) = seal::open(key, &self.installation, RecordType::Body, &body_name(place), body)
            .map_err(|_| Error::RecordDamaged(Damage::DoesNotOpen))?;
        // Of whichever term: a key that does not know it had not opened the body.
        let expected = Header {
            term: header.term,
            ..body_header(vault, key, place)
        };
        let fits = header == expected;
        if fits {
            Ok(value)
        } else {
            Err(Error::RecordDamaged(Damage::DoesNotOpen))
        }
    }

    pub(super) fn part_record(&self, vault: VaultUuid, part: &PartRef) -> Result<RecordName, Error> {
        self.part_name(vault, part.id)
    }

    fn part_name(&self, vault: VaultUuid, id: [u8; 16]) -> Result<RecordName, Error> {
        self.name(&[b"part", &vault.0, &id])
    }

    /// Makes a part of an object: its record, and how its head is to name it.
    pub(super) fn make_part(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        life: &Life,
        kind: PartKind,
        content: &[u8],
    ) -> Result<(NewPart, PartRef), Error> {
        let id = random_id()?;
        let record = self.part_name(vault, id)?;
        let header = Header {
            record_type: record_type(kind),
            vault,
            incarnation: life.incarnation,
            term: key.term(),
            rev: 1,
        };
        let content = PartContent {
            name: life.name.folded(),
            content,
        };
        let envelope = self.seal(key, &header, record.as_str(), &content.encode()?)?;
        let part = PartRef {
            id,
            hash: hash(&envelope),
        };
        let new = NewPart {
            record,
            vault,
            incarnation: life.incarnation,
            envelope,
        };
        Ok((new, part))
    }

    /// Opens a part, whoever names it: hands back the name of its object in lower case, and what it holds.
    pub(super) fn open_part(
        &self,
        vault: VaultUuid,
        key: &SealingKey,
        record: &RecordName,
        kind: PartKind,
        envelope: &[u8],
    ) -> Result<OpenedPart, Damage> {
        let (header, plain) = seal::open(
            key,
            &self.installation,
            record_type(kind),
            record.as_str(),
            envelope,
        )
        .map_err(|_| Damage::DoesNotOpen)?;
        let content = PartContent::decode(plain.expose()).map_err(|_| Damage::DoesNotOpen)?;
        if header.vault != vault {
            return Err(Damage::DoesNotOpen);
        }
        Ok(OpenedPart {
            incarnation: header.incarnation,
            name: content.name.into(),
            content: SecretBytes::new(content.content.to_vec()),
        })
    }

    /// Opens a part as the one that the head of this life names.
    pub(super) fn open_named_part(
        &self,
        key: &SealingKey,
        record: &RecordName,
        kind: PartKind,
        part: &PartRef,
        envelope: &[u8],
        (vault, life): (VaultUuid, &Life),
    ) -> Result<SecretBytes, Error> {
        let opened = self
            .open_part(vault, key, record, kind, envelope)
            .map_err(Error::RecordDamaged)?;
        let fits = hash(envelope) == part.hash
            && opened.incarnation == life.incarnation
            && *opened.name == *life.name.folded();
        if fits {
            Ok(opened.content)
        } else {
            Err(Error::RecordDamaged(Damage::DoesNotOpen))
        }
    }

    /// The key of a namespace's backups.
    pub(super) fn backup_key(&self, namespace_uid: &Uid) -> Result<SealingKey, Error> {
        self.backup.of_namespace(namespace_uid).map_err(Error::Crypto)
    }

    /// Seals the value of a version for its place in a backup.
    pub(super) fn seal_backup_body(
        &self,
        key: &SealingKey,
        place: &BodyPlace<'_>,
        value: &[u8],
    ) -> Result<Bytes, Error> {
        self.seal_body(NO_VAULT, key, place, value)
    }

    /// Opens the value of a version in a backup.
    pub(super) fn open_backup_body(
        &self,
        key: &SealingKey,
        place: &BodyPlace<'_>,
        body: &[u8],
    ) -> Result<SecretBytes, Error> {
        self.open_body(NO_VAULT, key, place, body)
            .map_err(|_| Error::BackupMalformed)
    }

    /// Seals a whole backup; `id` tells it from every other.
    pub(super) fn seal_backup(
        &self,
        key: &SealingKey,
        id: Incarnation,
        content: &[u8],
    ) -> Result<Bytes, Error> {
        let header = Header {
            record_type: RecordType::Backup,
            vault: NO_VAULT,
            incarnation: id,
            term: key.term(),
            rev: 1,
        };
        self.seal(key, &header, BACKUP_NAME, content)
    }

    /// Opens a whole backup, and hands back its id and content.
    pub(super) fn open_backup(
        &self,
        key: &SealingKey,
        blob: &[u8],
    ) -> Result<(Incarnation, SecretBytes), Error> {
        seal::open(key, &self.installation, RecordType::Backup, BACKUP_NAME, blob)
            .map(|(header, content)| (header.incarnation, content))
            .map_err(|_| Error::BackupMalformed)
    }

    /// Seals where a list goes on; `list` names the vault and the list.
    pub(super) fn seal_position(
        &self,
        vault: VaultUuid,
        list: &str,
        position: &[u8],
    ) -> Result<Bytes, Error> {
        let header = Header {
            record_type: RecordType::SkipToken,
            vault,
            incarnation: [0; 16],
            term: self.paging.term(),
            rev: 0,
        };
        self.seal(&self.paging, &header, list, position)
    }

    pub(super) fn open_position(
        &self,
        vault: VaultUuid,
        list: &str,
        token: &[u8],
    ) -> Result<SecretBytes, Error> {
        let (header, position) = seal::open(
            &self.paging,
            &self.installation,
            RecordType::SkipToken,
            list,
            token,
        )
        .map_err(|_| Error::SkipTokenInvalid)?;
        if header.vault == vault {
            Ok(position)
        } else {
            Err(Error::SkipTokenInvalid)
        }
    }

    fn seal(&self, key: &SealingKey, header: &Header, name: &str, content: &[u8]) -> Result<Bytes, Error> {
        seal::seal(key, &self.installation, header, name, content)
            .map(Bytes::from)
            .map_err(Error::Crypto)
    }
}

/// A part, opened.
pub(super) struct OpenedPart {
    pub(super) incarnation: Incarnation,
    /// The object's name in lower case.
    pub(super) name: Arc<str>,
    pub(super) content: SecretBytes,
}

/// What a part says: whose it is, and what it holds.
#[derive(Encode, Decode)]
#[cbor(map)]
struct PartContent<'a> {
    #[b(0)]
    name: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    content: &'a [u8],
}

impl<'a> PartContent<'a> {
    fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(self.content.len() + self.name.len() + 16);
        minicbor::encode(self, &mut out).map_err(|_| Error::Encode)?;
        Ok(out)
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, minicbor::decode::Error> {
        minicbor::decode(bytes)
    }
}

const fn record_type(kind: PartKind) -> RecordType {
    match kind {
        PartKind::Body => RecordType::Value,
        PartKind::Page => RecordType::Page,
    }
}

fn hash(envelope: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(sha256(envelope)) {
        *to = from;
    }
    half
}

fn body_name(place: &BodyPlace<'_>) -> String {
    [place.name, "/", place.version.to_hex().as_str()].concat()
}

const fn body_header(vault: VaultUuid, key: &SealingKey, place: &BodyPlace<'_>) -> Header {
    Header {
        record_type: RecordType::Body,
        vault,
        incarnation: place.incarnation,
        term: key.term(),
        rev: place.order,
    }
}

/// 16 random bytes: versions, incarnations, write ids, UUIDs.
pub(super) fn random_id() -> Result<[u8; 16], Error> {
    random::bytes().map_err(Error::Crypto)
}
