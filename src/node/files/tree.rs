//! The files of one volume. They change all at once, as the kubelet changes those of Secret volumes:
//!
//! ```text
//! password -> ..data/password
//! ..data -> ..2026_11_22_10_00_00.0000000007
//! ..2026_11_22_10_00_00.0000000007/password
//! ```
//!
//! A new folder is written beside the old one, then `..data` is renamed over. Unlike the kubelet's, the folders that
//! were replaced last stay for a moment, so that a reader who is just on the way through the link finds what it led to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::FilesError;
use super::calls::{create, list, open_folder, read};
use crate::wire::{FilePath, FilePlan, TRUST_BUNDLE_FILE};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// Replaced folders that may stay until [`Tree::sweep`].
const KEPT: usize = 4;
const FOLDER_MODE: u16 = 0o755;
/// Mode of the trust bundle, which is no secret.
const BUNDLE_MODE: u16 = 0o644;

/// Whether a plan changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Written {
    /// The volume shows the plan since now.
    Changed,
    /// It showed it already.
    Same,
}

/// The root folder of one volume's file system.
pub(in crate::node) struct Tree {
    root: OwnedFd,
    group: Option<u32>,
}

/// One file as it is.
struct Entry {
    mode: u16,
    group: u32,
    content: Zeroizing<Vec<u8>>,
}

impl Tree {
    /// The tree below `root`; its files belong to `group` if there is one.
    pub(in crate::node) const fn new(root: OwnedFd, group: Option<u32>) -> Self {
        Self { root, group }
    }

    /// Whether a volume was ever written here.
    pub(in crate::node) fn is_written(&self) -> bool {
        self.current().is_some()
    }

    /// Makes the volume show a plan, at once and whole. `stamp` is the time in the new folder's name.
    pub(in crate::node) fn write(&self, plan: &FilePlan, stamp: &str) -> Result<Written, FilesError> {
        let current = self.current();
        if current.as_ref().is_some_and(|current| self.shows(current, plan)) {
            return Ok(Written::Same);
        }
        let sequence = current
            .as_deref()
            .and_then(sequence_of)
            .unwrap_or_default()
            .saturating_add(1);
        let name = format!("..{stamp}.{sequence:010}");
        self.write_folder(&name, plan).map_err(FilesError::Write)?;
        self.switch(&name).map_err(FilesError::Switch)?;
        self.link(plan).map_err(FilesError::Switch)?;
        self.remove_replaced(&name, KEPT).map_err(FilesError::Switch)?;
        Ok(Written::Changed)
    }

    /// Removes what was replaced.
    pub(in crate::node) fn sweep(&self) -> Result<(), FilesError> {
        match self.current() {
            Some(current) => self.remove_replaced(&current, 0).map_err(FilesError::Switch),
            None => Ok(()),
        }
    }

    /// The folder that `..data` points to, if it is one of ours.
    fn current(&self) -> Option<String> {
        let name = rustix::fs::readlinkat(self.root.as_fd(), DATA, Vec::new())
            .ok()?
            .into_string()
            .ok()?;
        is_ours(&name).then_some(name)
    }

    fn write_folder(&self, name: &str, plan: &FilePlan) -> Result<(), Errno> {
        // What a process that died here left over.
        remove(self.root.as_fd(), name)?;
        let folder = self.make_folder(self.root.as_fd(), name)?;
        for file in plan.files() {
            self.write_file(
                folder.as_fd(),
                &file.path,
                file.mode.bits(),
                file.content.expose(),
            )?;
        }
        self.write_leaf(
            folder.as_fd(),
            TRUST_BUNDLE_FILE,
            BUNDLE_MODE,
            plan.trust_bundle(),
        )
    }

