//! The root key in a file that somebody else keeps. It is read, never made and never written.
//!
//! # Why
//! Where the file comes from is not ours: a volume of a driver, a folder of the node, a Secret that the kubelet shows as
//! links. So links are followed, and of the file only that is asked which tells a key from a mistake: that it is a file, of
//! exactly the length of a key, in which something was written, and which not everybody on the machine may replace. That
//! everybody there may read it is told and not refused: drivers of secret volumes give their files to root, for all to read,
//! and a volume of a pod lies in a folder of the node that only root enters.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CryptoError, RootKey};
use crate::model::{Kind, SecretBytes};

/// Bytes of a root key.
const LENGTH: usize = 32;
/// Bits of the mode by which everybody on the machine may read, and write.
const READ_BY_ALL: u32 = 0o004;
const WRITTEN_BY_ALL: u32 = 0o002;

/// What a file gave.
#[derive(Debug)]
pub struct RootKeyFile {
    /// The key.
    pub key: RootKey,
    /// Everybody on the machine may read the file.
    pub read_by_all: bool,
}

/// Why a file gives no root key. Each text says what to do, and none says anything of what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyFileError {
    /// There is nothing at this path.
    #[error(
        "there is no file {}, from where the root key is to be read, and none is made. If there are vaults already, put the \
         file with their key there again, from its escrow; for a new installation make one: openssl rand -out root-key 32", .0.display()
    )]
    Missing(PathBuf),
    /// What is there may not be read by this process.
    #[error(
        "the root key's file {} may not be read by this process: give it to the user or the group that the process runs as \
         (65532 in the chart's pods), with mode 0440; a volume that Kubernetes fills takes defaultMode: 0440", .0.display()
    )]
    Denied(PathBuf),
    /// A folder, a pipe or a device.
    #[error(
        "{} is not a file, so no root key is read from it: rootKey.file.path of the chart names the file in its volume", .0.display()
    )]
    NotAFile(PathBuf),
    /// Everybody on the machine may write it.
    #[error(
        "everybody on the machine may replace the root key's file {}, and with it make all vaults unreadable, so it is not \
         used: chmod o-w", .0.display()
    )]
    WrittenByAll(PathBuf),
    /// It holds fewer bytes or more.
    #[error(
        "the root key's file {} holds {bytes} bytes and no root key, which is exactly 32: the bytes themselves, neither in \
         base64 nor in hexadecimal digits, with no line break after them", path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it holds.
        bytes: u64,
    },
    /// The same byte, 32 times.
    #[error(
        "the root key's file {} holds 32 times the same byte and no root key: it was never written, or its content is lost; \
         put the right one there", .0.display()
    )]
    Blank(PathBuf),
    /// It could be opened and not be read to its end.
    #[error("the root key's file {} cannot be read: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// No key could be made of it.
    #[error("the root key of file {} cannot be used: {why}", path.display())]
    Derive {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: CryptoError,
    },
}

impl RootKeyFileError {
    /// The kind of failure. Only [`Kind::Unavailable`] is worth waiting for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::Denied(_) => Kind::Denied,
            Self::NotAFile(_) | Self::WrittenByAll(_) | Self::Length { .. } | Self::Blank(_) => Kind::Invalid,
            Self::Read { .. } => Kind::Unavailable,
            Self::Derive { .. } => Kind::Internal,
        }
    }
}

/// Reads the root key. It blocks for as long as the file system does.
///
/// # Errors
/// [`RootKeyFileError`].
pub fn read(path: &Path) -> Result<RootKeyFile, RootKeyFileError> {
    let failed = |why| failure(path, why);
    // Before it is opened: that would wait for whoever writes into a pipe.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(RootKeyFileError::NotAFile(path.to_owned()));
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode();
    if mode & WRITTEN_BY_ALL != 0 {
        return Err(RootKeyFileError::WrittenByAll(path.to_owned()));
    }
    let mut buffer = Zeroizing::new([0; LENGTH + 1]);
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let Some(bytes) = buffer.get(..LENGTH).filter(|_| filled == LENGTH) else {
        return Err(RootKeyFileError::Length {
            path: path.to_owned(),
            bytes: u64::try_from(filled).unwrap_or(u64::MAX).max(metadata.len()),
        });
    };
    if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
        return Err(RootKeyFileError::Blank(path.to_owned()));
    }
    let key = RootKey::from_bytes(&SecretBytes::new(bytes.to_vec()));
    Ok(RootKeyFile {
        key: key.map_err(|why| RootKeyFileError::Derive {
            path: path.to_owned(),
            why,
        })?,
        read_by_all: mode & READ_BY_ALL != 0,
    })
}

