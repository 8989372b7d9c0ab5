//! What a record is about, beside who may do what.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::model::{Kind, ObjectName, Operation, OperationName, UpdateSecret, Version};

/// What is known of a request. Some of it is strangers' text: records hold a bounded, filtered form of it.
#[derive(Clone, Default)]
pub struct About<'a> {
    /// Where it came from; none where a node asks for a pod.
    pub peer: Option<IpAddr>,
    /// Whether the vault may be called from there; none where that was not looked at.
    pub reached: Option<bool>,
    /// The host that the client used; without it, records name the vault's own.
    pub host: Option<Cow<'a, str>>,
    /// The `api-version` asked for.
    pub api_version: Option<Cow<'a, str>>,
    /// `x-ms-client-request-id`.
    pub client_request_id: Option<Cow<'a, str>>,
    /// Our own id of the request, for those that carry none.
    pub request_id: Option<Cow<'a, str>>,
    /// `User-Agent`.
    pub user_agent: Option<Cow<'a, str>>,
}

impl About<'_> {
    /// The same, for those who outlive the request.
    #[must_use]
    pub fn into_owned(self) -> About<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        About {
            peer: self.peer,
            reached: self.reached,
            host: owned(self.host),
            api_version: owned(self.api_version),
            client_request_id: owned(self.client_request_id),
            request_id: owned(self.request_id),
            user_agent: owned(self.user_agent),
        }
    }
}

impl fmt::Debug for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("About")
    }
}

/// What was asked, without what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which operation.
    pub operation: OperationName,
    /// Which object.
    pub object: Option<ObjectName>,
    /// Which version of it.
    pub version: Option<Version>,
}

impl Asked {
    /// What an operation asks.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        let version = match operation {
            Operation::GetSecret { version, .. } | Operation::UpdateSecret(UpdateSecret { version, .. }) => {
                *version
            }
            Operation::SetSecret(_)
            | Operation::DeleteSecret { .. }
            | Operation::ListSecrets(_)
            | Operation::ListSecretVersions { .. }
            | Operation::ListDeletedSecrets(_)
            | Operation::GetDeletedSecret { .. }
            | Operation::RecoverSecret { .. }
            | Operation::PurgeSecret { .. }
            | Operation::BackupSecret { .. }
            | Operation::RestoreSecret { .. }
            | Operation::EnsureVault(_)
            | Operation::EnsureGeneratedSecret(_)
            | Operation::DeleteOwned(_)
            | Operation::DeleteVault(_)
            | Operation::PurgeVault(_)
            | Operation::PurgeDueSecret { .. } => None,
        };
        Self {
            operation: operation.name(),
            object: operation.object().cloned(),
            version,
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The kind of failure; none is success.
    pub kind: Option<Kind>,
    /// The HTTP status that says so.
    pub status: u16,
    /// The error's code, as the caller sees it; a fixed text.
    pub code: &'static str,
    /// The version that was read or made.
    pub version: Option<Version>,
    /// The object, where the request did not name it.
    pub object: Option<ObjectName>,
}

impl Outcome {
    /// Success.
    #[must_use]
    pub const fn success(version: Option<Version>) -> Self {
        Self {
            kind: None,
            status: 200,
            code: "",
            version,
            object: None,
        }
    }

    /// Success that has nothing to show.
    #[must_use]
    pub fn gone() -> Self {
        Self {
            status: 204,
            ..Self::success(None)
        }
    }

    /// Failure.
    #[must_use]
    pub const fn failure(kind: Kind, code: &'static str) -> Self {
        Self {
            kind: Some(kind),
            status: kind.http_status(),
            code,
            version: None,
            object: None,
        }
    }
}
