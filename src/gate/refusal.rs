//! Why a request was not done: a closed reason for the listeners' tables, and a text for the person who asked.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::audit::AuditError;
use crate::engine;
use crate::identity::Rejection;
use crate::model::{Caller, Kind, VaultId};
use crate::network;
use crate::policy::{self, Denial};
use crate::telemetry::metrics::Throttle;
use crate::world::OutOfStanding;

use super::rates::TooMuch;

/// Why. Each listener says it in its own protocol, by one table over these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "each is the reason that its name says; the rooms that give them tell more"
)]
pub enum Reason {
    MissingToken,
    MalformedToken,
    UnknownKey,
    BadSignature,
    WrongIssuer,
    WrongAudience,
    TokenExpired,
    TokenNotYetValid,
    UnusableToken,
    NotAlive,
    WrongAddress,
    IdentityUnavailable,
    NoSuchVault,
    NoPermission,
    NotReachable,
    NotOnList,
    SecretNotFound,
    SecretVersionNotFound,
    DeletedSecretNotFound,
    SecretDisabled,
    SecretNotYetValid,
    SecretExpired,
    PurgeProtected,
    ObjectIsDeletedButRecoverable,
    ObjectIsBeingDeleted,
    SecretExists,
    OutOfLimits,
    BackupMalformed,
    SkipTokenInvalid,
    Throttled,
    QuotaExceeded,
    VaultNotReady,
    OutOfStanding,
    StoreUnavailable,
    OutcomeUnknown,
    PurgeUnfinished,
    Contention,
    AuditUnavailable,
    NewerFormat,
    RecordDamaged,
    Internal,
}

impl Reason {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::MissingToken
            | Self::MalformedToken
            | Self::UnknownKey
            | Self::BadSignature
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::UnusableToken
            | Self::NotAlive
            | Self::WrongAddress => Kind::Unauthenticated,
            Self::NoPermission
            | Self::NotReachable
            | Self::NotOnList
            | Self::SecretDisabled
            | Self::SecretNotYetValid
            | Self::SecretExpired
            | Self::PurgeProtected => Kind::Denied,
            Self::NoSuchVault
            | Self::SecretNotFound
            | Self::SecretVersionNotFound
            | Self::DeletedSecretNotFound => Kind::NotFound,
            Self::ObjectIsDeletedButRecoverable | Self::ObjectIsBeingDeleted | Self::SecretExists => {
                Kind::Conflict
            }
            Self::OutOfLimits | Self::BackupMalformed | Self::SkipTokenInvalid => Kind::Invalid,
            Self::Throttled | Self::QuotaExceeded => Kind::Throttled,
            Self::IdentityUnavailable
            | Self::VaultNotReady
            | Self::OutOfStanding
            | Self::StoreUnavailable
            | Self::OutcomeUnknown
            | Self::PurgeUnfinished
            | Self::Contention
            | Self::AuditUnavailable
            | Self::NewerFormat => Kind::Unavailable,
            Self::RecordDamaged | Self::Internal => Kind::Internal,
        }
    }

    /// Its name in audit records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "MissingToken",
            Self::MalformedToken => "MalformedToken",
            Self::UnknownKey => "UnknownKey",
            Self::BadSignature => "BadSignature",
            Self::WrongIssuer => "WrongIssuer",
            Self::WrongAudience => "WrongAudience",
            Self::TokenExpired => "TokenExpired",
            Self::TokenNotYetValid => "TokenNotYetValid",
            Self::UnusableToken => "UnusableToken",
            Self::NotAlive => "NotAlive",
            Self::WrongAddress => "WrongAddress",
            Self::IdentityUnavailable => "IdentityUnavailable",
            Self::NoSuchVault => "NoSuchVault",
            Self::NoPermission => "NoPermission",
            Self::NotReachable => "NotReachable",
            Self::NotOnList => "NotOnList",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretVersionNotFound => "SecretVersionNotFound",
            Self::DeletedSecretNotFound => "DeletedSecretNotFound",
            Self::SecretDisabled => "SecretDisabled",
            Self::SecretNotYetValid => "SecretNotYetValid",
            Self::SecretExpired => "SecretExpired",
            Self::PurgeProtected => "PurgeProtected",
            Self::ObjectIsDeletedButRecoverable => "ObjectIsDeletedButRecoverable",
            Self::ObjectIsBeingDeleted => "ObjectIsBeingDeleted",
            Self::SecretExists => "SecretExists",
            Self::BackupMalformed => "BackupMalformed",
            Self::OutOfLimits => "OutOfLimits",
            Self::SkipTokenInvalid => "SkipTokenInvalid",
            Self::Throttled => "Throttled",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::VaultNotReady => "VaultNotReady",
            Self::OutOfStanding => "OutOfStanding",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::PurgeUnfinished => "PurgeUnfinished",
            Self::Contention => "Contention",
            Self::AuditUnavailable => "AuditUnavailable",
            Self::NewerFormat => "NewerFormat",
            Self::RecordDamaged => "RecordDamaged",
            Self::Internal => "Internal",
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The closed reason.
    pub reason: Reason,
    message: String,
    /// In how many seconds there may be room.
    wait: Option<u8>,
}

