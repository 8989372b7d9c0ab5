//! Why the engine did not do as asked.

use crate::crypto::CryptoError;
use crate::model::{Kind, ObjectName, QuotaOf, QuotaScope, VaultId, Version};
use crate::store::{RecordName, StoreError};

/// Why an operation was not done. Messages are for the caller: they hold names at most, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No live secret of this name.
    #[error(
        "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret you may be \
         able to recover it using the correct recovery command."
    )]
    SecretNotFound {
        /// The name asked for.
        name: ObjectName,
    },
    /// The secret has no such version.
    #[error("A secret with (name/id) {name}/{version} was not found in this key vault.")]
    SecretVersionNotFound {
        /// The name asked for.
        name: ObjectName,
        /// The version asked for.
        version: Version,
    },
    /// No deleted secret of this name.
    #[error("Deleted Secret not found: {name}")]
    DeletedSecretNotFound {
        /// The name asked for.
        name: ObjectName,
    },
    /// The version is disabled.
    #[error("Operation get is not allowed on a disabled secret.")]
    SecretDisabled,
    /// The version's `nbf` is still to come.
    #[error("Operation get is not allowed on a secret that is not yet valid.")]
    SecretNotYetValid,
    /// The version's `exp` has passed.
    #[error("Operation get is not allowed on an expired secret.")]
    SecretExpired,
    /// The name belongs to a deleted secret.
    #[error(
        "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, \
         the secret can only be recovered or purged."
    )]
    ObjectIsDeletedButRecoverable {
        /// The name asked for.
        name: ObjectName,
    },
    /// A purge of the name has begun and not ended.
    #[error("Secret {name} is currently being deleted; purge it again to end what was begun.")]
    ObjectIsBeingDeleted {
        /// The name asked for.
        name: ObjectName,
    },
    /// A backup is restored only where its name is free.
    #[error("Secret {name} already exists in this vault; a backup is restored only where its name is free.")]
    SecretExists {
        /// The name in the backup.
        name: ObjectName,
    },
    /// It was not made here for this namespace, or was changed.
    #[error(
        "Malformed backup blob: it was changed or cut, or made by another installation or in another namespace than \
         this vault's."
    )]
    BackupMalformed,
    /// More than [`crate::engine::MAX_BACKUP_VERSIONS`].
    #[error("The secret has {count} versions; at most {limit} can be backed up.")]
    BackupTooManyVersions {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Longer than [`crate::engine::MAX_BACKUP`].
    #[error(
        "A backup of the secret with all its versions would take {size} bytes; at most {limit} are possible."
    )]
    BackupTooLarge {
        /// Bytes that it would take.
        size: usize,
        /// Bytes that it may take.
        limit: usize,
    },
    /// The vault's purge protection is on.
    #[error(
        "Operation \"purge\" is not allowed because purge protection is enabled for this vault. The secret is purged by \
         itself after the retention period has passed."
    )]
    PurgeProtected,
    /// Longer than [`crate::engine::MAX_VALUE`].
    #[error("The secret's value is longer than 25 KB.")]
    ValueTooLarge,
    /// Longer than [`crate::engine::MAX_CONTENT_TYPE`].
    #[error("The content type is longer than 255 characters.")]
    ContentTypeTooLong,
    /// More than [`crate::engine::MAX_TAGS`].
    #[error("There are more than 15 tags.")]
    TooManyTags,
    /// A side is longer than [`crate::engine::MAX_TAG`].
    #[error("The name or the value of a tag is longer than 512 characters.")]
    TagTooLong,
    /// A generated value of another length than 16 to 1024 characters was asked for.
    #[error("A generated value has 16 to 1024 characters.")]
    GeneratedLength,
    /// A page of another size than 1 to 25 was asked for.
    #[error("maxresults is a number from 1 to 25.")]
    PageSize,
    /// The skip token was not made here for this list, or was changed.
    #[error("The skip token is not valid for this list.")]
    SkipTokenInvalid,
    /// All versions of the object together are too large.
    #[error(
        "All versions of this object together would take {size} bytes; at most {limit} are possible. Store the next \
         value under another name."
    )]
    HeadTooLarge {
        /// Bytes it would take, sealed.
        size: usize,
        /// Bytes it may take.
        limit: usize,
    },
    /// The object has as many versions as it may have.
    #[error(
        "The object has {limit} versions, as many as it may have. Store the next value under another name."
    )]
    TooManyVersions {
        /// How many it may have.
        limit: usize,
    },
    /// Older versions, or a value, are not in memory yet. They are read and the question is asked again, so nobody is told
    /// of it but who asks of more than can be read at once.
    #[error("Parts of the object are still being read; try again.")]
    NotInMemory {
        /// A value's record; none: the pages of the object.
        part: Option<RecordName>,
    },
    /// A share of the store is used up.
    #[error(
        "Nothing more can be stored: of the {limit} {of} that {} may hold, {used} are used. Purge deleted secrets that \
         nobody needs, or ask the platform team to raise quotas.{}.",
        whole(*.scope), .scope.as_str()
    )]
    QuotaExceeded {
        /// Whose share.
        scope: QuotaScope,
        /// Of what.
        of: QuotaOf,
        /// How much is used.
        used: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The vault is purge-protected: it goes at its date and not before.
    #[error(
        "The vault is purge-protected: it is purged at its scheduled date, and by nobody before that. Recover it by applying \
         its Vault again in the same namespace."
    )]
    VaultPurgeProtected,
    /// Its purge has begun, so it does not come back; its name is free once that has ended.
    #[error("Vault {vault} is being purged; its name is free again once that has ended.")]
    VaultIsBeingPurged {
        /// The vault asked.
        vault: VaultId,
    },
    /// The vault has no head yet.
    #[error("Vault {vault} is not ready yet.")]
    VaultNotReady {
        /// The vault asked.
        vault: VaultId,
    },
    /// The stored record is not what this installation wrote last: it was changed, moved, rolled back or removed behind
    /// our back. The object is refused; all others work.
    #[error("The stored record of this object {0}; it is refused until it is restored.")]
    RecordDamaged(Damage),
    /// A newer version of Strongroom wrote the record in a form that this one must not change, or cannot read.
    #[error(
        "The stored record of this object was written by a newer version of Strongroom, in a form that this one does not \
         know; nothing was done. Try again once all replicas are of that version."
    )]
    NewerFormat,
    /// The store handed out a state older than one already seen: it was restored. Nothing is served from it.
    #[error("The store holds an older state than before; nothing is served until that is acknowledged.")]
    StoreRolledBack,
    /// Others changed the same object again and again. Nothing was done.
    #[error("The object is being changed by others at the moment; nothing was done.")]
    Contention,
    /// The change may or may not have been made.
    #[error("The store did not say whether the change was made; read the object to see.")]
    OutcomeUnknown,
    /// The purge was begun, so there is no way back, and could not be ended.
    #[error("The purge was begun and could not be ended for now; purge the secret again to end it.")]
    PurgeUnfinished,
    /// The store cannot be reached or has no room. Nothing was done.
    #[error("Nothing was done: {0}.")]
    Store(StoreError),
    /// Sealing or opening failed for a reason other than the record.
    #[error("An internal cryptographic operation failed.")]
    Crypto(#[source] CryptoError),
    /// A head could not be written down: a defect.
    #[error("The object could not be written down.")]
    Encode,
}

