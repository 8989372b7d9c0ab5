//! What can go wrong with the record.

use crate::model::Kind;

/// Why something is not on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be written, or not in time: the disk is full, read-only, gone or too slow. It heals by itself.
    #[error("the audit log cannot be written")]
    Unavailable,
}

impl AuditError {
    /// [`Kind::Unavailable`].
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Unavailable => Kind::Unavailable,
        }
    }
}

/// Why the audit log could not be started. A disk that is full or away is no such reason: the log starts and heals.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No random bytes for the ids of this process's records.
    #[error("the ids of audit records could not be made")]
    Ids(#[source] crate::crypto::CryptoError),
    /// A writer thread.
    #[error("a writer thread of the audit log could not be started")]
    Thread(#[source] std::io::Error),
}
