//! What can fail in this room.

use crate::crypto::CryptoError;
use crate::model::Kind;
use crate::store::StoreError;

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's record could not be read.
    #[error("the certificate authority's record could not be read")]
    ReadAuthority(#[source] StoreError),
    /// The authority's record could not be written.
    #[error("the certificate authority's record could not be written")]
    WriteAuthority(#[source] StoreError),
    /// The authority's record does not open, or holds no authority.
    #[error("the certificate authority's record could not be opened")]
    OpenAuthority(#[source] CryptoError),
    /// No authority could be made.
    #[error("a certificate authority could not be made")]
    MakeAuthority(#[source] CryptoError),
    /// A host that is not served here.
    #[error("this host is not served here")]
    NotServed,
    /// No certificate could be made for a host.
    #[error("a certificate could not be made")]
    IssueLeaf(#[source] CryptoError),
    /// A certificate of the platform's own could not be read.
    #[error("its certificate (tls.crt) or key (tls.key) could not be read: {0}")]
    ReadExternal(#[source] rustls::pki_types::pem::Error),
    /// A domain of the platform's own whose certificate was never read.
    #[error("there is no certificate for this domain")]
    NoExternal,
    /// A certificate was made or read that the TLS library does not take.
    #[error("a certificate could not be loaded: {0}")]
    LoadLeaf(#[source] rustls::Error),
    /// The server's configuration could not be made.
    #[error("the TLS server could not be configured")]
    Configure(#[source] rustls::Error),
}

impl TlsError {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ReadAuthority(error) | Self::WriteAuthority(error) => error.kind(),
            Self::OpenAuthority(error) | Self::MakeAuthority(error) | Self::IssueLeaf(error) => error.kind(),
            Self::NotServed => Kind::Invalid,
            Self::ReadExternal(_) | Self::NoExternal => Kind::Unavailable,
            Self::LoadLeaf(_) | Self::Configure(_) => Kind::Internal,
        }
    }
}
