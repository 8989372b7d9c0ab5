//! How far this replica has seen the store go, kept on a disk of its own, so that a restart does not forget it.
//!
//! # Why
//! A running replica knows that etcd was restored to an earlier state and serves nothing from it. A restart would forget
//! that, and a restart is nobody's word: kubelets and crashes restart too. So the highest revision seen is kept in a file,
//! and a person says, by an annotation of the release namespace, that what there is has to do. That word goes on record, and
//! then the process ends, to begin anew with nothing remembered. It is the word of whoever may change that namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::crd::annotations;
use crate::model::{Clock, Kind, Namespace};
use crate::world::Shared;

use super::api::{Api, ApiError, JSON};
use super::sealed_records::collection;
use super::wire::current_revision;
use super::word::{counts, home, said};

/// Beside the audit log.
const FILE: &str = "store-revision";
const NEXT: &str = "store-revision.next";
const MODE: u32 = 0o640;
/// How often it is looked at how far the store is, and whether a person has spoken.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The file that holds the highest revision seen.
#[derive(Debug, Clone)]
pub struct HighWater(PathBuf);

/// Why the store is not known to be whole.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    /// The file is there and was not read.
    #[error("the highest revision of the store that was seen before cannot be read from {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The API server did not tell how far the store is.
    #[error("how far the store is cannot be asked: {0}")]
    Ask(#[source] ApiError),
}

impl HighWaterError {
    /// The kind of failure: all of them may pass.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

impl HighWater {
    /// In this folder, which outlives the process.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// What was remembered last; none on a disk that is new. A file that holds no revision is not one of ours any more: all
    /// that is known is that something was remembered, so it counts as further than any store.
    fn remembered(&self) -> io::Result<Option<u64>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Ok(Some(parse(&text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some(u64::MAX)),
            Err(error) => Err(error),
        }
    }

    /// Remembers a revision: on disk once this returns, or what was remembered before is still there.
    fn remember(&self, revision: u64) -> io::Result<()> {
        let next = self.0.with_file_name(NEXT);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&next)?;
        file.write_all(format!("{revision}\n").as_bytes())?;
        file.sync_data()?;
        fs::rename(&next, &self.0)?;
        match self.0.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> u64 {
    text.trim_end().parse().unwrap_or(u64::MAX)
}

/// Whether the store is at an earlier state than this replica has seen in an earlier life. To be asked once before serving.
///
/// # Errors
/// [`HighWaterError`].
pub async fn went_back(
    high_water: &HighWater,
    api: &Api,
    namespace: &Namespace,
) -> Result<bool, HighWaterError> {
    let remembered = high_water
        .remembered()
        .map_err(|error| HighWaterError::Read(high_water.0.clone(), error))?;
    let revision = store_revision(api, namespace).await;
    let revision = revision.map_err(HighWaterError::Ask)?;
    let back = remembered.is_some_and(|remembered| revision < remembered);
    if back {
        tracing::error!(
            revision,
            remembered,
            "StoreRolledBack: the store is at an earlier state than this replica has seen, as after a restore of etcd; \
             nothing is served. {}",
            way_on(namespace)
        );
    }
    Ok(back)
}

async fn store_revision(api: &Api, namespace: &Namespace) -> Result<u64, ApiError> {
    current_revision(api, &collection(namespace), JSON).await
}

fn way_on(namespace: &Namespace) -> String {
    format!(
        "If what there is has to do, say so: kubectl annotate --overwrite namespace {namespace} {}=$(date -u +%FT%TZ)",
        annotations::STORE_RESTORED
    )
}

/// Keeps what is remembered up to `seen`, the highest revision that this process has seen, until dropped. Ends once the store
/// went back and a person said that what there is has to do: then `on_record` has said so, and this process is to begin anew.
pub async fn keep_high_water<F: Future<Output = bool>>(
    high_water: HighWater,
    api: Api,
    namespace: Namespace,
    clock: Clock,
    world: Arc<Shared>,
    seen: impl Fn() -> u64,
    on_record: impl Fn() -> F,
) {
    let mut told = world.standing.is_rolled_back();
    let mut remembered = 0;
    let mut kept = true;
    loop {
        sleep(LOOK_EVERY).await;
        if world.standing.is_rolled_back() {
            if !std::mem::replace(&mut told, true) {
                tracing::error!("StoreRolledBack: nothing is served. {}", way_on(&namespace));
            }
            let accepted = accepted(&api, &namespace, &clock).await;
            if let Some(revision) = accepted
                && on_record().await
                && put(&high_water, revision, true).await
            {
                tracing::warn!(
                    revision,
                    "a person said that the store as it is has to do: beginning anew with it"
                );
                return;
            }
            continue;
        }
        let revision = seen();
        if revision > remembered {
            kept = put(&high_water, revision, kept).await;
            if kept {
                remembered = revision;
            }
        }
    }
}

/// Remembers a revision; `tell` whether a failure is news.
async fn put(high_water: &HighWater, revision: u64, tell: bool) -> bool {
    let high_water = high_water.clone();
    let put = spawn_blocking(move || high_water.remember(revision)).await;
    match put.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
        Ok(()) => true,
        Err(error) => {
            if tell {
                tracing::warn!(
                    %error,
                    "how far the store is cannot be remembered: is the volume of the audit log full or read-only?"
                );
            }
            false
        }
    }
}

/// The revision of the store as it is now, where a person said lately that it has to do.
async fn accepted(api: &Api, namespace: &Namespace, clock: &Clock) -> Option<u64> {
    let look = async {
        let home = home(api, namespace).await?;
        let said = said(&home.annotations, annotations::STORE_RESTORED);
        if !said.is_some_and(|said| counts(said, clock.now().wall)) {
            return Ok(None);
        }
        store_revision(api, namespace).await.map(Some)
    };
    look.await.unwrap_or_else(|error: ApiError| {
        tracing::warn!(%error, "whether the store as it is has to do could not be asked");
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_remembered_last_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let high_water = HighWater::in_folder(folder.path());
        assert_eq!(high_water.remembered().unwrap(), None);
        for revision in [7, 1_000_007, 3] {
            high_water.remember(revision).unwrap();
            let again = HighWater::in_folder(folder.path());
            assert_eq!(again.remembered().unwrap(), Some(revision));
        }
    }

    #[test]
    fn a_file_that_somebody_wrote_over_counts_as_further_than_any_store() {
        let folder = tempfile::tempdir().unwrap();
        let high_water = HighWater::in_folder(folder.path());
        for written in [
            &b""[..],
            b"x",
            b"-1",
            b"12 13",
            b"\xff\xfe",
            b"99999999999999999999999",
        ] {
            fs::write(folder.path().join(FILE), written).unwrap();
            assert_eq!(high_water.remembered().unwrap(), Some(u64::MAX), "{written:?}");
        }
    }

    #[test]
    fn a_folder_that_is_away_is_an_error_and_not_a_new_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "no folder").unwrap();
        let high_water = HighWater::in_folder(&path);
        assert!(high_water.remembered().is_err());
        assert!(high_water.remember(1).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_revision_or_further_than_any(text in ".*", revision: u64) {
            let _ = parse(&text);
            prop_assert_eq!(parse(&format!("{revision}\n")), revision);
        }
    }
}
