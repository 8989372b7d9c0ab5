//! The certificate for each handshake: minted when a host is first asked for, kept in memory, renewed at half its life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::model::{Clock, UnixSeconds};

use super::{Authority, ExternalCertificates, HostRule, TlsError};

/// How many hosts have a certificate in memory at most (about 2 KiB each); beyond that the oldest goes.
pub const MOST_LEAVES: usize = 1024;

/// Chooses the certificate of a handshake. A host that has one is found without a lock in a persistent map; a host that has
/// none, and that the rule accepts, costs one key pair and one signature.
pub struct TlsResolver {
    authority: Arc<Authority>,
    rule: HostRule,
    clock: Clock,
    leaves: ArcSwap<imbl::HashMap<Arc<str>, Arc<Minted>>>,
    external: Arc<ExternalCertificates>,
}

/// A certificate in memory.
#[derive(Debug)]
struct Minted {
    key: Arc<CertifiedKey>,
    made: UnixSeconds,
    expires: UnixSeconds,
    /// Somebody is at making its successor.
    being_renewed: AtomicBool,
}

impl Minted {
    /// In the first half of its life. Before it was made it isn't: the clock was set back, and clients may not accept it yet.
    const fn is_fresh(&self, now: UnixSeconds) -> bool {
        self.made.0 <= now.0 && now.0 - self.made.0 < (self.expires.0 - self.made.0) / 2
    }

    const fn is_valid(&self, now: UnixSeconds) -> bool {
        self.made.0 <= now.0 && now.0 < self.expires.0
    }
}

impl TlsResolver {
    /// A resolver for the hosts of one listener.
    #[must_use]
    pub fn new(authority: Arc<Authority>, rule: HostRule, clock: Clock) -> Self {
        Self {
            authority,
            rule,
            clock,
            leaves: ArcSwap::default(),
            external: Arc::default(),
        }
    }

    /// The same, with what the platform brought for domains of its own.
    #[must_use]
    pub fn and_external(self, external: Arc<ExternalCertificates>) -> Self {
        Self { external, ..self }
    }

    /// The certificate for a host, from memory or made now.
    ///
    /// # Errors
    /// [`TlsError::NotServed`], [`TlsError::NoExternal`], [`TlsError::IssueLeaf`], [`TlsError::LoadLeaf`].
    pub fn leaf(&self, host: &str) -> Result<Arc<CertifiedKey>, TlsError> {
        if let Some((_, domain)) = self.rule.external(host) {
            return self.external.of(domain.domain()).ok_or(TlsError::NoExternal);
        }
        let now = self.clock.now().wall;
        let leaves = self.leaves.load();
        let Some(minted) = leaves.get(host) else {
            return self.mint(host, now);
        };
        if minted.is_fresh(now) {
            return Ok(Arc::clone(&minted.key));
        }
        if !minted.is_valid(now) {
            return self.mint(host, now);
        }
        // One handshake makes the successor, the others go on with what there is; so does that one if it fails.
        if !minted.being_renewed.swap(true, Ordering::AcqRel) {
            let renewed = self.mint(host, now);
            minted.being_renewed.store(false, Ordering::Release);
            match renewed {
                Ok(key) => return Ok(key),
                Err(error) => tracing::error!(error = %error, "a certificate could not be renewed"),
            }
        }
        Ok(Arc::clone(&minted.key))
    }

    fn mint(&self, host: &str, now: UnixSeconds) -> Result<Arc<CertifiedKey>, TlsError> {
        if !self.rule.accepts(host) {
            return Err(TlsError::NotServed);
        }
        let leaf = self.authority.issue_leaf(host, now)?;
        let chain = leaf.chain_der.into_iter().map(CertificateDer::from).collect();
        // Borrowed: the TLS library would not wipe a copy of the key.
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key_der.expose()));
        let key = CertifiedKey::new(chain, any_ecdsa_type(&key).map_err(TlsError::LoadLeaf)?);
        let minted = Arc::new(Minted {
            key: Arc::new(key),
            made: now,
            expires: leaf.not_after,
            being_renewed: AtomicBool::new(false),
        });
        let host: Arc<str> = host.into();
        self.leaves.rcu(|leaves| {
            let mut leaves = (**leaves).clone();
            if leaves.len() >= MOST_LEAVES && !leaves.contains_key(&host) {
                let oldest = leaves
                    .iter()
                    .min_by_key(|(_, minted)| minted.made)
                    .map(|(host, _)| Arc::clone(host));
                if let Some(oldest) = oldest {
                    leaves.remove(&oldest);
                }
            }
            leaves.insert(Arc::clone(&host), Arc::clone(&minted));
            leaves
        });
        Ok(Arc::clone(&minted.key))
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.leaves.load().len()
    }
}

impl ResolvesServerCert for TlsResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = client_hello.server_name().or_else(|| self.rule.without_name())?;
        match self.leaf(host) {
            Ok(key) => Some(key),
            // Without its certificate a domain is told of where it is read, not at each handshake.
            Err(TlsError::NotServed | TlsError::NoExternal) => None,
            Err(error) => {
                tracing::error!(error = %error, "a certificate could not be made");
                None
            }
        }
    }
}

impl std::fmt::Debug for TlsResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsResolver")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
