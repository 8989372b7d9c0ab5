//! Who this installation is, and whether the root key is its own.
//!
//! Two records under fixed names stand before all others: the sentinel, which opens under the right root key alone, and the
//! installation with its ids. They are made in that order when the store is empty, by create-only, so that replicas that start
//! together agree; a start that was cut off between the two is finished by the next. Nothing is ever made where other records
//! exist: a key that was lost is not replaced.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::{RecordName, SealedStore, StoreError};
use crate::crypto::{CryptoError, Header, InstallationId, RecordType, RootKey, random, seal};
use crate::model::{Kind, UnixSeconds, VaultUuid};

const SENTINEL: &str = "sentinel";
const INSTALLATION: &str = "installation";
const SENTINEL_CONTENT: &[u8] = b"strongroom/sentinel/v1";
/// What these two records are sealed with instead of the installation's id, which is not known before they open.
const NO_ID: InstallationId = InstallationId([0; 16]);
/// How often to look again after another replica was quicker.
const ROUNDS: usize = 8;

/// Who this installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Random, bound into everything that is sealed.
    pub id: InstallationId,
    /// The tenant id: a GUID in lower case with hyphens.
    pub tenant: String,
}

/// Why it cannot be said who this installation is. In none of these cases anything was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallationError {
    /// Sealed records exist, and this root key does not open them.
    #[error(
        "the root key does not open this installation's records: it is not the key that they were sealed under; put the \
         escrowed root key back"
    )]
    RootKeyDoesNotOpen,
    /// Sealed records existed when the root key was missing and had to be made.
    #[error(
        "sealed records exist, but their root key was missing: what was just made does not open them; put the escrowed \
         root key back in its place"
    )]
    RootKeyMissing,
    /// Sealed records exist, but not the one that proves the root key.
    #[error(
        "sealed records exist, but the record 'sentinel' among them is missing: restore it from a backup"
    )]
    SentinelMissing,
    /// Sealed records exist, but not the one that names the installation.
    #[error(
        "sealed records exist, but the record 'installation' among them is missing: restore it from a backup"
    )]
    InstallationMissing,
    /// The root key is the right one, and the record that names the installation does not open.
    #[error("the record 'installation' was changed: restore it from a backup")]
    InstallationDamaged,
    /// Other replicas kept changing the same two records.
    #[error("the installation's first records kept changing while they were read")]
    Contention,
    /// The store cannot be reached.
    #[error("the installation's records cannot be read or made: {0}")]
    Store(StoreError),
    /// Sealing failed.
    #[error("the installation's records cannot be sealed")]
    Crypto(#[source] CryptoError),
}

impl InstallationError {
    /// Its kind: what helps is waiting (`Unavailable`) or a person (`Internal`).
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Store(_) | Self::Contention => Kind::Unavailable,
            Self::RootKeyDoesNotOpen
            | Self::RootKeyMissing
            | Self::SentinelMissing
            | Self::InstallationMissing
            | Self::InstallationDamaged
            | Self::Crypto(_) => Kind::Internal,
        }
    }
}

/// Finds the installation, or makes it if the store holds nothing at all.
///
/// # Errors
/// [`InstallationError`].
pub async fn load_or_create(
    store: &dyn SealedStore,
    root: &RootKey,
    root_was_just_created: bool,
    now: UnixSeconds,
) -> Result<Installation, InstallationError> {
    let names = Names::new()?;
    for _ in 0..ROUNDS {
        match decide(&gather(store, root, &names).await?, root_was_just_created) {
            Plan::Use(installation) => return Ok(installation),
            Plan::Refuse(error) => return Err(error),
            Plan::MakeSentinel => make(store, &names.sentinel, sentinel(root, &names)?).await?,
            Plan::MakeInstallation => {
                make(store, &names.installation, new_installation(root, &names, now)?).await?;
            }
        }
    }
    Err(InstallationError::Contention)
}

struct Names {
    sentinel: RecordName,
    installation: RecordName,
}