impl Refusal {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            wait: None,
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.reason.kind()
    }

    /// For the person who asked: names that were found to be names, and nothing else that was sent.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// In how many seconds trying again may help.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u8> {
        if self.wait.is_some() {
            return self.wait;
        }
        match self.kind() {
            Kind::Throttled => Some(5),
            Kind::Unavailable => Some(1),
            Kind::Unauthenticated
            | Kind::Denied
            | Kind::NotFound
            | Kind::Conflict
            | Kind::Invalid
            | Kind::Internal => None,
        }
    }

    /// Whether another replica may well do what this one refuses: this one is not ready, or is of an older version.
    #[must_use]
    pub const fn is_of_this_replica(&self) -> bool {
        matches!(
            self.reason,
            Reason::OutOfStanding | Reason::AuditUnavailable | Reason::NewerFormat
        )
    }

    pub(super) fn missing_token() -> Self {
        Self::from(Rejection::Missing)
    }

    pub(super) fn no_such_vault(vault: &VaultId) -> Self {
        let message = format!(
            "There is no key vault '{}' in namespace '{}'.",
            vault.name, vault.namespace
        );
        Self::new(Reason::NoSuchVault, message)
    }

    /// What Azure's 403 says: from where, who, which vault. Which rules there are is for the log.
    pub(super) fn network(
        refused: network::Refused,
        caller: &Caller,
        vault: &VaultId,
        peer: Option<IpAddr>,
    ) -> Self {
        if refused == network::Refused::NotYet {
            return Self::from(Rejection::Unavailable);
        }
        let mut message =
            "Client address is not authorized and caller is not a trusted service.\r\n".to_owned();
        // Writing to memory does not fail.
        let _ = match peer {
            Some(peer) => write!(message, "Client address: {}", peer.to_canonical()),
            None => write!(message, "Client address: that of the pod, for a volume"),
        };
        let caller = policy::caller_name(caller);
        let _ = write!(
            message,
            "\r\nCaller: {caller}\r\nVault: {};location={}",
            vault.name, vault.namespace
        );
        Self::new(Reason::NotReachable, message)
    }

    pub(super) fn not_on_list() -> Self {
        Self::new(Reason::NotOnList, "This caller may not do this.")
    }

    pub(super) fn internal(message: &'static str) -> Self {
        tracing::error!(message, "a request failed by a defect");
        Self::new(Reason::Internal, "The request failed for an internal reason.")
    }
}

impl From<TooMuch> for Refusal {
    /// Azure's 429, with which limit it is.
    fn from(TooMuch { of, wait }: TooMuch) -> Self {
        let limit = match of {
            Throttle::Address => "AddressRequestLimitReached",
            Throttle::Caller => "CallerRequestLimitReached",
            Throttle::Vault | Throttle::VaultCreates => "VaultRequestTypeLimitReached",
            Throttle::UnderWay => "CallerRequestsUnderWayLimitReached",
        };
        let message =
            format!("Request was not processed because too many requests were received. Reason: {limit}");
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            wait: Some(u8::try_from(seconds.max(1)).unwrap_or(u8::MAX)),
            ..Self::new(Reason::Throttled, message)
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let reason = match rejection {
            Rejection::Missing => Reason::MissingToken,
            Rejection::Malformed => Reason::MalformedToken,
            Rejection::UnknownKey => Reason::UnknownKey,
            Rejection::BadSignature => Reason::BadSignature,
            Rejection::WrongIssuer => Reason::WrongIssuer,
            Rejection::WrongAudience => Reason::WrongAudience,
            Rejection::Expired => Reason::TokenExpired,
            Rejection::NotYetValid => Reason::TokenNotYetValid,
            Rejection::Claims | Rejection::Binding | Rejection::ForeignAccount => Reason::UnusableToken,
            Rejection::AccountGone | Rejection::PodGone | Rejection::PodEnded => Reason::NotAlive,
            Rejection::ForeignAddress | Rejection::ForeignNode => Reason::WrongAddress,
            Rejection::NodeCredentialEnded | Rejection::Unavailable => Reason::IdentityUnavailable,
        };
        Self::new(reason, rejection.to_string())
    }
}

