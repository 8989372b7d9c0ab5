//! The log in files: `audit.log`, and closed ones beside it, `audit-<number>.log`, the lowest number the oldest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::AuditIncident;

use super::sink::{Durable, Sink};

const CURRENT: &str = "audit.log";
const NEXT: &str = "audit.log.next";
/// Room is reserved in steps of this size, where the disk has it.
const STEP: u64 = 256 * 1024;
/// Who may read it is the volume's group.
const MODE: u32 = 0o640;

/// Where the log is, and how much of it is kept. The volume needs room for `keep` + 1 files of `max_bytes`; at the cap the
/// oldest closed file is removed, and where the disk is full before, everything is refused until it is not.
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// A file of this size is closed and the next begun.
    pub max_bytes: u64,
    /// How many closed files are kept, at least one.
    pub keep: usize,
}

/// The files.
pub(super) struct LogFile {
    config: FileConfig,
    /// The file that is written.
    path: PathBuf,
    metrics: Arc<Metrics>,
    current: Option<Current>,
    /// Whether the file system can set room aside.
    sets_room_aside: bool,
    /// Whether the folder's entries may not be on disk yet.
    folder_changed: bool,
}

struct Current {
    file: Arc<File>,
    /// Device and inode. No other file has them while this one is open.
    identity: (u64, u64),
    len: u64,
    /// Up to here the disk has room for it.
    room_to: u64,
    /// Its last line was cut.
    torn: bool,
}

impl Durable for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What became of the file under us.
enum Found {
    AsItWas,
    Elsewhere,
    Cut(u64),
    Grown(u64),
}

impl LogFile {
    pub(super) fn new(config: FileConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            path: config.dir.join(CURRENT),
            config,
            metrics,
            current: None,
            sets_room_aside: true,
            folder_changed: false,
        }
    }

    fn current(&mut self) -> io::Result<&mut Current> {
        if self.current.is_none() {
            fs::create_dir_all(&self.config.dir)?;
            let mut current = Current::open(&self.path, false)?;
            current.torn = current.ends_torn()?;
            if current.torn {
                self.metrics.audit_incident(AuditIncident::TornLine);
                tracing::warn!("the audit log's last line was cut; the next one begins afresh");
            }
            self.folder_changed = true;
            self.current = Some(current);
        }
        self.current
            .as_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Sees to it that so many more bytes find room.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if !self.sets_room_aside {
            return Ok(());
        }
        match self.current()?.make_room(bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                tracing::warn!(
                    "the audit log's file system cannot set room aside: on a full disk outcomes may be missing"
                );
                self.sets_room_aside = false;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Closes a full file and begins the next. The next one has its room before anything else happens.
    fn rotate(&mut self, room: u64) -> io::Result<()> {
        let dir = &self.config.dir;
        let mut closed = closed_files(dir)?;
        let keep = self.config.keep.max(1);
        while closed.len() >= keep {
            fs::remove_file(dir.join(closed_name(closed.remove(0))))?;
            self.metrics.audit_incident(AuditIncident::Removed);
        }
        let mut next = Current::open(&dir.join(NEXT), true)?;
        if self.sets_room_aside {
            next.make_room(room)?;
        }
        let number = closed.last().map_or(1, |last| last.saturating_add(1));
        fs::rename(&self.path, dir.join(closed_name(number)))?;
        self.folder_changed = true;
        let full = self.current.take();
        fs::rename(dir.join(NEXT), &self.path)?;
        self.current = Some(next);
        self.metrics.audit_incident(AuditIncident::Rotated);
        if let Some(full) = full {
            // Gives back what was set aside beyond its end; where that fails the room is lost until the file goes.
            let _ = full.file.set_len(full.len);
        }
        Ok(())
    }

    /// Compares the file that we hold with the one of its name.
    fn look(&mut self) -> io::Result<Found> {
        let named = match fs::symlink_metadata(&self.path) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Elsewhere),
            Err(error) => return Err(error),
        };
        let current = self.current()?;
        if (named.dev(), named.ino()) != current.identity {
            return Ok(Found::Elsewhere);
        }
        Ok(match named.len() {
            len if len < current.len => Found::Cut(len),
            len if len > current.len => Found::Grown(len),
            _ => Found::AsItWas,
        })
    }

    /// Whether what was written is in the file of our name. Where it is not, or not surely, the next attempt begins on a fresh
    /// line of the right file: a record may then stand twice, and never nowhere.
    fn is_in_place(&mut self) -> io::Result<bool> {
        match self.look()? {
            Found::AsItWas => Ok(true),
            Found::Elsewhere => {
                self.current = None;
                self.metrics.audit_incident(AuditIncident::Replaced);
                tracing::warn!("the audit log's file was deleted or replaced; a new one is begun");
                Ok(false)
            }
            Found::Cut(len) => {
                let current = self.current()?;
                (current.len, current.room_to, current.torn) = (len, len, true);
                self.metrics.audit_incident(AuditIncident::Truncated);
                tracing::warn!("the audit log's file was cut by somebody else");
                Ok(false)
            }
            Found::Grown(len) => {
                let current = self.current()?;
                current.len = len;
                current.torn = current.ends_torn()?;
                Ok(true)
            }
        }
    }

    fn try_append(&mut self, lines: &[u8], reserve: u64, begun: bool) -> io::Result<Arc<dyn Durable>> {
        let room = (lines.len() as u64).saturating_add(reserve);
        for _ in 0..3 {
            let len = self.current()?.len;
            if !begun {
                if len > 0 && len.saturating_add(lines.len() as u64) > self.config.max_bytes {
                    self.rotate(room)?;
                }
                self.make_room(room)?;
            }
            self.current()?.write(lines)?;
            if self.is_in_place()? {
                self.sync_folder()?;
                let file = Arc::clone(&self.current()?.file);
                return Ok(file);
            }
        }
        Err(io::Error::other(
            "the audit log's file is replaced again and again",
        ))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        if self.folder_changed {
            File::open(&self.config.dir)?.sync_all()?;
            self.folder_changed = false;
        }
        Ok(())
    }
}

