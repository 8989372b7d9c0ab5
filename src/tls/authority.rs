//! The certificate authority of an installation: one sealed record, made once, the same for all replicas.

use minicbor::{Decode, Encode};

use crate::crypto::{
    CertificateAuthority, CryptoError, Header, InstallationId, Leaf, RecordType, SealingKey, seal,
};
use crate::model::{SecretBytes, UnixSeconds, VaultUuid};
use crate::store::{Record, RecordName, SealedStore, StoreError};

use super::TlsError;

/// The record's name. It tells nothing: every installation has an authority.
const NAME: &str = "certificate-authority";
/// How often making the record is tried against other replicas that do the same.
const ATTEMPTS: usize = 4;

/// The authority that signs, and everything that clients are to trust.
#[derive(Debug)]
pub struct Authority {
    issuer: CertificateAuthority,
    bundle: String,
}

/// The record's payload. The numbers stand in stored data.
#[derive(Encode, Decode)]
struct Stored<'a> {
    /// The authority that signs.
    #[cbor(b(0), with = "minicbor::bytes")]
    issuer: &'a [u8],
    /// Certificates, in PEM, of others that clients trust too: one that has just been replaced, or is about to sign.
    #[n(1)]
    others: Vec<String>,
}

impl Authority {
    /// Reads the installation's authority, or makes it where there is none. Of replicas that make one at the same time one
    /// succeeds, and the others read what it made. `permitted` is what a new one may sign ([`super::HostRule::permitted`]).
    ///
    /// # Errors
    /// [`TlsError::ReadAuthority`], [`TlsError::WriteAuthority`], [`TlsError::OpenAuthority`], [`TlsError::MakeAuthority`]. An authority
    /// that is there and does not open is never replaced.
    pub async fn load_or_create(
        store: &dyn SealedStore,
        sealing: &SealingKey,
        installation: &InstallationId,
        permitted: &[String],
        now: UnixSeconds,
    ) -> Result<Self, TlsError> {
        let name =
            RecordName::parse(NAME).map_err(|_| TlsError::MakeAuthority(CryptoError::NotAnAuthority))?;
        let mut refused = StoreError::Unavailable;
        for _ in 0..ATTEMPTS {
            if let Some(record) = store.get(&name).await.map_err(TlsError::ReadAuthority)? {
                let authority = Self::open(sealing, installation, &record)?;
                if !permitted.iter().all(|subtree| authority.issuer.may_sign(subtree)) {
                    tracing::warn!(
                        "the certificate authority was made for other domains: hosts outside them get no certificate until it is \
                         replaced"
                    );
                }
                return Ok(authority);
            }
            let (authority, envelope) = Self::make(sealing, installation, permitted, now)?;
            match store.create(&name, envelope.into()).await {
                Ok(_) => return Ok(authority),
                // Another replica was quicker, or it may have been written: the record tells.
                Err(error @ (StoreError::AlreadyExists | StoreError::Unknown)) => refused = error,
                Err(error) => return Err(TlsError::WriteAuthority(error)),
            }
        }
        Err(TlsError::WriteAuthority(refused))
    }

