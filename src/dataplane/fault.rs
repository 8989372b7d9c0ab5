//! Every way in which a request fails, as Azure says it: one table.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::body::BadBody;
use super::host::BadHost;
use super::route::{BadQuery, NoRoute};
use crate::gate::{Reason, Refusal};
use crate::model::Kind;

/// A failure as the client sees it. Messages are ours: they never repeat what the client sent, beyond names that were
/// found to be names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// Azure's coarse code.
    pub(super) code: &'static str,
    /// Azure's inner code: what clients branch on.
    pub(super) inner: Option<&'static str>,
    pub(super) message: Cow<'static, str>,
    pub(super) hint: Hint,
}

/// What a failure's headers say beside the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing.
    None,
    /// How to get a token (`WWW-Authenticate`).
    Challenge,
    /// Which methods there are (`Allow`).
    Allow(&'static str),
    /// When to come again (`Retry-After`, in seconds).
    RetryAfter(u8),
    /// The same, and elsewhere: this replica cannot, another one may, so the connection ends with the answer.
    Elsewhere(u8),
    /// Not on this connection (`Connection: close`).
    Close,
}

impl Fault {
    pub(super) const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            inner: None,
            message: Cow::Borrowed(message),
            hint: Hint::None,
        }
    }

    const fn bad_parameter(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    const fn with(mut self, hint: Hint) -> Self {
        self.hint = hint;
        self
    }

    /// The body is longer than any request of ours.
    pub(super) const TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BadParameter",
        "The request body is too long. A secret's value has at most 25 KB, a backup at most 14 MiB.",
    )
    .with(Hint::Close);

    /// The body did not come in time.
    pub(super) const TOO_SLOW: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        "RequestTimeout",
        "The request body did not arrive within 10 seconds.",
    )
    .with(Hint::Close);

    /// The client broke off in the middle of its body.
    pub(super) const BROKEN_OFF: Self =
        Self::bad_parameter("The request body ended early or is not well-formed HTTP.").with(Hint::Close);

    /// A compressed body.
    pub(super) const ENCODED: Self = Self::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "BadParameter",
        "The request body must be plain JSON: no content encoding is accepted.",
    );

    /// Bodies and answers under way hold as much memory as they may.
    pub(super) const BUSY: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "Too much is under way at the moment. Try again.",
    )
    .with(Hint::RetryAfter(1));

    /// What is behind us does not answer.
    pub(super) const NO_ANSWER: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "The request took too long. If it was a change, it may still be made: read the object to see.",
    )
    .with(Hint::RetryAfter(5));

    /// A defect of ours.
    pub(super) const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        "The request failed for an internal reason.",
    );

    /// The body, as JSON.
    pub(super) fn body(&self) -> Bytes {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'static str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            innererror: Option<Inner>,
        }
        #[derive(Serialize)]
        struct Inner {
            code: &'static str,
        }
        let error = Error {
            code: self.code,
            message: &self.message,
            innererror: self.inner.map(|code| Inner { code }),
        };
        serde_json::to_vec(&Outer { error })
            .map(Bytes::from)
            .unwrap_or_default()
    }
}

impl From<BadHost> for Fault {
    fn from(host: BadHost) -> Self {
        match host {
            BadHost::Malformed => Self::bad_parameter("The Host header is missing or not a valid host name."),
            BadHost::Misdirected => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "MisdirectedRequest",
                "The Host header does not name the host for which this TLS connection was opened.",
            ),
        }
    }
}

impl From<NoRoute> for Fault {
    fn from(route: NoRoute) -> Self {
        match route {
            NoRoute::Malformed => Self::bad_parameter(
                "The path is not valid: its segments have letters, digits and '-' alone, and none is empty but the last.",
            ),
            NoRoute::BadName => Self::bad_parameter(
                "The object name in the path is not valid: it has 1 to 127 characters of 0-9, a-z, A-Z and '-'.",
            ),
            NoRoute::BadVersion => Self::bad_parameter(
                "The object version in the path is not valid: it has 32 hexadecimal characters.",
            ),
            NoRoute::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                "No operation of this vault has this path.",
            ),
            NoRoute::Method(methods) => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "The path does not take this method; the Allow header says which it takes.",
            )
            .with(Hint::Allow(methods)),
        }
    }
}

