//! The root key, where it comes from, and whether this installation may begin under it.
//!
//! # Why so careful
//! A second root key beside records of the first would be a vault that lost everything and says nothing. So a Secret is
//! only ever created, never written over, and only where no sealed record exists at all; a file is never made. Whether a key
//! is the one that the records were sealed under, the store's sentinel says ([`open_store`]).
//!
//! The other way round it is the same: a root key without any record is an installation that lost all of them, or one whose
//! very first start was cut off before it sealed anything. The second goes on by itself and is known by two marks: the key is
//! not known to have come from elsewhere (the Secret says that it was made in this very namespace; a file says nothing), and
//! the ConfigMap of the trust bundle, which is written once the store was opened, says nothing of an installation yet. All
//! else starts with nothing only if a person says so.

mod file;
mod secret;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::crd::annotations;
use crate::crypto::{CryptoError, RootKey, RootKeyFileError};
use crate::model::{Kind, Namespace, RootKeyCare, UnixSeconds};
use crate::store::SealedStore;
use crate::store::installation::{Installation, InstallationError, load_or_create};
use crate::telemetry::Metrics;

use super::api::{Api, ApiError};
use super::sealed_records::any_record;
use super::trust_bundle::names_an_installation;
use super::word::counts;

pub use secret::{ROOT_KEY_FIELD, ROOT_KEY_SECRET};

/// How often it is looked at whether the key is still there, and whether somebody escrowed it.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where the root key comes from. Whatever differs by it is in this room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKeySource {
    /// Secret [`ROOT_KEY_SECRET`] of the release namespace, made where nothing was ever sealed.
    Secret,
    /// A file with the 32 bytes, which somebody else makes and keeps.
    File(PathBuf),
}

/// The root key, and where it came from.
pub struct RootKeyFound {
    /// The key.
    pub key: RootKey,
    /// Whether this call made it: then no sentinel is sealed under it yet, and it must be escrowed.
    pub created: bool,
}

