//! Memory file systems and where they are mounted.
//!
//! A file system is made and filled while it is nowhere (`fsopen`, `fsmount`), and only then put at its place
//! (`move_mount`): nobody ever sees it empty or half written, and if this process dies before, it is gone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::FilesError;
use super::calls::{hold_folder, open_folder};
use crate::node::volume::Target;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// As `/proc/mounts` shows it.
const SOURCE: &str = "strongroom";
/// Mounts may lie on each other where something else mounted too; never this many.
const MAX_STACKED: usize = 16;

/// Which file system is mounted: its device number, unique as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct Device(pub(in crate::node) u64);

impl Device {
    /// That of a descriptor.
    pub(in crate::node) fn of(fd: BorrowedFd<'_>) -> Result<Self, FilesError> {
        rustix::fs::fstat(fd)
            .map(|stat| Self(stat.st_dev))
            .map_err(FilesError::Open)
    }
}

/// What is at a volume's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Place {
    /// Nothing, or a plain folder.
    Free,
    /// A memory file system, as volumes of ours are.
    Tmpfs(Device),
    /// Something else is mounted there.
    Foreign,
}

/// A new memory file system that is not mounted anywhere yet.
pub(in crate::node) struct Tmpfs(OwnedFd);

impl Tmpfs {
    /// Makes one: no execution, no set-user-id, no devices, not swapped where the kernel can promise that.
    pub(in crate::node) fn create(mode: u16, bytes: u64, inodes: u64) -> Result<Self, FilesError> {
        let configured = |noswap: bool| {
            let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(fs.as_fd(), "source", SOURCE)?;
            fsconfig_set_string(fs.as_fd(), "mode", format!("{mode:o}"))?;
            fsconfig_set_string(fs.as_fd(), "size", bytes.to_string())?;
            fsconfig_set_string(fs.as_fd(), "nr_inodes", inodes.to_string())?;
            if noswap {
                fsconfig_set_flag(fs.as_fd(), "noswap")?;
            }
            fsconfig_create(fs.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV;
            fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        // Linux 6.4 has `noswap`; earlier ones call it invalid.
        configured(true)
            .or_else(|errno| {
                if errno == Errno::INVAL {
                    configured(false)
                } else {
                    Err(errno)
                }
            })
            .map(Self)
            .map_err(|errno| kernel_or(errno, FilesError::Create))
    }

    /// Its root folder.
    pub(in crate::node) fn root(&self) -> Result<OwnedFd, FilesError> {
        open_folder(self.0.as_fd(), ".").map_err(|errno| kernel_or(errno, FilesError::Create))
    }

    /// Mounts it at `leaf` of a folder; `leaf` is made if need be. From here on it is seen.
    pub(in crate::node) fn attach(&self, folder: BorrowedFd<'_>, leaf: &str) -> Result<(), FilesError> {
        match rustix::fs::mkdirat(folder, leaf, Mode::from(0o750)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(FilesError::Attach(errno)),
        }
        let point = hold_folder(folder, leaf).map_err(|errno| kernel_or(errno, FilesError::Attach))?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.0.as_fd(), "", point.as_fd(), "", empty).map_err(FilesError::Attach)
    }
}

/// The kubelet's folder: volumes are mounted below it and nowhere else.
pub(in crate::node) struct Kubelet(OwnedFd);

impl Kubelet {
    /// Opens the folder; it may itself be a link, nothing below it may.
    pub(in crate::node) fn open(folder: &Path) -> Result<Self, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, folder, flags, Mode::empty())
            .map(Self)
            .map_err(FilesError::Open)
    }

    /// A folder below it, for `…at` calls.
    pub(in crate::node) fn folder(&self, relative: &str) -> Result<OwnedFd, FilesError> {
        hold_folder(self.0.as_fd(), relative).map_err(|errno| match errno {
            Errno::NOENT => FilesError::Gone,
            other => kernel_or(other, FilesError::Open),
        })
    }

    /// What is at a target.
    pub(in crate::node) fn inspect(&self, target: &Target) -> Result<Place, FilesError> {
        match self.folder(target.folder()) {
            Ok(folder) => inspect(folder.as_fd(), Target::LEAF),
            Err(FilesError::Gone) => Ok(Place::Free),
            Err(error) => Err(error),
        }
    }

    /// The root folder of what is mounted at a target, if it is still that.
    pub(in crate::node) fn mounted(&self, target: &Target, device: Device) -> Result<OwnedFd, FilesError> {
        let folder = self.folder(target.folder())?;
        let root = open_folder(folder.as_fd(), Target::LEAF).map_err(|errno| match errno {
            Errno::NOENT => FilesError::Gone,
            other => kernel_or(other, FilesError::Open),
        })?;
        if Device::of(root.as_fd())? == device {
            Ok(root)
        } else {
            Err(FilesError::Gone)
        }
    }

    /// Unmounts whatever is at a target and removes the mount point. All is well if there was nothing.
    pub(in crate::node) fn unmount(&self, target: &Target) -> Result<(), FilesError> {
        match self.folder(target.folder()) {
            Ok(folder) => clear(folder.as_fd(), Target::LEAF),
            Err(FilesError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What is at `leaf` of a folder.
pub(in crate::node) fn inspect(folder: BorrowedFd<'_>, leaf: &str) -> Result<Place, FilesError> {
    let there = match hold_folder(folder, leaf) {
        Ok(there) => there,
        Err(Errno::NOENT) => return Ok(Place::Free),
        Err(errno) => return Err(kernel_or(errno, FilesError::Open)),
    };
    let inner = Device::of(there.as_fd())?;
    if inner == Device::of(folder)? {
        return Ok(Place::Free);
    }
    let kind = rustix::fs::fstatfs(there.as_fd())
        .map_err(FilesError::Open)?
        .f_type;
    Ok(if kind == TMPFS_MAGIC {
        Place::Tmpfs(inner)
    } else {
        Place::Foreign
    })
}

/// Unmounts all that is mounted at `leaf` of a folder, and removes it.
pub(in crate::node) fn clear(folder: BorrowedFd<'_>, leaf: &str) -> Result<(), FilesError> {
    // The folder is held open, so no part of the path can be exchanged on the way.
    let point = format!("/proc/self/fd/{}/{leaf}", folder.as_raw_fd());
    for _ in 0..MAX_STACKED {
        let done = match unmount(point.as_str(), UnmountFlags::NOFOLLOW) {
            // Somebody on the node has a file of it open: it goes when they close it.
            Err(Errno::BUSY) => unmount(point.as_str(), UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            other => other,
        };
        match done {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(errno) => return Err(FilesError::Unmount(errno)),
        }
    }
    match rustix::fs::unlinkat(folder, leaf, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(FilesError::Unmount(errno)),
    }
}

fn kernel_or(errno: Errno, other: fn(Errno) -> FilesError) -> FilesError {
    if errno == Errno::NOSYS {
        FilesError::Kernel
    } else {
        other(errno)
    }
}
