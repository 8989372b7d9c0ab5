//! What must outlive this process: which volumes are mounted, and the last token of each pod. In memory only: a file
//! system of the driver's own, mounted in its plugin folder so that it stays when the pod goes, and gone with the node.

use std::os::fd::{AsFd, OwnedFd};

use minicbor::{Decode, Encode};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::files::{self, Device, FilesError, Kubelet, Place, Tmpfs};
use super::volume::{PodLabel, Target, Volume, VolumeId};
use crate::model::SecretBytes;
use crate::wire::Open;

const LEAF: &str = "state";
/// Room for 4,096 records of the longest kind would be more; the usual one has 2 KiB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const MAX_INODES: u64 = 16 * 1024;
/// Longer files are not records.
const MAX_RECORD: usize = 128 * 1024;

/// A mounted volume.
pub(super) struct Record {
    pub(super) volume: Volume,
    pub(super) device: Device,
    pub(super) token: SecretBytes,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[n(0)]
    open: Open,
    #[n(1)]
    target: String,
    #[n(2)]
    group: Option<u32>,
    #[n(3)]
    device: u64,
    #[n(4)]
    pod_namespace: String,
    #[n(5)]
    pod_name: String,
    #[n(6)]
    pod_uid: String,
}

/// The records of mounted volumes.
pub(super) struct State {
    folder: OwnedFd,
    root: OwnedFd,
}

impl State {
    /// Opens the state of the process before, or begins a new one. `folder` is the plugin folder below the kubelet's.
    pub(super) fn open(kubelet: &Kubelet, folder: &str) -> Result<Self, FilesError> {
        let folder = kubelet.folder(folder)?;
        if let Place::Foreign | Place::Free = files::inspect(folder.as_fd(), LEAF)? {
            files::clear(folder.as_fd(), LEAF)?;
            Tmpfs::create(0o700, MAX_BYTES, MAX_INODES)?.attach(folder.as_fd(), LEAF)?;
        }
        let root = files::open_folder(folder.as_fd(), LEAF).map_err(FilesError::Open)?;
        Ok(Self { folder, root })
    }

    /// Keeps a record, in place of that volume's last.
    pub(super) fn save(&self, record: Record) -> Result<(), FilesError> {
        let Record {
            volume,
            device,
            token,
        } = record;
        let Volume {
            id,
            target,
            vault,
            objects,
            group,
            pod,
        } = volume;
        let name = id.as_str();
        let stored = Stored {
            open: Open {
                volume: name.to_owned(),
                vault,
                objects,
                token,
                mounted: true,
            },
            target: target.relative(),
            group,
            device: device.0,
            pod_namespace: pod.namespace,
            pod_name: pod.name,
            pod_uid: pod.uid,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_RECORD));
        // A Vec takes whatever is written to it.
        minicbor::encode(&stored, &mut *bytes).map_err(|_| FilesError::Write(Errno::INVAL))?;
        self.replace(name, &bytes).map_err(FilesError::Write)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Errno> {
        let new = format!(".{name}");
        match rustix::fs::unlinkat(self.root.as_fd(), new.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        files::create(self.root.as_fd(), &new, bytes)?;
        rustix::fs::renameat(self.root.as_fd(), new.as_str(), self.root.as_fd(), name)
    }

    /// Forgets a volume; all is well if it was not known.
    pub(super) fn remove(&self, id: &VolumeId) -> Result<(), FilesError> {
        match rustix::fs::unlinkat(self.root.as_fd(), id.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FilesError::Write(errno)),
        }
    }

    /// Every record. What is no record is removed.
    pub(super) fn load(&self) -> Result<Vec<Record>, FilesError> {
        let mut records = Vec::new();
        for name in self.names().map_err(FilesError::Open)? {
            match self.read(&name) {
                Some(record) => records.push(record),
                None => {
                    rustix::fs::unlinkat(self.root.as_fd(), name.as_str(), AtFlags::empty())
                        .map_err(FilesError::Write)?;
                }
            }
        }
        Ok(records)
    }

    /// Ends the state if nothing is mounted any more, so that an uninstalled driver leaves nothing behind.
    pub(super) fn close(&self) -> Result<(), FilesError> {
        if !self.names().map_err(FilesError::Open)?.is_empty() {
            return Ok(());
        }
        files::clear(self.folder.as_fd(), LEAF)
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        Ok(files::list(self.root.as_fd())?
            .into_iter()
            .map(|(name, _)| name)
            .collect())
    }

    fn read(&self, name: &str) -> Option<Record> {
        let id = VolumeId::parse(name).ok()?;
        let (_, bytes) = files::read(self.root.as_fd(), name, MAX_RECORD).ok()?;
        let stored: Stored = minicbor::decode(&bytes).ok()?;
        let Open {
            vault,
            objects,
            token,
            ..
        } = stored.open;
        let volume = Volume {
            id,
            target: Target::below(&stored.target).ok()?,
            vault,
            objects,
            group: stored.group,
            pod: PodLabel {
                namespace: stored.pod_namespace,
                name: stored.pod_name,
                uid: stored.pod_uid,
            },
        };
        Some(Record {
            volume,
            device: Device(stored.device),
            token,
        })
    }
}
