//! The trust bundle: which certificate authorities the listener's certificate may come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

use super::ClientError;

/// Where the trust bundle (PEM) comes from. It is read at each connection, so a rotated one needs no restart.
#[derive(Debug, Clone)]
pub struct Trust(Source);

#[derive(Debug, Clone)]
enum Source {
    File(Arc<Path>),
    Handed(Arc<ArcSwapOption<Vec<u8>>>),
}

impl Trust {
    /// A file, as a mounted ConfigMap has it.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self(Source::File(path.into()))
    }

    /// Handed over by [`Trust::hand`], as `operate` does with what it reads from the API server.
    #[must_use]
    pub fn handed() -> Self {
        Self(Source::Handed(Arc::default()))
    }

    /// Hands a bundle over; every clone has it. Without effect on [`Trust::file`].
    pub fn hand(&self, pem: Vec<u8>) {
        if let Source::Handed(bundle) = &self.0 {
            bundle.store(Some(Arc::new(pem)));
        }
    }

    /// The TLS configuration of a client that trusts this bundle and nothing else.
    pub(super) async fn config(&self) -> Result<ClientConfig, ClientError> {
        let pem = match &self.0 {
            Source::File(path) => Arc::new(tokio::fs::read(path).await.map_err(ClientError::NoTrust)?),
            Source::Handed(bundle) => bundle
                .load_full()
                .ok_or_else(|| ClientError::NoTrust(std::io::ErrorKind::NotFound.into()))?,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| ClientError::BadTrust)?;
            roots.add(certificate).map_err(|_| ClientError::BadTrust)?;
        }
        if roots.is_empty() {
            return Err(ClientError::BadTrust);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| ClientError::BadTrust)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bundle_that_is_not_there_yet_is_no_defect() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Trust::file(folder.path().join("ca.crt")).config().await;
        assert!(matches!(missing, Err(ClientError::NoTrust(_))));
        assert!(matches!(
            Trust::handed().config().await,
            Err(ClientError::NoTrust(_))
        ));
    }

    #[tokio::test]
    async fn a_bundle_without_a_certificate_is_refused() {
        for pem in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let trust = Trust::handed();
            trust.clone().hand(pem.as_bytes().to_vec());
            assert!(
                matches!(trust.config().await, Err(ClientError::BadTrust)),
                "{pem}"
            );
        }
    }
}
