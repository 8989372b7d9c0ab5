//! The TLS server's configuration.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

use super::{TlsError, TlsResolver};

/// Makes aws-lc the process's provider of cryptography for TLS. Does nothing where there is one already, so it may be called
/// again and again; `main` and tests call it first.
pub fn install_crypto_provider() {
    // The error says that a provider is installed already.
    let _ = default_provider().install_default();
}

/// A server for TLS 1.3 and 1.2, every cipher suite with forward secrecy and authenticated encryption, post-quantum key exchange
/// preferred, no client certificates. `alpn` lists the application protocols, the preferred first. Sessions are resumed by
/// tickets, sealed under keys of this process that rotate every 6 hours: no memory for each session, no early data.
///
/// # Errors
/// [`TlsError::Configure`].
pub fn server_config(resolver: Arc<TlsResolver>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Configure)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.ticketer = Ticketer::new().map_err(TlsError::Configure)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