impl Names {
    fn new() -> Result<Self, InstallationError> {
        let name = |text| RecordName::parse(text).map_err(|_| InstallationError::Contention);
        Ok(Self {
            sentinel: name(SENTINEL)?,
            installation: name(INSTALLATION)?,
        })
    }
}

/// What is known of one of the two records.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen<T> {
    Missing,
    DoesNotOpen,
    Open(T),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    sentinel: Seen<()>,
    installation: Seen<Installation>,
    /// Whether any other record exists.
    others: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Use(Installation),
    MakeSentinel,
    MakeInstallation,
    Refuse(InstallationError),
}

fn decide(facts: &Facts, root_was_just_created: bool) -> Plan {
    match (&facts.sentinel, &facts.installation) {
        (Seen::DoesNotOpen, _) if root_was_just_created => Plan::Refuse(InstallationError::RootKeyMissing),
        (Seen::DoesNotOpen, _) => Plan::Refuse(InstallationError::RootKeyDoesNotOpen),
        (Seen::Missing, Seen::Missing) if !facts.others => Plan::MakeSentinel,
        (Seen::Missing, _) if root_was_just_created => Plan::Refuse(InstallationError::RootKeyMissing),
        (Seen::Missing, _) => Plan::Refuse(InstallationError::SentinelMissing),
        (Seen::Open(()), Seen::Open(installation)) => Plan::Use(installation.clone()),
        (Seen::Open(()), Seen::Missing) if !facts.others => Plan::MakeInstallation,
        (Seen::Open(()), Seen::Missing) => Plan::Refuse(InstallationError::InstallationMissing),
        (Seen::Open(()), Seen::DoesNotOpen) => Plan::Refuse(InstallationError::InstallationDamaged),
    }
}

async fn gather(store: &dyn SealedStore, root: &RootKey, names: &Names) -> Result<Facts, InstallationError> {
    let sentinel = store
        .get(&names.sentinel)
        .await
        .map_err(InstallationError::Store)?;
    let installation = store
        .get(&names.installation)
        .await
        .map_err(InstallationError::Store)?;
    if let (Some(sentinel), Some(installation)) = (&sentinel, &installation) {
        return Ok(Facts {
            sentinel: open_sentinel(root, names, &sentinel.envelope),
            installation: open_installation(root, names, &installation.envelope),
            others: true,
        });
    }
    // One consistent list, so that what another replica makes meanwhile is seen whole or not at all.
    let (records, _) = store.list().await.map_err(InstallationError::Store)?;
    let find = |name: &RecordName| records.iter().find(|record| record.name == *name);
    Ok(Facts {
        sentinel: find(&names.sentinel).map_or(Seen::Missing, |r| open_sentinel(root, names, &r.envelope)),
        installation: find(&names.installation)
            .map_or(Seen::Missing, |r| open_installation(root, names, &r.envelope)),
        others: records
            .iter()
            .any(|r| r.name != names.sentinel && r.name != names.installation),
    })
}

/// Creates a record; whether we were the ones or another replica was, is found out by looking again.
async fn make(store: &dyn SealedStore, name: &RecordName, envelope: Bytes) -> Result<(), InstallationError> {
    match store.create(name, envelope).await {
        Ok(_) | Err(StoreError::AlreadyExists | StoreError::Unknown) => Ok(()),
        Err(error) => Err(InstallationError::Store(error)),
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Content<'a> {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[b(1)]
    tenant: &'a str,
    /// Seconds since 1970.
    #[n(2)]
    made: i64,
}

fn open_installation(root: &RootKey, names: &Names, envelope: &[u8]) -> Seen<Installation> {
    let name = names.installation.as_str();
    let Ok((_, content)) = seal::open(
        &root.sealing_key(),
        &NO_ID,
        RecordType::Installation,
        name,
        envelope,
    ) else {
        return Seen::DoesNotOpen;
    };
    minicbor::decode::<Content<'_>>(content.expose()).map_or(Seen::DoesNotOpen, |content| {
        Seen::Open(Installation {
            id: InstallationId(content.id),
            tenant: content.tenant.to_owned(),
        })
    })
}