    fn write_file(
        &self,
        top: BorrowedFd<'_>,
        path: &FilePath,
        mode: u16,
        content: &[u8],
    ) -> Result<(), Errno> {
        let (folders, leaf) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
        let mut at = None;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let inner = self.make_folder(at.as_ref().map_or(top, AsFd::as_fd), part)?;
            at = Some(inner);
        }
        self.write_leaf(at.as_ref().map_or(top, AsFd::as_fd), leaf, mode, content)
    }

    fn make_folder(&self, outer: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        match rustix::fs::mkdirat(outer, name, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let folder = open_folder(outer, name)?;
        self.own(folder.as_fd())?;
        rustix::fs::fchmod(folder.as_fd(), Mode::from(u32::from(FOLDER_MODE)))?;
        Ok(folder)
    }

    fn write_leaf(&self, folder: BorrowedFd<'_>, name: &str, mode: u16, content: &[u8]) -> Result<(), Errno> {
        let file = create(folder, name, content)?;
        self.own(file.as_fd())?;
        rustix::fs::fchmod(file.as_fd(), Mode::from(u32::from(self.effective_mode(mode))))
    }

    fn own(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        match self.group {
            Some(group) => rustix::fs::fchown(fd, None, Some(Gid::from_raw(group))),
            None => Ok(()),
        }
    }

    /// With a group, the group may read what the owner may, as in Kubernetes' Secret volumes.
    const fn effective_mode(&self, mode: u16) -> u16 {
        if self.group.is_some() {
            mode | ((mode & 0o400) >> 3)
        } else {
            mode
        }
    }

    fn switch(&self, name: &str) -> Result<(), Errno> {
        remove(self.root.as_fd(), DATA_NEW)?;
        rustix::fs::symlinkat(name, self.root.as_fd(), DATA_NEW)?;
        rustix::fs::renameat(self.root.as_fd(), DATA_NEW, self.root.as_fd(), DATA)
    }

    /// Links from the names that users see through `..data`; links of files that are no more go.
    fn link(&self, plan: &FilePlan) -> Result<(), Errno> {
        let wanted: BTreeSet<&str> = plan
            .files()
            .iter()
            .filter_map(|file| file.path.parts().next())
            .chain(std::iter::once(TRUST_BUNDLE_FILE))
            .collect();
        for name in &wanted {
            match rustix::fs::symlinkat(format!("{DATA}/{name}"), self.root.as_fd(), *name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        for (name, kind) in list(self.root.as_fd())? {
            if kind == FileType::Symlink && !name.starts_with("..") && !wanted.contains(name.as_str()) {
                remove(self.root.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    /// Removes the folders that are not `current`, but for the youngest `keep` of them.
    fn remove_replaced(&self, current: &str, keep: usize) -> Result<(), Errno> {
        let entries = list(self.root.as_fd())?;
        let mut replaced: Vec<String> = entries
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| is_ours(name) && name != current)
            .collect();
        // By their sequence, not by their time: clocks jump.
        replaced.sort_by_key(|name| std::cmp::Reverse(sequence_of(name)));
        for name in replaced.iter().skip(keep) {
            remove(self.root.as_fd(), name)?;
        }
        Ok(())
    }

    fn shows(&self, current: &str, plan: &FilePlan) -> bool {
        let mut there = BTreeMap::new();
        let read = open_folder(self.root.as_fd(), current)
            .and_then(|folder| collect(folder.as_fd(), "", &mut there));
        if read.is_err() || there.len() != plan.files().len().saturating_add(1) {
            return false;
        }
        let same = |path: &str, mode: u16, content: &[u8]| {
            there.get(path).is_some_and(|entry| {
                entry.mode == self.effective_mode(mode)
                    && self.group.is_none_or(|group| entry.group == group)
                    && entry.content.as_slice() == content
            })
        };
        plan.files()
            .iter()
            .all(|file| same(file.path.as_str(), file.mode.bits(), file.content.expose()))
            && same(TRUST_BUNDLE_FILE, BUNDLE_MODE, plan.trust_bundle())
    }
}

/// Whether a name is that of a folder of ours: `..<stamp>.<sequence>`.
fn is_ours(name: &str) -> bool {
    name.starts_with("..") && !name.contains('/') && sequence_of(name).is_some()
}

fn sequence_of(name: &str) -> Option<u64> {
    let (_, digits) = name.rsplit_once('.')?;
    if digits.len() == 10 {
        digits.parse().ok()
    } else {
        None
    }
}

/// Reads all files below a folder, by their path.
fn collect(folder: BorrowedFd<'_>, prefix: &str, into: &mut BTreeMap<String, Entry>) -> Result<(), Errno> {
    for (name, kind) in list(folder)? {
        let path = format!("{prefix}{name}");
        if kind == FileType::Directory {
            collect(open_folder(folder, &name)?.as_fd(), &format!("{path}/"), into)?;
        } else {
            let (file, content) = read(folder, &name, FilePlan::MAX_BYTES)?;
            let stat = rustix::fs::fstat(file.as_fd())?;
            let mode = u16::try_from(stat.st_mode & 0o7777).unwrap_or(u16::MAX);
            into.insert(
                path,
                Entry {
                    mode,
                    group: stat.st_gid,
                    content,
                },
            );
        }
    }
    Ok(())
}

/// Removes a file, a link or a folder with all that is in it; all is well if it is not there.
fn remove(folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let inner = open_folder(folder, name)?;
    for (name, _) in list(inner.as_fd())? {
        remove(inner.as_fd(), &name)?;
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests;