impl From<OutOfStanding> for Refusal {
    fn from(out: OutOfStanding) -> Self {
        Self::new(
            Reason::OutOfStanding,
            format!("Requests cannot be judged for now: {out}."),
        )
    }
}

impl From<Denial> for Refusal {
    /// What Azure's 403 says: who, which permission, which vault. Which rule decided is for the log.
    fn from(denial: Denial) -> Self {
        match &denial {
            Denial::NoPermission {
                vault,
                caller,
                permission,
            } => no_permission(caller, permission, vault),
            Denial::Unbound { vault, caller } => Self::new(
                Reason::NoPermission,
                format!(
                    "The application '{caller}' shows a token that is bound to no pod, which key vault '{}' does not allow it.",
                    vault.name
                ),
            ),
            Denial::NotOnList { .. } | Denial::AnotherResource { .. } => Self::new(
                Reason::NotOnList,
                format!("The operation is not permitted: {denial}."),
            ),
        }
    }
}

fn no_permission(caller: &str, permission: &str, vault: &VaultId) -> Refusal {
    Refusal::new(
        Reason::NoPermission,
        format!(
            "The application '{caller}' does not have secrets {permission} permission on key vault '{}' in namespace '{}'.",
            vault.name, vault.namespace
        ),
    )
}

impl From<AuditError> for Refusal {
    fn from(_: AuditError) -> Self {
        Self::new(
            Reason::AuditUnavailable,
            "The audit record cannot be written for now, and nothing is done off the record. If this was a change, it may \
             have been made: read the object to see.",
        )
    }
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        let reason = match &error {
            Error::SecretNotFound { .. } => Reason::SecretNotFound,
            Error::SecretVersionNotFound { .. } => Reason::SecretVersionNotFound,
            Error::DeletedSecretNotFound { .. } => Reason::DeletedSecretNotFound,
            Error::SecretDisabled => Reason::SecretDisabled,
            Error::SecretNotYetValid => Reason::SecretNotYetValid,
            Error::SecretExpired => Reason::SecretExpired,
            Error::PurgeProtected | Error::VaultPurgeProtected => Reason::PurgeProtected,
            Error::ObjectIsDeletedButRecoverable { .. } => Reason::ObjectIsDeletedButRecoverable,
            Error::ObjectIsBeingDeleted { .. } | Error::VaultIsBeingPurged { .. } => {
                Reason::ObjectIsBeingDeleted
            }
            Error::SecretExists { .. } => Reason::SecretExists,
            Error::BackupMalformed => Reason::BackupMalformed,
            Error::ValueTooLarge
            | Error::ContentTypeTooLong
            | Error::TooManyTags
            | Error::TagTooLong
            | Error::GeneratedLength
            | Error::PageSize
            | Error::HeadTooLarge { .. }
            | Error::TooManyVersions { .. }
            | Error::BackupTooManyVersions { .. }
            | Error::BackupTooLarge { .. } => Reason::OutOfLimits,
            Error::SkipTokenInvalid => Reason::SkipTokenInvalid,
            Error::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Error::VaultNotReady { .. } => Reason::VaultNotReady,
            Error::StoreRolledBack => Reason::OutOfStanding,
            Error::Contention | Error::NotInMemory { .. } => Reason::Contention,
            Error::OutcomeUnknown => Reason::OutcomeUnknown,
            Error::PurgeUnfinished => Reason::PurgeUnfinished,
            Error::Store(store) => match error.kind() {
                Kind::Throttled => Reason::QuotaExceeded,
                Kind::Unavailable => Reason::StoreUnavailable,
                _ => {
                    tracing::error!(%store, "the store answered what it should not");
                    Reason::Internal
                }
            },
            Error::NewerFormat => Reason::NewerFormat,
            Error::RecordDamaged(_) => Reason::RecordDamaged,
            Error::Crypto(_) | Error::Encode => Reason::Internal,
        };
        Self::new(reason, error.to_string())
    }
}