/// What is wrong with a stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Damage {
    /// It does not open here: its bytes were changed, or it is another place's record.
    #[error("does not open")]
    DoesNotOpen,
    /// It is older than one already seen.
    #[error("was rolled back")]
    RolledBack,
    /// It is another life of the name, and no receipt says that the one before was purged.
    #[error("was replaced by another")]
    Replaced,
    /// It is gone, and no receipt says that it was purged.
    #[error("is gone")]
    Vanished,
    /// Nothing is wrong with it, but this version cannot read it.
    #[error("was written by a newer version of Strongroom")]
    NewerFormat,
}

impl Damage {
    /// Whether somebody or something did harm to it.
    pub(super) const fn is_harm(self) -> bool {
        !matches!(self, Self::NewerFormat)
    }
}

impl Error {
    /// Why a record that is refused is refused.
    pub(super) const fn refused(damage: Damage) -> Self {
        match damage {
            Damage::NewerFormat => Self::NewerFormat,
            damage => Self::RecordDamaged(damage),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::SecretNotFound { .. }
            | Self::SecretVersionNotFound { .. }
            | Self::DeletedSecretNotFound { .. } => Kind::NotFound,
            Self::SecretDisabled
            | Self::SecretNotYetValid
            | Self::SecretExpired
            | Self::PurgeProtected
            | Self::VaultPurgeProtected => Kind::Denied,
            Self::ObjectIsDeletedButRecoverable { .. }
            | Self::ObjectIsBeingDeleted { .. }
            | Self::VaultIsBeingPurged { .. }
            | Self::SecretExists { .. } => Kind::Conflict,
            Self::ValueTooLarge
            | Self::ContentTypeTooLong
            | Self::TooManyTags
            | Self::TagTooLong
            | Self::GeneratedLength
            | Self::PageSize
            | Self::SkipTokenInvalid
            | Self::HeadTooLarge { .. }
            | Self::TooManyVersions { .. }
            | Self::BackupMalformed
            | Self::BackupTooManyVersions { .. }
            | Self::BackupTooLarge { .. } => Kind::Invalid,
            Self::QuotaExceeded { .. } => Kind::Throttled,
            Self::VaultNotReady { .. }
            | Self::NotInMemory { .. }
            | Self::NewerFormat
            | Self::StoreRolledBack
            | Self::Contention
            | Self::OutcomeUnknown
            | Self::PurgeUnfinished => Kind::Unavailable,
            Self::RecordDamaged(_) | Self::Crypto(_) | Self::Encode => Kind::Internal,
            Self::Store(error) => match error {
                StoreError::Full => Kind::Throttled,
                StoreError::Unavailable | StoreError::Unknown | StoreError::Expired => Kind::Unavailable,
                StoreError::Conflict
                | StoreError::AlreadyExists
                | StoreError::NotFound
                | StoreError::TooLarge => Kind::Internal,
            },
        }
    }

