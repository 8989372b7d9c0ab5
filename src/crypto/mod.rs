//! Seal, keyring, the root key's file, random, JOSE, X.509: the only room that names cryptographic crates.
//!
//! # Why
//! - Every sealed record has a key of its own, derived with a fresh salt, so no key is ever used twice and no counter of
//!   uses is needed; what a record is (installation, vault, type, name, incarnation, term, rev) is bound into it, so that a
//!   record which was moved, renamed or rolled back to another place does not open.
//! - Key material lives in types that are wiped when dropped and can't be printed.
//! - Tokens are verified with listed asymmetric algorithms only, and only with the one that fits the key.

mod error;
pub mod jose;
pub mod keyring;
pub mod mac;
mod pem;
pub mod random;
pub mod root_key_file;
pub mod seal;
pub mod x509;

pub use error::CryptoError;
pub use jose::{IssuerKey, JwkSet, SigningAlgorithm, TokenHeader, VerificationKey};
pub use keyring::{BackupKey, InstallationId, RootKey, SealingKey, VaultKey};
pub use mac::NamingKey;
pub use root_key_file::{RootKeyFile, RootKeyFileError};
pub use seal::{Header, RecordType};
pub use x509::{CertificateAuthority, Leaf};
