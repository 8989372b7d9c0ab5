//! The root key in a file: a volume of the pod, filled by whoever keeps the key.

use std::path::Path;

use tokio::task::spawn_blocking;

use super::{Held, Look, RootKeyError, RootKeyFound, may_begin};
use crate::cluster::api::Api;
use crate::cluster::word::{Home, home, said};
use crate::crd::annotations;
use crate::crypto::mac::constant_time_eq;
use crate::crypto::{RootKey, RootKeyFile, root_key_file};
use crate::model::{Kind, Namespace, RootKeyCare, UnixSeconds};

/// Reads the root key from this file.
pub(super) async fn root_key(
    path: &Path,
    api: &Api,
    namespace: &Namespace,
    now: UnixSeconds,
) -> Result<RootKeyFound, RootKeyError> {
    let RootKeyFile { key, read_by_all } = read(path).await?;
    let home = home(api, namespace).await.map_err(RootKeyError::LookAtPast)?;
    let held = held(path, namespace, &home);
    may_begin(api, namespace, &held, now).await?;
    if read_by_all {
        tracing::warn!(
            file = %path.display(),
            "everybody on the machine may read the root key's file, as far as its folder lets them: where you can, give it \
             to group 65532 with mode 0440 (defaultMode: 0440 in a volume that Kubernetes fills)"
        );
    }
    tracing::info!(file = %path.display(), "the root key was read from its file");
    Ok(RootKeyFound { key, created: false })
}

/// Nothing tells whether the key of a file was made for this namespace, so it is a first start where nothing was opened yet.
/// What a person has to say is said on our namespace: there is no object of the key's own.
fn held(path: &Path, namespace: &Namespace, home: &Home) -> Held {
    Held {
        brought: false,
        start_empty: said(&home.annotations, annotations::START_EMPTY),
        by: format!("the root key's file {}", path.display()),
        annotate: format!("annotate namespace {namespace}"),
    }
}

/// Whether the file still holds the key that this process runs under. Who keeps it keeps it outside of the cluster's state,
/// so nobody is asked for another copy.
pub(super) async fn look(path: &Path, key: &RootKey) -> Result<Look, String> {
    match read(path).await {
        Ok(found) if same(&found.key, key) => Ok(Look::Cared(RootKeyCare::Escrowed)),
        Ok(_) => Ok(Look::Lost(format!(
            "file {} now holds another key than the one that this replica was started with",
            path.display()
        ))),
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Internal) => Err(error.to_string()),
        Err(error) => Ok(Look::Lost(error.to_string())),
    }
}

fn same(one: &RootKey, other: &RootKey) -> bool {
    constant_time_eq(one.to_bytes().expose(), other.to_bytes().expose())
}

/// Apart from the runtime's own threads: a file system that hangs shall stop nothing else.
async fn read(path: &Path) -> Result<RootKeyFile, RootKeyError> {
    let path = path.to_owned();
    match spawn_blocking(move || root_key_file::read(&path)).await {
        Ok(read) => read.map_err(RootKeyError::File),
        Err(_) => Err(RootKeyError::FileNotRead),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::model::Uid;

    #[test]
    fn an_empty_store_says_on_what_a_person_says_that_there_is_nothing() {
        let namespace = Namespace::parse("strongroom-system").unwrap();
        let home = Home {
            uid: Uid::new("n1"),
            annotations: BTreeMap::new(),
        };
        let text = held(Path::new("/keys/root-key"), &namespace, &home)
            .store_empty(&namespace)
            .to_string();
        assert!(
            text.starts_with("the root key's file /keys/root-key is there"),
            "{text}"
        );
        assert!(
            text.contains(
                "kubectl annotate namespace strongroom-system --overwrite strongroom.dev/start-empty=$(date"
            ),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_gone_or_holds_another_key_is_noticed_while_a_replica_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-key");
        let ours: Vec<u8> = (1..=32).collect();
        let others: Vec<u8> = (2..=33).collect();
        fs::write(&path, &ours).unwrap();
        let key = read(&path).await.unwrap().key;
        assert!(matches!(
            look(&path, &key).await,
            Ok(Look::Cared(RootKeyCare::Escrowed))
        ));
        for content in [Some(others), Some(Vec::new()), None] {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert!(matches!(look(&path, &key).await, Ok(Look::Lost(_))));
        }
        fs::write(&path, &ours).unwrap();
        assert!(matches!(look(&path, &key).await, Ok(Look::Cared(_))));
    }
}
