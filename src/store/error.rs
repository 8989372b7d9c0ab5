//! What a store answers when it does not do as asked.

use crate::model::Kind;

/// Why a store did not do as asked. No variant tells more than the caller may act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The record is no longer the expected one. Surely not done.
    #[error("the record has changed since it was read")]
    Conflict,
    /// A record of that name exists. Surely not done.
    #[error("a record of that name exists")]
    AlreadyExists,
    /// There is no record of that name. Surely not done.
    #[error("there is no record of that name")]
    NotFound,
    /// The envelope is larger than the store takes. Surely not done.
    #[error("the record is larger than the store takes")]
    TooLarge,
    /// The store has no room left. Surely not done.
    #[error("the store is full")]
    Full,
    /// The revision asked for is gone: list again.
    #[error("the revision to watch from is no longer kept")]
    Expired,
    /// The store cannot be reached or refuses for now. Surely not done.
    #[error("the store is not available")]
    Unavailable,
    /// No answer came: it may or may not have been done.
    #[error("the store did not say whether the change was made")]
    Unknown,
}

impl StoreError {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Conflict | Self::AlreadyExists => Kind::Conflict,
            Self::NotFound => Kind::NotFound,
            Self::TooLarge => Kind::Invalid,
            Self::Full => Kind::Throttled,
            Self::Expired | Self::Unavailable | Self::Unknown => Kind::Unavailable,
        }
    }
}
