//! What identity asks of others. The cluster answers in `cluster`, a fixed set in `dev` and tests.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::crypto::VerificationKey;
use crate::model::Namespace;

use super::PodFacts;

/// No answer came, or a limit was reached: nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what this depends on did not answer")]
pub struct Unavailable;

/// The public keys of the accepted issuers, in memory.
pub trait KeySets: Send + Sync {
    /// The key of that id which that issuer publishes. Takes no lock and does no I/O.
    fn find(&self, issuer: &str, kid: &str) -> Option<Arc<VerificationKey>>;

    /// Fetches the keys anew because a key id was not found. Within the cooldown it answers `Ok` at once and fetches
    /// nothing: strangers send unknown ids for free.
    ///
    /// # Errors
    /// [`Unavailable`] where the fetch failed.
    fn refresh(&self) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Grows whenever the set of keys changed, and only then: remembered tokens of an older generation are verified anew.
    fn generation(&self) -> u64;
}

/// Asks the API server for one pod that the feed has not shown yet.
pub trait PodLookup: Send + Sync {
    /// One consistent GET; none where there is no pod of that name. Rate-limited inside.
    ///
    /// # Errors
    /// [`Unavailable`] where no answer came or the limit is reached.
    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<PodFacts>, Unavailable>>;
}