fn open_sentinel(root: &RootKey, names: &Names, envelope: &[u8]) -> Seen<()> {
    let name = names.sentinel.as_str();
    let opened = seal::open(&root.sealing_key(), &NO_ID, RecordType::Sentinel, name, envelope);
    if opened.is_ok_and(|(_, content)| content.expose() == SENTINEL_CONTENT) {
        Seen::Open(())
    } else {
        Seen::DoesNotOpen
    }
}

fn sentinel(root: &RootKey, names: &Names) -> Result<Bytes, InstallationError> {
    seal_first(root, RecordType::Sentinel, &names.sentinel, SENTINEL_CONTENT)
}

fn new_installation(root: &RootKey, names: &Names, now: UnixSeconds) -> Result<Bytes, InstallationError> {
    let tenant = guid(random::bytes().map_err(InstallationError::Crypto)?);
    let id = random::bytes().map_err(InstallationError::Crypto)?;
    let mut content = Vec::new();
    minicbor::encode(
        Content {
            id,
            tenant: &tenant,
            made: now.0,
        },
        &mut content,
    )
    .map_err(|_| InstallationError::Crypto(CryptoError::Seal))?;
    seal_first(root, RecordType::Installation, &names.installation, &content)
}

fn seal_first(
    root: &RootKey,
    record_type: RecordType,
    name: &RecordName,
    content: &[u8],
) -> Result<Bytes, InstallationError> {
    let key = root.sealing_key();
    let incarnation = random::bytes().map_err(InstallationError::Crypto)?;
    let header = Header {
        record_type,
        vault: VaultUuid([0; 16]),
        incarnation,
        term: key.term(),
        rev: 1,
    };
    seal::seal(&key, &NO_ID, &header, name.as_str(), content)
        .map(Bytes::from)
        .map_err(InstallationError::Crypto)
}

