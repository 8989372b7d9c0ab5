//! The files of mounted volumes: memory file systems that appear whole, and change as one.

mod calls;
mod mounts;
mod tree;

use rustix::io::Errno;

use crate::model::Kind;

pub(super) use calls::{create, list, open_folder, read};
pub(super) use mounts::{Device, Kubelet, Place, Tmpfs, clear, inspect};
pub(super) use tree::{Tree, Written};

/// What could not be done with a volume's files on this node. It names no path and no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilesError {
    #[error("this node's kernel is too old: Linux 5.6 or later is needed")]
    Kernel,
    #[error("the folder of the volume cannot be opened: {0}")]
    Open(Errno),
    #[error("a memory file system cannot be made: {0}")]
    Create(Errno),
    #[error("a file cannot be written: {0}")]
    Write(Errno),
    #[error("the files cannot be switched to their new state: {0}")]
    Switch(Errno),
    #[error("the memory file system cannot be mounted: {0}")]
    Attach(Errno),
    #[error("the volume cannot be unmounted: {0}")]
    Unmount(Errno),
    #[error("the volume is no longer mounted")]
    Gone,
    #[error("this process is stopping")]
    Stopping,
}

impl FilesError {
    /// Trying again later helps, but for a kernel that is too old.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Kernel => Kind::Internal,
            Self::Open(_)
            | Self::Create(_)
            | Self::Write(_)
            | Self::Switch(_)
            | Self::Attach(_)
            | Self::Unmount(_)
            | Self::Gone
            | Self::Stopping => Kind::Unavailable,
        }
    }
}