fn failure(path: &Path, why: io::Error) -> RootKeyFileError {
    let path = path.to_owned();
    match why.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => RootKeyFileError::Missing(path),
        ErrorKind::PermissionDenied => RootKeyFileError::Denied(path),
        _ => RootKeyFileError::Read { path, why },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::crypto::mac::constant_time_eq;

    fn key() -> Vec<u8> {
        (1..=32).collect()
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn opens(path: &Path) -> RootKeyFile {
        let file = read(path).unwrap();
        assert!(constant_time_eq(file.key.to_bytes().expose(), &key()));
        file
    }

    #[test]
    fn a_file_of_32_bytes_is_a_root_key_whoever_but_all_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-key");
        for (mode, read_by_all) in [
            (0o400, false),
            (0o440, false),
            (0o600, false),
            // What the kubelet makes of a volume that can be written, for the pod's group.
            (0o660, false),
            (0o444, true),
            (0o644, true),
        ] {
            write(&path, &key(), mode);
            assert_eq!(opens(&path).read_by_all, read_by_all, "{mode:o}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_is_found_through_the_links_by_which_kubernetes_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let (data, path) = (folder.path().join("..2026_11_30"), folder.path().join("root-key"));
        fs::create_dir(&data).unwrap();
        write(&data.join("root-key"), &key(), 0o440);
        symlink("..2026_11_30", folder.path().join("..data")).unwrap();
        symlink("..data/root-key", &path).unwrap();
        // The mode is the file's: a link is open to all.
        assert!(!opens(&path).read_by_all);
        fs::remove_file(data.join("root-key")).unwrap();
        assert!(matches!(read(&path), Err(RootKeyFileError::Missing(_))));
    }

    #[test]
    fn what_is_no_root_key_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        let base64 = b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n";
        for (name, content) in [
            ("empty", &b""[..]),
            ("short", &key()[1..]),
            ("line", &[key(), vec![b'\n']].concat()),
            ("base64", base64),
            ("blank", &[0; 32]),
            ("large", &[7; 100_000]),
        ] {
            write(&path(name), content, 0o400);
        }
        write(&path("replaceable"), &key(), 0o662);
        for (name, kind, says) in [
            ("none", Kind::NotFound, "openssl rand -out root-key 32"),
            ("short/below", Kind::NotFound, "there is no file"),
            ("folder", Kind::Invalid, "is not a file"),
            ("empty", Kind::Invalid, "holds 0 bytes"),
            ("short", Kind::Invalid, "holds 31 bytes"),
            ("line", Kind::Invalid, "holds 33 bytes"),
            ("base64", Kind::Invalid, "holds 45 bytes"),
            ("large", Kind::Invalid, "holds 100000 bytes"),
            ("blank", Kind::Invalid, "32 times the same byte"),
            ("replaceable", Kind::Invalid, "chmod o-w"),
        ] {
            let refused = read(&path(name)).unwrap_err();
            assert_eq!(refused.kind(), kind, "{refused}");
            assert!(refused.to_string().contains(says), "{refused}");
            assert!(
                refused.to_string().contains(path(name).to_str().unwrap()),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_may_not_be_read_says_who_is_to_have_it_and_what_fails_for_now_is_tried_again() {
        let failed = |kind: ErrorKind| failure(Path::new("/keys/root-key"), kind.into());
        let denied = failed(ErrorKind::PermissionDenied);
        assert_eq!(denied.kind(), Kind::Denied);
        assert!(denied.to_string().contains("65532"), "{denied}");
        assert_eq!(failed(ErrorKind::TimedOut).kind(), Kind::Unavailable);
    }
}
