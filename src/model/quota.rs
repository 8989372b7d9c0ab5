//! Quotas, as people are told of them.

use std::fmt;

/// What a quota is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaScope {
    /// One vault.
    Vault,
    /// All vaults of one namespace.
    Namespace,
    /// All vaults.
    Installation,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaOf {
    /// Bytes of sealed records.
    Bytes,
    /// Sealed records.
    Records,
}

/// The quota that a vault is nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearest {
    /// Whose.
    pub scope: QuotaScope,
    /// Of what.
    pub of: QuotaOf,
    /// How much of it is used.
    pub percent: u8,
}

impl QuotaScope {
    /// The key of the chart's `quotas` that sets it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Namespace => "namespace",
            Self::Installation => "installation",
        }
    }
}

impl fmt::Display for QuotaOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes of sealed records",
            Self::Records => "sealed records",
        })
    }
}
