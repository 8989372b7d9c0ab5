//! Vaults under names of the platform's own: which domains are whose, and the certificates that the platform brings for them.
//!
//! Our own authority may sign for names inside the cluster alone, so whoever assigns a domain brings a certificate for
//! `*.<domain>`. It is read again and again, so that a renewed one is served without a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::model::Namespace;

use super::TlsError;
use super::host::folded;

/// Names of files, as in a Secret of type `kubernetes.io/tls`.
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A domain that the platform assigned to a namespace: `<vault>.<domain>` is that namespace's vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalDomain {
    domain: Arc<str>,
    namespace: Namespace,
}

/// Why something is no domain that can be assigned. Never shows what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDomain {
    /// Not of the form.
    #[error("an external domain is written as <domain>=<namespace>, such as vaults.example.com=shop")]
    Form,
    /// No domain.
    #[error(
        "an external domain has at least two labels of a-z, 0-9 and '-', parted by dots, in lower case, and at most 200 characters"
    )]
    Domain,
    /// A namespace that cannot be.
    #[error("an external domain is assigned to a namespace, by its name")]
    Namespace,
    /// A domain in which names have a meaning already.
    #[error("names that end with svc, with the cluster's domain or with localhost are not to be assigned")]
    Reserved,
    /// One domain, two owners.
    #[error("an external domain is assigned once")]
    Twice,
}

impl ExternalDomain {
    /// Reads `<domain>=<namespace>` of each.
    ///
    /// # Errors
    /// [`BadDomain`].
    pub fn parse_all(texts: &[String], cluster_domain: &str) -> Result<Vec<Self>, BadDomain> {
        let cluster_domain = folded(cluster_domain);
        let mut domains: Vec<Self> = Vec::new();
        for text in texts {
            let domain = Self::parse(text, &cluster_domain)?;
            if domains.iter().any(|other| other.domain == domain.domain) {
                return Err(BadDomain::Twice);
            }
            domains.push(domain);
        }
        Ok(domains)
    }

    fn parse(text: &str, cluster_domain: &str) -> Result<Self, BadDomain> {
        let (domain, namespace) = text.split_once('=').ok_or(BadDomain::Form)?;
        // Names of namespaces are labels of DNS (RFC 1123).
        let label = |label: &str| Namespace::parse(label).is_ok();
        if domain.len() > 200 || !domain.contains('.') || !domain.split('.').all(label) {
            return Err(BadDomain::Domain);
        }
        let under = |parent: &str| {
            domain == parent
                || domain
                    .strip_suffix(parent)
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        if ["svc", cluster_domain, "localhost"].into_iter().any(under) {
            return Err(BadDomain::Reserved);
        }
        Ok(Self {
            domain: domain.into(),
            namespace: Namespace::parse(namespace).map_err(|_| BadDomain::Namespace)?,
        })
    }

    /// The parent of its vaults' hosts.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whose vaults they are.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// The certificates of external domains, as they were read last.
#[derive(Debug, Default)]
pub struct ExternalCertificates {
    folder: PathBuf,
    domains: Vec<ExternalDomain>,
    loaded: ArcSwap<HashMap<Arc<str>, Arc<CertifiedKey>>>,
}

impl ExternalCertificates {
    /// `<folder>/<domain>/tls.crt` and `tls.key` for each domain. Nothing is read yet.
    #[must_use]
    pub fn new(folder: PathBuf, domains: Vec<ExternalDomain>) -> Self {
        Self {
            folder,
            domains,
            loaded: ArcSwap::default(),
        }
    }

    /// Reads all of them. One that cannot be read, or does not fit its key, leaves what was there before; it is handed back with
    /// its domain. Reads files: not for a thread that others wait for.
    pub fn load(&self) -> Vec<(Arc<str>, TlsError)> {
        let mut loaded = (**self.loaded.load()).clone();
        let mut failed = Vec::new();
        for ExternalDomain { domain, .. } in &self.domains {
            match read(&self.folder.join(&**domain)) {
                Ok(key) => {
                    loaded.insert(Arc::clone(domain), Arc::new(key));
                }
                Err(error) => failed.push((Arc::clone(domain), error)),
            }
        }
        self.loaded.store(Arc::new(loaded));
        failed
    }

    /// The certificate for hosts of this domain.
    pub(super) fn of(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        self.loaded.load().get(domain).map(Arc::clone)
    }
}

fn read(folder: &Path) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(folder.join(CHAIN))
        .and_then(Iterator::collect)
        .map_err(TlsError::ReadExternal)?;
    let key = PrivateKeyDer::from_pem_file(folder.join(KEY)).map_err(TlsError::ReadExternal)?;
    let key = any_supported_type(&key).map_err(TlsError::LoadLeaf)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Some keys can't tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(TlsError::LoadLeaf(error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_domain_is_assigned_to_one_namespace_and_none_that_has_a_meaning_already() {
        for (text, expected) in [
            ("vaults.example.com=shop", Ok(("vaults.example.com", "shop"))),
            ("a.b=n", Ok(("a.b", "n"))),
            ("vaults.example.com", Err(BadDomain::Form)),
            ("", Err(BadDomain::Form)),
            ("=shop", Err(BadDomain::Domain)),
            ("example=shop", Err(BadDomain::Domain)),
            ("Vaults.example.com=shop", Err(BadDomain::Domain)),
            ("*.example.com=shop", Err(BadDomain::Domain)),
            (".example.com=shop", Err(BadDomain::Domain)),
            ("example.com.=shop", Err(BadDomain::Domain)),
            ("../example.com=shop", Err(BadDomain::Domain)),
            ("vaults.example.com=", Err(BadDomain::Namespace)),
            ("vaults.example.com=a/b", Err(BadDomain::Namespace)),
            ("shop.svc=shop", Err(BadDomain::Reserved)),
            ("shop.svc.cluster.local=shop", Err(BadDomain::Reserved)),
            ("cluster.local=shop", Err(BadDomain::Reserved)),
            ("vault.localhost=shop", Err(BadDomain::Reserved)),
            ("notsvc.net=shop", Ok(("notsvc.net", "shop"))),
        ] {
            let parsed = ExternalDomain::parse(text, "cluster.local");
            let parsed = parsed.as_ref().map(|it| (it.domain(), it.namespace().as_str()));
            assert_eq!(parsed, expected.as_ref().copied(), "{text}");
        }
        let twice = ["a.example.com=one".to_owned(), "a.example.com=two".to_owned()];
        assert_eq!(
            ExternalDomain::parse_all(&twice, "cluster.local"),
            Err(BadDomain::Twice)
        );
        let inside = ["team.cluster.local=shop".to_owned()];
        assert_eq!(
            ExternalDomain::parse_all(&inside, "Cluster.Local."),
            Err(BadDomain::Reserved),
            "however the cluster's domain is written"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_none_leaves_the_folder(text in "\\PC{0,80}|[a-z0-9./=-]{0,60}") {
            if let Ok(parsed) = ExternalDomain::parse(&text, "cluster.local") {
                prop_assert!(!parsed.domain().contains('/') && !parsed.domain().contains(".."));
            }
        }
    }
}
