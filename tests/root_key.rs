//! A start with the root key in a file, without a cluster: from the file to everything that is sealed under it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strongroom::cluster::{OpenStoreError, RootKeyFound, RootKeySource, open_store};
use strongroom::crypto::root_key_file;
use strongroom::model::{Kind, Namespace, UnixSeconds};
use strongroom::store::SealedStore;
use strongroom::store::memory::MemoryStore;
use strongroom::tls::{Authority, HostRule};

const NOW: UnixSeconds = UnixSeconds(1_764_500_000);

/// A folder as the kubelet makes it: what is in a volume changes as one, by a link.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new(key: &[u8]) -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        volume.hold("..1", key);
        symlink("..data/root-key", volume.file()).unwrap();
        volume
    }

    fn hold(&self, turn: &str, key: &[u8]) {
        let folder = self.0.path();
        fs::create_dir(folder.join(turn)).unwrap();
        let file = folder.join(turn).join("root-key");
        fs::write(&file, key).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        symlink(turn, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("root-key")
    }
}

fn key(first: u8) -> Vec<u8> {
    (first..first + 32).collect()
}

/// What a replica does first: the tenant id of what it opened, and the certificates that clients are to trust.
async fn start(store: &dyn SealedStore, file: &Path) -> Result<(String, String), OpenStoreError> {
    let found = RootKeyFound {
        key: root_key_file::read(file).unwrap().key,
        created: false,
    };
    let namespace = Namespace::parse("strongroom-system").unwrap();
    let source = RootKeySource::File(file.to_owned());
    let installation = open_store(store, &found, &source, &namespace, NOW).await?;
    let permitted = HostRule::vaults("cluster.local", Vec::new()).permitted();
    let sealing = found.key.sealing_key();
    let authority = Authority::load_or_create(store, &sealing, &installation.id, &permitted, NOW)
        .await
        .unwrap();
    Ok((installation.tenant, authority.bundle_pem().to_owned()))
}

#[tokio::test]
async fn an_installation_that_began_under_the_key_of_a_file_is_opened_again_by_that_key() {
    let (store, volume) = (MemoryStore::new(), Volume::new(&key(1)));
    let first = start(&store, &volume.file()).await.unwrap();
    let sealed = store.list().await.unwrap().0.len();
    assert_eq!(start(&store, &volume.file()).await.unwrap(), first);
    volume.hold("..2", &key(1));
    assert_eq!(
        start(&store, &volume.file()).await.unwrap(),
        first,
        "the volume was filled anew with the same key"
    );
    assert_eq!(store.list().await.unwrap().0.len(), sealed);
}

#[tokio::test]
async fn another_key_in_the_file_opens_nothing_changes_nothing_and_says_how_to_carry_the_right_one_over() {
    let (store, volume) = (MemoryStore::new(), Volume::new(&key(1)));
    let first = start(&store, &volume.file()).await.unwrap();
    let before = store.list().await.unwrap();
    volume.hold("..2", &key(2));
    let refused = start(&store, &volume.file()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Internal, "waiting does not help");
    let text = refused.to_string();
    for part in [
        "does not open this installation's records",
        volume.file().to_str().unwrap(),
        "another key than the one that the store was sealed with",
        "kubectl -n strongroom-system get secret strongroom-root-key -o jsonpath='{.data.root-key}' | base64 -d",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(store.list().await.unwrap(), before);
    volume.hold("..3", &key(1));
    assert_eq!(start(&store, &volume.file()).await.unwrap(), first);
}