impl From<BadQuery> for Fault {
    fn from(query: BadQuery) -> Self {
        Self::bad_parameter(match query {
            BadQuery::NoApiVersion => "The query parameter api-version is required.",
            BadQuery::ApiVersion => {
                "The specified version is not recognized. Consider using the latest supported version (2026-04-01)."
            }
            BadQuery::MaxResults => {
                "The query parameter maxresults is not valid: it is a number from 1 to 25."
            }
            BadQuery::Twice => "A query parameter is given twice.",
            BadQuery::OutContentType => {
                "The query parameter outContentType is for the secrets of certificates alone."
            }
            BadQuery::Encoding => "The query is not valid: a percent sign begins two hexadecimal digits.",
        })
    }
}

impl From<BadBody> for Fault {
    fn from(body: BadBody) -> Self {
        Self {
            message: Cow::Owned(body.to_string()),
            ..Self::bad_parameter("")
        }
    }
}

/// Azure's codes of each reason: the coarse one, and the inner one where Azure has one.
const fn codes(reason: Reason) -> (&'static str, Option<&'static str>) {
    match reason {
        Reason::MissingToken
        | Reason::MalformedToken
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::WrongIssuer
        | Reason::WrongAudience
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::UnusableToken
        | Reason::NotAlive
        | Reason::WrongAddress => ("Unauthorized", None),
        Reason::NoPermission => ("Forbidden", Some("ForbiddenByPolicy")),
        Reason::NotReachable => ("Forbidden", Some("ForbiddenByFirewall")),
        Reason::NotOnList => ("Forbidden", Some("AccessDenied")),
        Reason::SecretDisabled => ("Forbidden", Some("SecretDisabled")),
        Reason::SecretNotYetValid => ("Forbidden", Some("SecretNotYetValid")),
        Reason::SecretExpired => ("Forbidden", Some("SecretExpired")),
        // Which inner code Azure has here is not documented.
        Reason::PurgeProtected => ("Forbidden", None),
        Reason::NoSuchVault => ("VaultNotFound", None),
        Reason::SecretNotFound | Reason::SecretVersionNotFound | Reason::DeletedSecretNotFound => {
            ("SecretNotFound", None)
        }
        Reason::ObjectIsDeletedButRecoverable => ("Conflict", Some("ObjectIsDeletedButRecoverable")),
        Reason::ObjectIsBeingDeleted => ("Conflict", Some("ObjectIsBeingDeleted")),
        Reason::SecretExists => ("Conflict", None),
        Reason::OutOfLimits | Reason::BackupMalformed | Reason::SkipTokenInvalid => ("BadParameter", None),
        Reason::Throttled | Reason::QuotaExceeded => ("Throttled", None),
        Reason::IdentityUnavailable
        | Reason::VaultNotReady
        | Reason::OutOfStanding
        | Reason::StoreUnavailable
        | Reason::OutcomeUnknown
        | Reason::PurgeUnfinished
        | Reason::Contention
        | Reason::AuditUnavailable
        | Reason::NewerFormat => ("ServiceUnavailable", None),
        Reason::RecordDamaged | Reason::Internal => ("InternalError", None),
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (code, inner) = codes(refusal.reason);
        let hint = match (refusal.kind(), refusal.retry_after()) {
            (Kind::Unauthenticated, _) => Hint::Challenge,
            (_, Some(seconds)) if refusal.is_of_this_replica() => Hint::Elsewhere(seconds),
            (_, Some(seconds)) => Hint::RetryAfter(seconds),
            (_, None) => Hint::None,
        };
        Self {
            status: StatusCode::from_u16(refusal.kind().http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            inner,
            message: Cow::Owned(refusal.message().to_owned()),
            hint,
        }
    }
}