    /// Whether it depends on stored state, so that it is told only once a quorum read has confirmed it.
    pub(super) const fn rests_on_state(&self) -> bool {
        match self {
            Self::SecretNotFound { .. }
            | Self::SecretVersionNotFound { .. }
            | Self::DeletedSecretNotFound { .. }
            | Self::SecretDisabled
            | Self::SecretNotYetValid
            | Self::SecretExpired
            | Self::ObjectIsDeletedButRecoverable { .. }
            | Self::ObjectIsBeingDeleted { .. }
            | Self::PurgeProtected
            | Self::VaultPurgeProtected
            | Self::VaultIsBeingPurged { .. }
            | Self::SecretExists { .. }
            | Self::BackupTooManyVersions { .. }
            | Self::BackupTooLarge { .. }
            | Self::HeadTooLarge { .. }
            | Self::TooManyVersions { .. }
            | Self::VaultNotReady { .. }
            | Self::RecordDamaged(_)
            | Self::NewerFormat => true,
            Self::ValueTooLarge
            | Self::ContentTypeTooLong
            | Self::TooManyTags
            | Self::TagTooLong
            | Self::GeneratedLength
            | Self::PageSize
            | Self::SkipTokenInvalid
            | Self::BackupMalformed
            | Self::QuotaExceeded { .. }
            | Self::NotInMemory { .. }
            | Self::StoreRolledBack
            | Self::Contention
            | Self::OutcomeUnknown
            | Self::PurgeUnfinished
            | Self::Store(_)
            | Self::Crypto(_)
            | Self::Encode => false,
        }
    }
}

const fn whole(scope: QuotaScope) -> &'static str {
    match scope {
        QuotaScope::Vault => "this vault",
        QuotaScope::Namespace => "all vaults of this namespace",
        QuotaScope::Installation => "all vaults of this installation",
    }
}