/// Why there is no root key. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Sealed records exist and the Secret does not.
    #[error(
        "sealed records exist in namespace {namespace}, but their root key, Secret {ROOT_KEY_SECRET}, does not. \
         A new key would not open them, so none is made. Restore the Secret from its escrow: kubectl -n {namespace} \
         create secret generic {ROOT_KEY_SECRET} --from-file={ROOT_KEY_FIELD}=<file with the 32 bytes>. If the key came \
         from a file so far, give that file, or set rootKey.provider of the chart to File again"
    )]
    Missing {
        /// The release namespace.
        namespace: Namespace,
    },
    /// The Secret holds something else than a root key.
    #[error(
        "Secret {ROOT_KEY_SECRET} in namespace {namespace} does not hold a root key: its key {ROOT_KEY_FIELD} must be \
         exactly 32 bytes. Restore it from its escrow"
    )]
    NotAKey {
        /// The release namespace.
        namespace: Namespace,
    },
    /// The file holds no root key, or cannot be read.
    #[error(transparent)]
    File(RootKeyFileError),
    /// The reading of the file was given up.
    #[error("the root key's file was not read, since this process is stopping")]
    FileNotRead,
    /// The key is there, and all that was sealed under it is not.
    #[error(
        "{key} is there and no sealed record at all is in namespace {namespace}: what was sealed under this key is gone, or \
         has not been restored yet. Strongroom does not start with nothing by itself. Restore the SealedRecords of this \
         namespace from a backup. Only if there are none to restore, and it shall start empty: \
         kubectl {annotate} --overwrite {start}=$(date -u +%Y-%m-%dT%H:%M:%SZ) (counts for an hour)",
        start = annotations::START_EMPTY
    )]
    StoreEmpty {
        /// The release namespace.
        namespace: Namespace,
        /// What holds the key, for a person.
        key: String,
        /// How kubectl is told to annotate the object on which a person says so.
        annotate: String,
    },
    /// Looking where the Secret was made, or what was said on our namespace, failed.
    #[error("whether this is a first start cannot be told: {0}")]
    LookAtPast(#[source] ApiError),
    /// Looking whether sealed records exist failed.
    #[error("whether sealed records exist cannot be told: {0}")]
    LookForRecords(#[source] ApiError),
    /// Reading the Secret failed.
    #[error("Secret {ROOT_KEY_SECRET} cannot be read: {0}")]
    Read(#[source] ApiError),
    /// Creating the Secret failed.
    #[error("Secret {ROOT_KEY_SECRET} cannot be created: {0}")]
    Create(#[source] ApiError),
    /// No key could be generated.
    #[error("a root key cannot be generated: {0}")]
    Generate(#[source] CryptoError),
}

impl RootKeyError {
    /// The kind of failure. Only [`Kind::Unavailable`] is worth waiting for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } | Self::StoreEmpty { .. } => Kind::NotFound,
            Self::NotAKey { .. } => Kind::Invalid,
            Self::File(error) => error.kind(),
            Self::LookForRecords(error)
            | Self::LookAtPast(error)
            | Self::Read(error)
            | Self::Create(error) => error.kind(),
            Self::Generate(_) | Self::FileNotRead => Kind::Internal,
        }
    }
}

/// Reads the root key. A Secret is made where nothing was ever sealed: of several replicas that start at once one makes it
/// and the others read that one. A file is there, or it is refused to start.
///
/// # Errors
/// [`RootKeyError`].
pub async fn root_key(
    source: &RootKeySource,
    api: &Api,
    namespace: &Namespace,
    now: UnixSeconds,
) -> Result<RootKeyFound, RootKeyError> {
    match source {
        RootKeySource::Secret => secret::root_key(api, namespace, now).await,
        RootKeySource::File(path) => file::root_key(path, api, namespace, now).await,
    }
}

/// Why the store was not opened, and what to do where its key is another one.
#[derive(Debug, thiserror::Error)]
#[error("{why}{advice}")]
pub struct OpenStoreError {
    why: InstallationError,
    advice: String,
}

impl OpenStoreError {
    /// The kind of failure. Only [`Kind::Unavailable`] is worth waiting for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.why.kind()
    }
}

/// Opens the store under the key that was found, or makes the installation if it holds nothing at all.
///
/// # Errors
/// [`OpenStoreError`]. A key that is not the one of the records that are there changes nothing.
pub async fn open_store(
    store: &dyn SealedStore,
    found: &RootKeyFound,
    source: &RootKeySource,
    namespace: &Namespace,
    now: UnixSeconds,
) -> Result<Installation, OpenStoreError> {
    let opened = load_or_create(store, &found.key, found.created, now).await;
    opened.map_err(|why| {
        let advice = match why {
            InstallationError::RootKeyDoesNotOpen => source.way_back(namespace),
            _ => String::new(),
        };
        OpenStoreError { why, advice }
    })
}

impl RootKeySource {
    /// What to do where the key from here is another one than the one that the store was sealed with.
    fn way_back(&self, namespace: &Namespace) -> String {
        match self {
            Self::Secret => format!(
                ". Secret {ROOT_KEY_SECRET} holds another key than the one that the store was sealed with. If that one came \
                 from a file so far, set rootKey.provider of the chart to File again, or carry the key over: delete the \
                 Secret, then kubectl -n {namespace} create secret generic {ROOT_KEY_SECRET} \
                 --from-file={ROOT_KEY_FIELD}=<that file>"
            ),
            Self::File(path) => format!(
                ". File {} holds another key than the one that the store was sealed with. If that one was in Secret \
                 {ROOT_KEY_SECRET} so far, carry it over: (umask 077; kubectl -n {namespace} get secret {ROOT_KEY_SECRET} \
                 -o jsonpath='{{.data.{ROOT_KEY_FIELD}}}' | base64 -d > root-key), and put this file in the place of the \
                 other. Or set rootKey.provider of the chart to Secret again",
                path.display()
            ),
        }
    }
}

/// A key that was there before this start.
struct Held {
    /// It is known to come from elsewhere: a person or a backup brought it, and its records are to follow.
    brought: bool,
    /// When a person said that there is nothing to be found.
    start_empty: Option<Timestamp>,
    /// What holds it, for a person.
    by: String,
    /// How kubectl is told to annotate the object on which a person says that there is nothing.
    annotate: String,
}

impl Held {
    fn store_empty(&self, namespace: &Namespace) -> RootKeyError {
        RootKeyError::StoreEmpty {
            namespace: namespace.clone(),
            key: self.by.clone(),
            annotate: self.annotate.clone(),
        }
    }
}

/// Under a key that was there before this start: either something is sealed under it, or it may be that nothing is yet.
async fn may_begin(
    api: &Api,
    namespace: &Namespace,
    held: &Held,
    now: UnixSeconds,
) -> Result<(), RootKeyError> {
    // Before the look for records: whoever wrote this has sealed some before.
    let opened = names_an_installation(api, namespace).await;
    let past = Past {
        opened: opened.map_err(RootKeyError::LookAtPast)?,
        brought: held.brought,
        says_empty: held.start_empty.is_some_and(|said| counts(said, now)),
    };
    let sealed = any_record(api, namespace).await;
    if sealed.map_err(RootKeyError::LookForRecords)? {
        return Ok(());
    }
    if !past.may_start_empty() {
        return Err(held.store_empty(namespace));
    }
    tracing::warn!(
        ?past,
        "a root key is there and no sealed record: starting with nothing"
    );
    Ok(())
}

/// What speaks for and against a start with nothing under a key that was there before.
#[derive(Debug, Clone, Copy)]
struct Past {
    /// The store was opened before, so something was sealed.
    opened: bool,
    /// The key is known to come from elsewhere.
    brought: bool,
    /// A person said within the hour that there is nothing.
    says_empty: bool,
}

impl Past {
    const fn may_start_empty(self) -> bool {
        self.says_empty || !self.brought && !self.opened
    }
}

/// How a look at the key ended.
enum Look {
    /// It is there.
    Cared(RootKeyCare),
    /// It is not; the text says what is there instead.
    Lost(String),
}

/// Tells how the key is cared for, until dropped. While that cannot be seen, what was told last holds.
pub async fn watch_root_key(
    source: RootKeySource,
    api: Api,
    namespace: Namespace,
    key: Arc<RootKey>,
    metrics: Arc<Metrics>,
    care: watch::Sender<Option<RootKeyCare>>,
) {
    loop {
        let look = match &source {
            RootKeySource::Secret => secret::look(&api, &namespace).await,
            RootKeySource::File(path) => file::look(path, &key).await,
        };
        match look {
            Ok(look) => {
                let (now, lost) = match look {
                    Look::Cared(care) => (care, None),
                    Look::Lost(what) => (RootKeyCare::Missing, Some(what)),
                };
                metrics.root_key(now);
                let changed = care.send_if_modified(|known| known.replace(now) != Some(now));
                if let Some(what) = lost.filter(|_| changed) {
                    tracing::error!(
                        namespace = namespace.as_str(),
                        "no replica that starts anew can open anything; put the root key back: {what}"
                    );
                }
            }
            Err(why) => tracing::info!(why, "whether the root key is still there cannot be told"),
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace::parse("strongroom-system").unwrap()
    }

    #[test]
    fn only_a_first_start_that_was_cut_off_or_a_persons_word_starts_with_nothing() {
        for (opened, brought, says_empty, may) in [
            (false, false, false, true),
            (true, false, false, false),
            (false, true, false, false),
            (true, true, false, false),
            (true, false, true, true),
            (false, true, true, true),
        ] {
            let past = Past {
                opened,
                brought,
                says_empty,
            };
            assert_eq!(past.may_start_empty(), may, "{past:?}");
        }
    }

    #[test]
    fn a_missing_root_key_says_what_to_do() {
        let text = RootKeyError::Missing {
            namespace: namespace(),
        }
        .to_string();
        assert!(text.contains("Restore the Secret from its escrow"));
        assert!(text.contains(
            "kubectl -n strongroom-system create secret generic strongroom-root-key --from-file=root-key="
        ));
    }

    #[test]
    fn another_root_key_says_how_the_right_one_is_carried_over_from_where_it_was() {
        let file = RootKeySource::File("/etc/strongroom/root-key/root-key".into());
        for (source, says) in [
            (
                file,
                "kubectl -n strongroom-system get secret strongroom-root-key -o jsonpath='{.data.root-key}' | base64 -d",
            ),
            (
                RootKeySource::Secret,
                "kubectl -n strongroom-system create secret generic strongroom-root-key --from-file=root-key=",
            ),
        ] {
            let text = source.way_back(&namespace());
            assert!(
                text.contains("another key than the one that the store was sealed with"),
                "{text}"
            );
            assert!(text.contains(says), "{text}");
        }
    }
}
