//! Attributes that every object of a vault carries (Azure Key Vault: "object identifiers, attributes, and tags").

use std::collections::BTreeMap;

use super::UnixSeconds;

/// Names and values that users attach to an object: at most 15, each side at most 512 characters.
pub type Tags = BTreeMap<String, String>;

/// The attributes of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Whether its value may be read.
    pub enabled: bool,
    /// Not readable before (`nbf`).
    pub not_before: Option<UnixSeconds>,
    /// Not readable from (`exp`).
    pub expires: Option<UnixSeconds>,
    /// When this version was made.
    pub created: UnixSeconds,
    /// When its attributes, tags or content type last changed.
    pub updated: UnixSeconds,
    /// Days for which it can be recovered once deleted.
    pub recoverable_days: u16,
    /// What can be done once it is deleted.
    pub recovery_level: RecoveryLevel,
}

/// What a request says about attributes; what it leaves out stays (update) or takes its default (set).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributesChange {
    /// New `enabled`.
    pub enabled: Option<bool>,
    /// New `nbf`.
    pub not_before: Option<UnixSeconds>,
    /// New `exp`.
    pub expires: Option<UnixSeconds>,
}

/// Azure's recovery levels, as far as vaults here have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryLevel {
    /// 90 days, and a purge may come earlier.
    RecoverablePurgeable,
    /// 90 days, and no purge before.
    Recoverable,
    /// 7 to 89 days, and a purge may come earlier.
    CustomizedRecoverablePurgeable,
    /// 7 to 89 days, and no purge before.
    CustomizedRecoverable,
}

impl RecoveryLevel {
    /// Azure's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RecoverablePurgeable => "Recoverable+Purgeable",
            Self::Recoverable => "Recoverable",
            Self::CustomizedRecoverable => "CustomizedRecoverable",
            Self::CustomizedRecoverablePurgeable => "CustomizedRecoverable+Purgeable",
        }
    }
}
