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
mod tests {
    use std::collections::BTreeMap as Map;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::model::SecretBytes;
    use crate::wire::{FileMode, PlannedFile};

    const STAMP: &str = "2026_11_22_10_00_00";

    fn tree(folder: &TempDir) -> Tree {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        Tree::new(
            rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap(),
            None,
        )
    }

    fn file(path: &str, mode: u16, content: &[u8]) -> PlannedFile {
        PlannedFile {
            path: FilePath::parse(path).unwrap(),
            mode: FileMode::new(mode).unwrap(),
            content: SecretBytes::new(content.to_vec()),
        }
    }

    fn plan(files: Vec<PlannedFile>) -> FilePlan {
        FilePlan::new(files, "bundle").unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What a pod sees: every file that is reached by a name without leading dots.
    fn seen(folder: &Path, prefix: &str, into: &mut Map<String, (u32, Vec<u8>)>) {
        for name in names(folder).into_iter().filter(|name| !name.starts_with("..")) {
            let (path, shown) = (folder.join(&name), format!("{prefix}{name}"));
            let meta = std::fs::metadata(&path).unwrap();
            if meta.is_dir() {
                seen(&path, &format!("{shown}/"), into);
            } else {
                into.insert(shown, (meta.mode() & 0o7777, std::fs::read(&path).unwrap()));
            }
        }
    }

    #[test]
    fn files_lie_as_in_the_kubelets_own_volumes() {
        let folder = TempDir::new().unwrap();
        let tree = tree(&folder);
        assert!(!tree.is_written());
        let plan = plan(vec![file("a", 0o400, b"1"), file("keys/deep/b", 0o644, b"2")]);
        assert_eq!(tree.write(&plan, STAMP), Ok(Written::Changed));
        assert!(tree.is_written());
        let first = "..2026_11_22_10_00_00.0000000001";
        assert_eq!(names(folder.path()), [first, "..data", "a", "ca.crt", "keys"]);
        let link = |name: &str| {
            std::fs::read_link(folder.path().join(name))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            (link("..data").as_str(), link("a").as_str(), link("keys").as_str()),
            (first, "..data/a", "..data/keys")
        );
        let mut there = Map::new();
        seen(folder.path(), "", &mut there);
        let expected = [
            ("a", 0o400, &b"1"[..]),
            ("ca.crt", 0o644, b"bundle"),
            ("keys/deep/b", 0o644, b"2"),
        ];
        assert!(
            there
                .iter()
                .map(|(path, (mode, content))| (path.as_str(), *mode, content.as_slice()))
                .eq(expected)
        );
    }

    #[test]
    fn a_plan_that_is_shown_already_touches_nothing() {
        let folder = TempDir::new().unwrap();
        let tree = tree(&folder);
        let files = || vec![file("a", 0o600, b"1"), file("k/b", 0o644, b"2")];
        tree.write(&plan(files()), STAMP).unwrap();
        let before = names(folder.path());
        assert_eq!(tree.write(&plan(files()), STAMP), Ok(Written::Same));
        assert_eq!(names(folder.path()), before);
        for (what, other) in [
            (
                "content",
                plan(vec![file("a", 0o600, b"2"), file("k/b", 0o644, b"2")]),
            ),
            (
                "length",
                plan(vec![file("a", 0o600, b"11"), file("k/b", 0o644, b"2")]),
            ),
            (
                "mode",
                plan(vec![file("a", 0o400, b"1"), file("k/b", 0o644, b"2")]),
            ),
            (
                "one more",
                plan(vec![
                    file("a", 0o600, b"1"),
                    file("k/b", 0o644, b"2"),
                    file("c", 0o644, b""),
                ]),
            ),
            ("one less", plan(vec![file("a", 0o600, b"1")])),
            (
                "moved",
                plan(vec![file("a", 0o600, b"1"), file("k/c", 0o644, b"2")]),
            ),
            ("bundle", FilePlan::new(files(), "other").unwrap()),
        ] {
            tree.write(&plan(files()), STAMP).unwrap();
            assert_eq!(tree.write(&other, STAMP), Ok(Written::Changed), "{what}");
        }
    }

    #[test]
    fn replaced_files_stay_for_a_moment_and_are_swept() {
        let folder = TempDir::new().unwrap();
        let tree = tree(&folder);
        // The clock goes back all the time; the order holds.
        for n in 0..20 {
            tree.write(
                &plan(vec![file("a", 0o644, format!("{n}").as_bytes())]),
                &format!("{:02}", 90 - n),
            )
            .unwrap();
        }
        let ours = || {
            names(folder.path())
                .into_iter()
                .filter(|name| is_ours(name))
                .count()
        };
        assert_eq!(ours(), KEPT + 1);
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "19");
        tree.sweep().unwrap();
        assert_eq!(ours(), 1);
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "19");
    }

    #[test]
    fn what_a_process_that_died_left_half_done_is_cleared() {
        let folder = TempDir::new().unwrap();
        let tree = tree(&folder);
        tree.write(
            &plan(vec![file("a", 0o644, b"1"), file("gone", 0o644, b"1")]),
            STAMP,
        )
        .unwrap();
        let half = folder.path().join(format!("..{STAMP}.0000000002"));
        std::fs::create_dir_all(half.join("deep/er")).unwrap();
        std::fs::write(half.join("deep/er/half"), "x").unwrap();
        symlink("nowhere", folder.path().join(DATA_NEW)).unwrap();
        tree.write(&plan(vec![file("a", 0o644, b"2")]), STAMP).unwrap();
        tree.sweep().unwrap();
        assert_eq!(
            names(folder.path()),
            ["..2026_11_22_10_00_00.0000000002", "..data", "a", "ca.crt"]
        );
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "2");
    }

    #[test]
    fn links_that_somebody_laid_lead_nowhere() {
        let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        std::fs::write(outside.path().join("a"), "precious").unwrap();
        std::fs::create_dir(outside.path().join("k")).unwrap();
        let tree = tree(&folder);
        // Each name that the next write uses, laid as a link to somewhere else.
        for name in [
            format!("..{STAMP}.0000000001"),
            DATA.to_owned(),
            DATA_NEW.to_owned(),
        ] {
            symlink(outside.path(), folder.path().join(name)).unwrap();
        }
        assert!(!tree.is_written());
        tree.write(
            &plan(vec![file("a", 0o644, b"1"), file("k/b", 0o644, b"2")]),
            STAMP,
        )
        .unwrap();
        assert_eq!(names(outside.path()), ["a", "k"]);
        assert!(names(&outside.path().join("k")).is_empty());
        assert_eq!(
            std::fs::read_to_string(outside.path().join("a")).unwrap(),
            "precious"
        );
        assert_eq!(std::fs::read_to_string(folder.path().join("k/b")).unwrap(), "2");

        // And in the folder that is shown: it is not read through, so the plan is written anew.
        let shown = folder.path().join("..data/a");
        std::fs::remove_file(&shown).unwrap();
        symlink(outside.path().join("a"), &shown).unwrap();
        let again = plan(vec![file("a", 0o644, b"precious"), file("k/b", 0o644, b"2")]);
        assert_eq!(tree.write(&again, STAMP), Ok(Written::Changed));
        tree.sweep().unwrap();
        assert_eq!(
            std::fs::read_to_string(outside.path().join("a")).unwrap(),
            "precious"
        );
    }

    #[test]
    fn readers_never_see_an_empty_or_mixed_folder_while_it_changes_a_thousand_times() {
        let folder = TempDir::new().unwrap();
        let writer = tree(&folder);
        let both = |n: usize| {
            let value = format!("{n:05}");
            plan(vec![
                file("a", 0o644, value.as_bytes()),
                file("k/b", 0o644, value.as_bytes()),
            ])
        };
        writer.write(&both(0), STAMP).unwrap();
        let (done, reads, overtaken) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let state = || {
            let name = std::fs::read_link(folder.path().join(DATA)).expect("there always is a state");
            sequence_of(name.to_str().unwrap()).unwrap()
        };
        // A reader who holds the folder has all files of one state; one who goes by name has a whole file.
        let one_read = || -> std::io::Result<(String, String, String)> {
            let data = std::fs::File::open(folder.path().join(DATA))?;
            let held = |path: &str| {
                let (_, content) = read(data.as_fd(), path, 100)?;
                Ok::<_, std::io::Error>(String::from_utf8(content.to_vec()).unwrap())
            };
            Ok((
                held("a")?,
                held("k/b")?,
                std::fs::read_to_string(folder.path().join("a"))?,
            ))
        };
        let reader = || {
            let mut last = String::new();
            while !done.load(Ordering::Relaxed) {
                // A breath for the others on this machine.
                std::thread::park_timeout(Duration::from_micros(20));
                let before = state();
                match one_read() {
                    Ok((a, b, named)) => {
                        assert_eq!(a, b, "mixed");
                        assert!(named.len() == 5 && named >= a && a >= last, "{last} {a} {named}");
                        last = named;
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        // This machine let the reader stand while more changes went by than are kept.
                        let behind = state() - before;
                        assert!(behind > 4, "{error} after {behind} changes");
                        overtaken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        };
        let written = std::thread::scope(|scope| {
            scope.spawn(reader);
            scope.spawn(reader);
            let written = (1..=1_000).try_for_each(|n| {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "25 times the pace at which a volume changes at most"
                )]
                std::thread::sleep(Duration::from_millis(2));
                writer.write(&both(n), STAMP).map(|_| ())
            });
            done.store(true, Ordering::Relaxed);
            written
        });
        assert_eq!(written, Ok(()));
        let (reads, overtaken) = (reads.into_inner(), overtaken.into_inner());
        eprintln!("{reads} whole reads during 1,000 changes, {overtaken} overtaken");
        assert!(reads > 1_000 && overtaken < reads / 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_came_before_the_last_plan_is_what_is_seen(
            plans in prop::collection::vec(
                prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", ("[x-z]{0,5}", 0u16..=0o777), 0..6), 1..6,
            ),
        ) {
            let folder = TempDir::new().unwrap();
            let tree = tree(&folder);
            let mut expected = None;
            for files in plans {
                let list = files.iter().map(|(path, (content, mode))| file(path, *mode | 0o400, content.as_bytes()));
                // A list in which files get into each other's way is no plan.
                if let Ok(plan) = FilePlan::new(list.collect(), "bundle") {
                    tree.write(&plan, STAMP).unwrap();
                    expected = Some(files);
                }
            }
            if let Some(files) = expected {
                let mut there = Map::new();
                seen(folder.path(), "", &mut there);
                prop_assert_eq!(there.remove("ca.crt").map(|(_, content)| content), Some(b"bundle".to_vec()));
                let wanted: Map<_, _> = files
                    .into_iter()
                    .map(|(path, (content, mode))| (path, (u32::from(mode | 0o400), content.into_bytes())))
                    .collect();
                prop_assert_eq!(there, wanted);
            }
        }
    }
}