    /// Everything that clients are to trust: PEM, one certificate or, while an authority is being replaced, several.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle
    }

    pub(super) fn issue_leaf(&self, host: &str, now: UnixSeconds) -> Result<Leaf, TlsError> {
        self.issuer.issue_leaf(host, now).map_err(TlsError::IssueLeaf)
    }

    #[cfg(test)]
    pub(super) const fn issuer(&self) -> &CertificateAuthority {
        &self.issuer
    }

    fn make(
        sealing: &SealingKey,
        installation: &InstallationId,
        permitted: &[String],
        now: UnixSeconds,
    ) -> Result<(Self, Vec<u8>), TlsError> {
        let permitted: Vec<&str> = permitted.iter().map(String::as_str).collect();
        let issuer = CertificateAuthority::generate(now, &permitted).map_err(TlsError::MakeAuthority)?;
        let payload = payload(&issuer, &[]).map_err(TlsError::MakeAuthority)?;
        let header = Header {
            record_type: RecordType::CertificateAuthority,
            vault: VaultUuid([0; 16]),
            incarnation: [0; 16],
            term: sealing.term(),
            rev: 1,
        };
        let envelope = seal::seal(sealing, installation, &header, NAME, payload.expose())
            .map_err(TlsError::MakeAuthority)?;
        Ok((Self::assemble(issuer, &[]), envelope))
    }

    fn open(sealing: &SealingKey, installation: &InstallationId, record: &Record) -> Result<Self, TlsError> {
        let (_, payload) = seal::open(
            sealing,
            installation,
            RecordType::CertificateAuthority,
            NAME,
            &record.envelope,
        )
        .map_err(TlsError::OpenAuthority)?;
        let stored: Stored<'_> = minicbor::decode(payload.expose())
            .map_err(|_| TlsError::OpenAuthority(CryptoError::NotAnAuthority))?;
        let issuer = SecretBytes::new(stored.issuer.to_vec());
        let issuer = CertificateAuthority::from_bytes(&issuer).map_err(TlsError::OpenAuthority)?;
        Ok(Self::assemble(issuer, &stored.others))
    }

    fn assemble(issuer: CertificateAuthority, others: &[String]) -> Self {
        let mut bundle = issuer.certificate_pem().to_owned();
        bundle.extend(others.iter().map(String::as_str));
        Self { issuer, bundle }
    }
}

