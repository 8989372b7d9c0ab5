//! The closed list of what can go wrong, from which every outside representation follows by one table.

/// What kind of failure an error is. HTTP status, gRPC code, metric label and condition reason each follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The caller did not prove who they are.
    Unauthenticated,
    /// The caller is known and may not do this.
    Denied,
    /// The thing asked for does not exist.
    NotFound,
    /// The thing exists in a state that forbids this.
    Conflict,
    /// The request is malformed or out of limits.
    Invalid,
    /// Too many requests or too much data.
    Throttled,
    /// A dependency is away or data is too old; trying again later helps.
    Unavailable,
    /// A defect, or stored data that does not open.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::Throttled,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The kind of a label, as processes tell it to each other; none for a label of another release.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// The label under which metrics count it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status (Azure Key Vault's use of them, REST error codes).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Invalid => 400,
            Self::Throttled => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// The numeric gRPC status code (google.rpc.Code).
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        match self {
            Self::Unauthenticated => 16,
            Self::Denied => 7,
            Self::NotFound => 5,
            Self::Conflict => 9,
            Self::Invalid => 3,
            Self::Throttled => 8,
            Self::Unavailable => 14,
            Self::Internal => 13,
        }
    }

    /// The reason of a status condition (CamelCase, as the Kubernetes API conventions ask).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Unauthenticated",
            Self::Denied => "Denied",
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
            Self::Invalid => "Invalid",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
            Self::Internal => "Internal",
        }
    }
}
