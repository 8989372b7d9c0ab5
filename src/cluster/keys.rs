//! The public keys by which the API server's service-account tokens are verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::crypto::{JwkSet, VerificationKey};
use crate::identity::{KeySets, Unavailable};
use crate::model::Kind;

use super::api::{Api, ApiError, Ask};
use super::jitter;

/// How often the keys are fetched.
const FETCH_EVERY: Duration = Duration::from_secs(300);
/// How long after a fetch an unknown key id starts none.
const COOLDOWN: Duration = Duration::from_secs(10);
/// How soon after a failed regular fetch the next one comes.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The API server answers 406 to `application/json` here.
const JWK_SET: &str = "application/jwk-set+json";

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The API server's issuer could not be read.
    #[error("the issuer of service-account tokens cannot be read ({DISCOVERY}): {0}")]
    Discover(#[source] ApiError),
    /// The keys could not be read.
    #[error("the keys of service-account tokens cannot be read ({KEYS}): {0}")]
    Fetch(#[source] ApiError),
    /// What the API server publishes is no key set.
    #[error("what the API server publishes as its keys ({KEYS}) is no JWK set")]
    Parse,
}

impl KeysError {
    /// The kind of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Discover(error) | Self::Fetch(error) => error.kind(),
            Self::Parse => Kind::Internal,
        }
    }
}

/// The API server's key set, kept current. Look-ups take no lock and do no I/O.
pub struct ClusterKeys {
    issuers: Vec<Arc<str>>,
    published: Arc<Published>,
}

/// What the API server publishes.
struct Published {
    api: Api,
    known: ArcSwap<Known>,
    /// When a fetch last began, and whether it succeeded. One fetch at a time: who waited for it takes its result.
    last: Mutex<Last>,
}

struct Known {
    published: Bytes,
    set: JwkSet,
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    began: Instant,
    succeeded: bool,
}

impl ClusterKeys {
    /// Reads the keys and, where `issuers` is empty, the issuer that the API server names. Each of `issuers` is taken to
    /// sign with the API server's keys (a cluster that changed its issuer keeps the former for a time).
    ///
    /// # Errors
    /// [`KeysError`].
    pub async fn fetch(api: Api, issuers: Vec<Arc<str>>) -> Result<Self, KeysError> {
        let issuers = if issuers.is_empty() {
            let discovered: Discovery = api.read(Ask::get(DISCOVERY)).await.map_err(KeysError::Discover)?;
            vec![Arc::from(discovered.issuer)]
        } else {
            issuers
        };
        let began = Instant::now();
        let published = api.call(ask_keys()).await.map_err(KeysError::Fetch)?;
        let known = Known {
            set: JwkSet::parse(&published).map_err(|_| KeysError::Parse)?,
            published,
            generation: 1,
        };
        let published = Published {
            api,
            known: ArcSwap::from_pointee(known),
            last: Mutex::new(Last {
                began,
                succeeded: true,
            }),
        };
        Ok(Self {
            issuers,
            published: Arc::new(published),
        })
    }

    /// The issuers whose tokens are verified by these keys, as they stand in `iss`.
    #[must_use]
    pub fn issuers(&self) -> Vec<Arc<str>> {
        self.issuers.clone()
    }

    /// Fetches the keys every five minutes until dropped.
    pub async fn keep_current(self: Arc<Self>) {
        loop {
            let pause = if self.published.last.lock().await.succeeded {
                FETCH_EVERY - jitter(FETCH_EVERY / 10)
            } else {
                AGAIN_AFTER
            };
            sleep(pause).await;
            // Failures are told where they happen; the keys known so far go on being used.
            let _ = self.published.fetch_anew(Duration::ZERO).await;
        }
    }
}

impl Published {
    async fn fetch_anew(&self, cooldown: Duration) -> Result<(), Unavailable> {
        let mut last = self.last.lock().await;
        if last.began.elapsed() < cooldown {
            return if last.succeeded { Ok(()) } else { Err(Unavailable) };
        }
        last.began = Instant::now();
        last.succeeded = false;
        match self.api.call(ask_keys()).await {
            Ok(published) => self.take(published)?,
            Err(error) => {
                tracing::warn!(%error, "the keys of service-account tokens could not be fetched");
                return Err(Unavailable);
            }
        }
        last.succeeded = true;
        Ok(())
    }

    fn take(&self, published: Bytes) -> Result<(), Unavailable> {
        let known = self.known.load();
        if known.published == published {
            return Ok(());
        }
        let Ok(set) = JwkSet::parse(&published) else {
            tracing::error!("what the API server publishes as its keys is no JWK set; the former keys stay");
            return Err(Unavailable);
        };
        tracing::info!("the keys of service-account tokens have changed");
        self.known.store(Arc::new(Known {
            published,
            set,
            generation: known.generation + 1,
        }));
        Ok(())
    }
}

impl KeySets for ClusterKeys {
    fn find(&self, issuer: &str, kid: &str) -> Option<Arc<VerificationKey>> {
        let ours = self.issuers.iter().any(|known| **known == *issuer);
        ours.then(|| self.published.known.load().set.key(kid).cloned())
            .flatten()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        // On a task of its own: whoever asked and hangs up must not leave a fetch behind that never ended, for which others
        // would be refused until the cooldown is over.
        let published = Arc::clone(&self.published);
        async move {
            let fetch = tokio::spawn(async move { published.fetch_anew(COOLDOWN).await });
            fetch.await.unwrap_or(Err(Unavailable))
        }
        .boxed()
    }

    fn generation(&self) -> u64 {
        self.published.known.load().generation
    }
}

fn ask_keys() -> Ask<'static> {
    Ask {
        accept: JWK_SET,
        ..Ask::get(KEYS)
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}