impl Sink for LogFile {
    fn append(&mut self, lines: &[u8], reserve: u64, begun: bool) -> io::Result<Arc<dyn Durable>> {
        let written = self.try_append(lines, reserve, begun);
        if written.is_err() {
            // What fails may not be the file of our name any more: the next attempt opens that one.
            self.distrust();
        }
        written
    }

    fn distrust(&mut self) {
        self.current = None;
    }
}

impl Current {
    fn open(path: &std::path::Path, empty: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(MODE);
        let file = options.open(path)?;
        if empty {
            file.set_len(0)?;
        }
        let found = file.metadata()?;
        let len = found.len();
        Ok(Self {
            file: Arc::new(file),
            identity: (found.dev(), found.ino()),
            len,
            room_to: len,
            torn: false,
        })
    }

    fn ends_torn(&self) -> io::Result<bool> {
        let Some(last) = self.len.checked_sub(1) else {
            return Ok(false);
        };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        Ok(byte != [b'\n'])
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), Errno> {
        let need = self.len.saturating_add(bytes).saturating_add(1);
        if need <= self.room_to {
            return Ok(());
        }
        let up_to = |end: u64| {
            let (from, length) = (self.len, end.saturating_sub(self.len));
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, length).map(|()| end)
        };
        self.room_to = match up_to(need.saturating_add(STEP)) {
            Err(Errno::NOSPC | Errno::DQUOT) => up_to(need)?,
            other => other?,
        };
        Ok(())
    }

    /// All or nothing: what was written of lines that did not fit is cut off again.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let afresh: &[u8] = if self.torn { b"\n" } else { b"" };
        let mut file = &*self.file;
        match file.write_all(afresh).and_then(|()| file.write_all(lines)) {
            Ok(()) => {
                self.len += (afresh.len() + lines.len()) as u64;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                if self.file.set_len(self.len).is_err() {
                    self.torn = true;
                    self.len = self.file.metadata().map_or(self.len, |now| now.len());
                }
                self.room_to = self.len;
                Err(error)
            }
        }
    }
}

/// Numbers of the closed files, the oldest first.
fn closed_files(dir: &std::path::Path) -> io::Result<Vec<u64>> {
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?
            .strip_prefix("audit-")?
            .strip_suffix(".log")?
            .parse::<u64>()
            .ok()
    };
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(number(entry?));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn closed_name(number: u64) -> String {
    format!("audit-{number:08}.log")
}

#[cfg(test)]
mod tests;
