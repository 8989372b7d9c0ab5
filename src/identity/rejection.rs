//! Why a proof was not accepted. No variant holds anything that the caller sent.

use crate::model::Kind;
use crate::telemetry::metrics::TokenRejection;

/// Why a proof was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No token at all.
    #[error("AKV10000: Request is missing a Bearer or PoP token.")]
    Missing,
    /// Not a signed token, or one whose algorithm is not accepted.
    #[error("The token is malformed, or its algorithm is not accepted.")]
    Malformed,
    /// No issuer of ours publishes the key that it names.
    #[error("AKV10046: Unable to resolve the key used for signature validation.")]
    UnknownKey,
    /// The signature is not that key's.
    #[error("The token's signature is not valid.")]
    BadSignature,
    /// Another issuer.
    #[error("AKV10032: Invalid issuer.")]
    WrongIssuer,
    /// Not for us, or not for us alone.
    #[error("AKV10022: Invalid audience.")]
    WrongAudience,
    /// Its life is over.
    #[error("The token has expired.")]
    Expired,
    /// Its life has not begun.
    #[error("The token is not valid yet.")]
    NotYetValid,
    /// A claim that identity rests on is empty, missing or contradicts another.
    #[error("The token lacks the claims of a Kubernetes service account.")]
    Claims,
    /// Bound to a Secret, to a node alone, or to something unknown.
    #[error("The token is bound to an object that gives no access: use one that is bound to a pod.")]
    Binding,
    /// The service account is gone, or was made anew.
    #[error("The token's service account no longer exists.")]
    AccountGone,
    /// The pod is gone, or was made anew.
    #[error("The token's pod no longer exists.")]
    PodGone,
    /// The pod's containers have ended for good.
    #[error("The token's pod has ended.")]
    PodEnded,
    /// It comes from an address that is not its pod's.
    #[error("The token was sent from an address that is not its pod's.")]
    ForeignAddress,
    /// A node asks for a pod that does not run there, or the token names another node than the pod's.
    #[error("The token's pod does not run on this node.")]
    ForeignNode,
    /// On the internal listener: not one of our own processes.
    #[error("The token is not that of a process of this installation.")]
    ForeignAccount,
    /// The node's own pod is gone or its own token ended: the stream must be opened again.
    #[error("The node's own credential ended: open the stream again.")]
    NodeCredentialEnded,
    /// What the decision depends on did not answer.
    #[error("The token cannot be checked for now: try again.")]
    Unavailable,
}

impl Rejection {
    /// 401, but 503 where trying again helps: clients don't retry a 401.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Unavailable | Self::NodeCredentialEnded => Kind::Unavailable,
            Self::Missing
            | Self::Malformed
            | Self::UnknownKey
            | Self::BadSignature
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::Expired
            | Self::NotYetValid
            | Self::Claims
            | Self::Binding
            | Self::AccountGone
            | Self::PodGone
            | Self::PodEnded
            | Self::ForeignAddress
            | Self::ForeignNode
            | Self::ForeignAccount => Kind::Unauthenticated,
        }
    }

    /// The label under which metrics count it.
    #[must_use]
    pub const fn label(self) -> TokenRejection {
        match self {
            Self::Missing => TokenRejection::Missing,
            Self::Malformed => TokenRejection::Malformed,
            Self::UnknownKey => TokenRejection::UnknownKey,
            Self::BadSignature => TokenRejection::BadSignature,
            Self::WrongIssuer => TokenRejection::WrongIssuer,
            Self::WrongAudience => TokenRejection::WrongAudience,
            Self::Expired | Self::NotYetValid => TokenRejection::OutsideValidity,
            Self::Claims | Self::Binding | Self::ForeignAccount => TokenRejection::Claims,
            Self::AccountGone | Self::PodGone | Self::PodEnded => TokenRejection::NotAlive,
            Self::ForeignAddress => TokenRejection::ForeignAddress,
            Self::ForeignNode => TokenRejection::ForeignNode,
            Self::NodeCredentialEnded | Self::Unavailable => TokenRejection::Unavailable,
        }
    }
}
