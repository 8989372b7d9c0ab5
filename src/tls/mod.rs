//! The server's side of TLS: the certificate authority, a leaf for each host, the trust bundle.
//!
//! # Why leaves are minted in memory
//! A vault's host exists as soon as its `Vault` does. Each replica signs the certificate for a host when the first client asks
//! for it, so nothing has to be issued, stored, mounted or renewed before a vault answers. The authority itself is one sealed
//! record, the same for all replicas.

mod authority;
mod error;
mod external;
mod host;
mod resolver;
mod server;
#[cfg(test)]
mod tests;

pub use authority::Authority;
pub use error::TlsError;
pub use external::{BadDomain, ExternalCertificates, ExternalDomain};
pub use host::HostRule;
pub use resolver::{MOST_LEAVES, TlsResolver};
pub use server::{install_crypto_provider, server_config};