/// A random GUID (RFC 9562, version 4).
fn guid(random: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{bits:032x}");
    let mut guid = String::with_capacity(36);
    for (i, c) in text.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            guid.push('-');
        }
        guid.push(c);
    }
    guid
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::model::SecretBytes;
    use crate::store::memory::MemoryStore;

    fn root(byte: u8) -> RootKey {
        RootKey::from_bytes(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    fn name(text: &str) -> RecordName {
        RecordName::parse(text).unwrap()
    }

    async fn load(
        store: &MemoryStore,
        root: &RootKey,
        just_created: bool,
    ) -> Result<Installation, InstallationError> {
        load_or_create(store, root, just_created, UnixSeconds(1000)).await
    }

    async fn remove(store: &MemoryStore, text: &str) {
        let record = store.get(&name(text)).await.unwrap().unwrap();
        store.delete(&record.name, &record.stamp).await.unwrap();
    }

    #[test]
    fn every_state_of_the_first_records_has_one_answer() {
        use InstallationError::{
            InstallationDamaged, InstallationMissing, RootKeyDoesNotOpen, RootKeyMissing, SentinelMissing,
        };
        let us = Installation {
            id: InstallationId([1; 16]),
            tenant: "t".to_owned(),
        };
        let open = || Seen::Open(us.clone());
        let refuse = Plan::Refuse;
        let cases = [
            (Seen::Missing, Seen::Missing, false, false, Plan::MakeSentinel),
            (Seen::Missing, Seen::Missing, false, true, Plan::MakeSentinel),
            (Seen::Missing, Seen::Missing, true, false, refuse(SentinelMissing)),
            (Seen::Missing, Seen::Missing, true, true, refuse(RootKeyMissing)),
            (Seen::Missing, open(), false, false, refuse(SentinelMissing)),
            (
                Seen::Missing,
                Seen::DoesNotOpen,
                false,
                true,
                refuse(RootKeyMissing),
            ),
            (
                Seen::DoesNotOpen,
                Seen::DoesNotOpen,
                true,
                false,
                refuse(RootKeyDoesNotOpen),
            ),
            (
                Seen::DoesNotOpen,
                Seen::DoesNotOpen,
                true,
                true,
                refuse(RootKeyMissing),
            ),
            (Seen::DoesNotOpen, open(), true, false, refuse(RootKeyDoesNotOpen)),
            (Seen::Open(()), Seen::Missing, false, true, Plan::MakeInstallation),
            (
                Seen::Open(()),
                Seen::Missing,
                true,
                false,
                refuse(InstallationMissing),
            ),
            (
                Seen::Open(()),
                Seen::DoesNotOpen,
                true,
                false,
                refuse(InstallationDamaged),
            ),
            (Seen::Open(()), open(), true, false, Plan::Use(us.clone())),
            (Seen::Open(()), open(), false, true, Plan::Use(us.clone())),
        ];
        for (sentinel, installation, others, just_created, expected) in cases {
            let facts = Facts {
                sentinel,
                installation,
                others,
            };
            assert_eq!(
                decide(&facts, just_created),
                expected,
                "{facts:?}, just created: {just_created}"
            );
        }
    }

    #[tokio::test]
    async fn an_empty_store_becomes_an_installation_that_is_found_again() {
        let store = MemoryStore::new();
        let made = load(&store, &root(1), true).await.unwrap();
        assert_eq!(load(&store, &root(1), false).await, Ok(made.clone()));
        assert_eq!(made.tenant.len(), 36);
        assert_ne!(made.id, NO_ID);
    }

    #[tokio::test]
    async fn another_root_key_is_refused_and_nothing_is_changed() {
        let store = MemoryStore::new();
        let made = load(&store, &root(1), true).await.unwrap();
        let before = store.list().await.unwrap();
        assert_eq!(
            load(&store, &root(2), false).await,
            Err(InstallationError::RootKeyDoesNotOpen)
        );
        assert_eq!(
            load(&store, &root(2), true).await,
            Err(InstallationError::RootKeyMissing)
        );
        assert_eq!(store.list().await.unwrap(), before);
        assert_eq!(load(&store, &root(1), false).await, Ok(made));
    }

    #[tokio::test]
    async fn a_lost_first_record_is_never_made_anew() {
        let store = MemoryStore::new();
        load(&store, &root(1), true).await.unwrap();
        store
            .create(&name("another"), Bytes::from_static(b"x"))
            .await
            .unwrap();
        remove(&store, SENTINEL).await;
        assert_eq!(
            load(&store, &root(1), false).await,
            Err(InstallationError::SentinelMissing)
        );
        let store = MemoryStore::new();
        load(&store, &root(1), true).await.unwrap();
        store
            .create(&name("another"), Bytes::from_static(b"x"))
            .await
            .unwrap();
        remove(&store, INSTALLATION).await;
        assert_eq!(
            load(&store, &root(1), false).await,
            Err(InstallationError::InstallationMissing)
        );
    }

    #[tokio::test]
    async fn a_first_start_that_was_cut_off_is_finished_by_the_next() {
        let store = MemoryStore::new();
        load(&store, &root(1), true).await.unwrap();
        remove(&store, INSTALLATION).await;
        assert!(load(&store, &root(1), false).await.is_ok());
    }

    #[tokio::test]
    async fn replicas_that_start_together_agree() {
        let (store, root) = (MemoryStore::new(), root(1));
        let found = join_all((0..8).map(|_| load(&store, &root, true))).await;
        let first = found.first().unwrap().clone().unwrap();
        assert!(
            found
                .into_iter()
                .all(|installation| installation == Ok(first.clone()))
        );
        assert_eq!(store.list().await.unwrap().0.len(), 2);
    }

    #[test]
    fn a_tenant_is_a_guid_of_version_four() {
        assert_eq!(guid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(guid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
