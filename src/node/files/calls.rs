//! System calls as the rooms around use them: beneath a folder, never through a link, whole.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// Opens something below a folder: never above it, never through a link.
pub(in crate::node) fn open_beneath(
    folder: BorrowedFd<'_>,
    relative: &str,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 0..8 {
        match rustix::fs::openat2(folder, relative, flags, mode, resolve) {
            // Something was renamed meanwhile and the kernel could not be sure.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a folder below another, to read and to work in.
pub(in crate::node) fn open_folder(folder: BorrowedFd<'_>, relative: &str) -> Result<OwnedFd, Errno> {
    open_beneath(
        folder,
        relative,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

/// Opens a folder below another, to hold it and no more.
pub(in crate::node) fn hold_folder(folder: BorrowedFd<'_>, relative: &str) -> Result<OwnedFd, Errno> {
    open_beneath(folder, relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Writes a new file (0600) with this content.
pub(in crate::node) fn create(folder: BorrowedFd<'_>, name: &str, content: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = open_beneath(folder, name, flags, Mode::from(0o600))?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(file.as_fd(), rest) {
            Err(Errno::INTR) => {}
            written => rest = rest.get(written?..).unwrap_or_default(),
        }
    }
    Ok(file)
}

/// Opens a file and reads it, up to `most` bytes.
pub(in crate::node) fn read(
    folder: BorrowedFd<'_>,
    name: &str,
    most: usize,
) -> Result<(OwnedFd, Zeroizing<Vec<u8>>), Errno> {
    let file = open_beneath(folder, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    let size = usize::try_from(rustix::fs::fstat(file.as_fd())?.st_size)
        .unwrap_or(most)
        .min(most);
    let mut content = Zeroizing::new(vec![0; size]);
    let mut filled = 0usize;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(file.as_fd(), rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    content.truncate(filled);
    Ok((file, content))
}

/// The entries of a folder, without `.` and `..`. Names that are not text are left out: none of ours is.
pub(in crate::node) fn list(folder: BorrowedFd<'_>) -> Result<Vec<(String, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => entries.push((name.to_owned(), entry.file_type())),
        }
    }
    Ok(entries)
}