/// The payload, in a buffer that is large enough from the start, so that it is not moved with a key in it.
fn payload(issuer: &CertificateAuthority, others: &[String]) -> Result<SecretBytes, CryptoError> {
    let issuer = issuer.to_bytes()?;
    let stored = Stored {
        issuer: issuer.expose(),
        others: others.to_vec(),
    };
    let mut bytes =
        Vec::with_capacity(64 + issuer.len() + others.iter().map(|pem| pem.len() + 9).sum::<usize>());
    minicbor::encode(&stored, &mut bytes).map_err(|_| CryptoError::NotAnAuthority)?;
    Ok(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;
    use crate::store::memory::MemoryStore;
    use crate::store::{Stamp, StoreEvent};
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use futures::stream::BoxStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
    const HERE: InstallationId = InstallationId([1; 16]);

    fn name() -> RecordName {
        RecordName::parse(NAME).unwrap()
    }

    async fn load(store: &dyn SealedStore, root: &RootKey) -> Result<Authority, TlsError> {
        let permitted = ["svc".to_owned(), "svc.cluster.local".to_owned()];
        Authority::load_or_create(store, &root.sealing_key(), &HERE, &permitted, NOW).await
    }

    #[tokio::test]
    async fn all_replicas_and_all_restarts_have_the_same_authority() {
        let (store, root) = (MemoryStore::new(), RootKey::generate().unwrap());
        let first = load(&store, &root).await.unwrap();
        let later = load(&store, &root).await.unwrap();
        assert_eq!(first.bundle_pem(), later.bundle_pem());
        assert_eq!(
            first.bundle_pem().matches("-----BEGIN CERTIFICATE-----").count(),
            1
        );
        assert!(later.issue_leaf("demo.team.svc", NOW).is_ok());
        assert_eq!(store.list().await.unwrap().0.len(), 1);
    }

    #[tokio::test]
    async fn of_replicas_that_start_at_once_all_end_with_the_same_authority() {
        let (store, root) = (MemoryStore::new(), RootKey::generate().unwrap());
        let loaded = futures::future::join_all((0..8).map(|_| load(&store, &root))).await;
        let bundles: std::collections::BTreeSet<_> = loaded
            .into_iter()
            .map(|it| it.unwrap().bundle_pem().to_owned())
            .collect();
        assert_eq!(bundles.len(), 1);
    }

    #[tokio::test]
    async fn an_authority_that_does_not_open_is_an_error_and_stays() {
        let (store, root) = (MemoryStore::new(), RootKey::generate().unwrap());
        load(&store, &root).await.unwrap();
        let before = store.get(&name()).await.unwrap();
        let refused = load(&store, &RootKey::generate().unwrap()).await;
        assert!(matches!(
            refused,
            Err(TlsError::OpenAuthority(CryptoError::DoesNotOpen))
        ));
        assert_eq!(store.get(&name()).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_bundle_may_hold_several_certificates() {
        let (store, root) = (MemoryStore::new(), RootKey::generate().unwrap());
        let others = [CertificateAuthority::generate(NOW, &["svc"])
            .unwrap()
            .certificate_pem()
            .to_owned()];
        let issuer = CertificateAuthority::generate(NOW, &["svc"]).unwrap();
        let header = Header {
            record_type: RecordType::CertificateAuthority,
            vault: VaultUuid([0; 16]),
            incarnation: [0; 16],
            term: 1,
            rev: 2,
        };
        let payload = payload(&issuer, &others).unwrap();
        let envelope = seal::seal(&root.sealing_key(), &HERE, &header, NAME, payload.expose()).unwrap();
        store.create(&name(), envelope.into()).await.unwrap();
        let loaded = load(&store, &root).await.unwrap();
        assert_eq!(
            loaded.bundle_pem(),
            [issuer.certificate_pem(), &others[0]].concat()
        );
    }

    /// What becomes of a creation.
    #[derive(Clone, Copy, PartialEq)]
    enum Trouble {
        /// It is made, and the answer gets lost.
        Unheard,
        /// It is not made, and nobody says so.
        Lost,
        /// Another replica is quicker, once.
        Overtaken,
    }

    /// A store that gets every creation into trouble.
    struct Troubled {
        store: MemoryStore,
        trouble: Trouble,
        rival: Bytes,
        creations: AtomicUsize,
    }

    impl SealedStore for Troubled {
        fn create<'a>(
            &'a self,
            name: &'a RecordName,
            envelope: Bytes,
        ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
            Box::pin(async move {
                self.creations.fetch_add(1, Ordering::Relaxed);
                match self.trouble {
                    Trouble::Unheard => self
                        .store
                        .create(name, envelope)
                        .await
                        .and(Err(StoreError::Unknown)),
                    Trouble::Lost => Err(StoreError::Unknown),
                    Trouble::Overtaken => {
                        self.store.create(name, self.rival.clone()).await?;
                        self.store.create(name, envelope).await
                    }
                }
            })
        }
        fn update<'a>(
            &'a self,
            name: &'a RecordName,
            expected: &'a Stamp,
            envelope: Bytes,
        ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
            self.store.update(name, expected, envelope)
        }
        fn delete<'a>(
            &'a self,
            name: &'a RecordName,
            expected: &'a Stamp,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            self.store.delete(name, expected)
        }
        fn get<'a>(&'a self, name: &'a RecordName) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
            self.store.get(name)
        }
        fn list(&self) -> BoxFuture<'_, Result<(Vec<Record>, u64), StoreError>> {
            self.store.list()
        }
        fn watch(&self, from: u64) -> BoxStream<'static, Result<StoreEvent, StoreError>> {
            self.store.watch(from)
        }
    }

    #[tokio::test]
    async fn after_an_answer_that_got_lost_and_after_a_race_the_record_decides() {
        let root = RootKey::generate().unwrap();
        let (rival, envelope) = Authority::make(&root.sealing_key(), &HERE, &[], NOW).unwrap();
        let troubled = |trouble| Troubled {
            store: MemoryStore::new(),
            trouble,
            rival: envelope.clone().into(),
            creations: AtomicUsize::new(0),
        };

        let unheard = troubled(Trouble::Unheard);
        let loaded = load(&unheard, &root).await.unwrap();
        assert_eq!(
            loaded.bundle_pem(),
            load(&unheard.store, &root).await.unwrap().bundle_pem()
        );

        let overtaken = load(&troubled(Trouble::Overtaken), &root).await.unwrap();
        assert_eq!(overtaken.bundle_pem(), rival.bundle_pem());

        let lost = troubled(Trouble::Lost);
        let refused = load(&lost, &root).await;
        assert!(matches!(
            refused,
            Err(TlsError::WriteAuthority(StoreError::Unknown))
        ));
        assert_eq!(lost.creations.load(Ordering::Relaxed), ATTEMPTS);
    }
}
