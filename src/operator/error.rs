//! What can fail while an object is made true.

use crate::client::ClientError;
use crate::model::Kind;

/// Why an object could not be made true. Told to people in its `Ready` condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not let us read.
    #[error("{what} can't be read: {}", words(source))]
    Read {
        /// What was to be read.
        what: &'static str,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// The API server did not let us write.
    #[error("{what} can't be written: {}", words(source))]
    Write {
        /// What was to be written.
        what: &'static str,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("the API server does not answer ({what})")]
    Silent {
        /// What was asked of it.
        what: &'static str,
    },
    /// The data plane refused, or could not be asked.
    #[error("{source}")]
    Ask {
        /// How it failed.
        source: ClientError,
    },
    /// The data plane answered another question.
    #[error("the data plane's answer is not understood (another release?)")]
    Answer,
    /// The internal listener's address is none.
    #[error("{0}")]
    Client(ClientError),
    /// No connection to the API server could be configured.
    #[error("there is no way to the API server: {0}")]
    Cluster(Box<kube::Error>),
    /// The election ended by itself.
    #[error("the election of a leader ended")]
    Election,
    /// The configuration of the API server's address and credentials can't be read.
    #[error("the credentials for the API server can't be read: {0}")]
    Credentials(Box<kube::config::InferConfigError>),
}

impl Error {
    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Cluster(source) => {
                api_kind(source)
            }
            Self::Silent { .. } | Self::Election => Kind::Unavailable,
            Self::Ask { source } | Self::Client(source) => source.kind(),
            Self::Answer => Kind::Internal,
            Self::Credentials(_) => Kind::Invalid,
        }
    }
}

/// What the API server said, for people.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// What kind of failure the API server's answer is.
fn api_kind(error: &kube::Error) -> Kind {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => Kind::Unauthenticated,
            403 => Kind::Denied,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            400 | 413 | 422 => Kind::Invalid,
            429 => Kind::Throttled,
            _ => Kind::Unavailable,
        },
        _ => Kind::Unavailable,
    }
}
