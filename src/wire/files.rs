//! The files of a mounted volume: which, with what mode and content. Where they may lie is decided here, on both sides.

use std::collections::BTreeSet;
use std::fmt;

use minicbor::{Decode, Encode};

use super::text::{secret, secret_text};
use crate::model::{Kind, SecretBytes};

/// Name of the file that holds the trust bundle, in every volume.
pub const TRUST_BUNDLE_FILE: &str = "ca.crt";

/// Why a plan is refused. It never holds a path or content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// Empty, absolute, `.` or `..` or an empty part in it, a control character or backslash, too long or too deep, or a
    /// name that the volume itself uses.
    #[error(
        "a path is relative, at most {} bytes and {} folders deep, without '.', '..', '\\' or control characters, \
         does not begin with '..' and is not {TRUST_BUNDLE_FILE}",
        FilePath::MAX_BYTES,
        FilePath::MAX_DEPTH
    )]
    Path,
    /// A mode that is not three octal digits.
    #[error("a mode is an octal number from 0000 to 0777")]
    Mode,
    /// Two files of one path, or a file where another's folder would be.
    #[error("two files have the same path, or one lies where the other needs a folder")]
    Overlap,
    /// More files than a volume may have.
    #[error("a volume has at most {} files", FilePlan::MAX_FILES)]
    TooManyFiles,
    /// More bytes than a volume may have.
    #[error("the files of a volume have at most {} bytes in all", FilePlan::MAX_BYTES)]
    TooLarge,
}

impl InvalidPlan {
    /// Always [`Kind::Invalid`].
    #[must_use]
    pub const fn kind(self) -> Kind {
        Kind::Invalid
    }
}

/// A path below a volume's root that cannot leave it: relative, without `.` and `..`, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// Longest path, in bytes.
    pub const MAX_BYTES: usize = 512;
    /// Longest part between two slashes, in bytes (the limit of Linux file systems).
    pub const MAX_PART: usize = 255;
    /// Most parts.
    pub const MAX_DEPTH: usize = 8;

    /// Parses a path.
    ///
    /// # Errors
    /// [`InvalidPlan::Path`].
    pub fn parse(text: &str) -> Result<Self, InvalidPlan> {
        let part_is_good = |part: &str| {
            (1..=Self::MAX_PART).contains(&part.len())
                && part != "."
                && part != ".."
                && !part.chars().any(|c| c.is_control() || c == '\\')
        };
        let good = text.len() <= Self::MAX_BYTES
            && text.split('/').count() <= Self::MAX_DEPTH
            && text.split('/').all(part_is_good)
            // `..data` and the folders that it points to; Kubernetes reserves the prefix likewise.
            && !text.starts_with("..")
            && text.split('/').next() != Some(TRUST_BUNDLE_FILE);
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPlan::Path)
        }
    }

    /// The text, with `/` between its parts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between slashes; at least one.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The paths of the folders above it, outermost first.
    fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Permission bits of a file: 0 to 0777.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u16);

impl FileMode {
    /// Takes the bits.
    ///
    /// # Errors
    /// [`InvalidPlan::Mode`] beyond 0777: no set-user-id, set-group-id or sticky bit.
    pub const fn new(bits: u16) -> Result<Self, InvalidPlan> {
        if bits <= 0o777 {
            Ok(Self(bits))
        } else {
            Err(InvalidPlan::Mode)
        }
    }

    /// Parses octal digits: `400`, `0400` or `0o400`.
    ///
    /// # Errors
    /// [`InvalidPlan::Mode`].
    pub fn parse(text: &str) -> Result<Self, InvalidPlan> {
        let digits = text
            .strip_prefix("0o")
            .or_else(|| text.strip_prefix('0'))
            .unwrap_or(text);
        if digits.len() != 3 || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
            return Err(InvalidPlan::Mode);
        }
        u16::from_str_radix(digits, 8)
            .map_err(|_| InvalidPlan::Mode)
            .and_then(Self::new)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }
}

impl Default for FileMode {
    /// 0644, as Kubernetes' Secret volumes.
    fn default() -> Self {
        Self(0o644)
    }
}

/// One file.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct PlannedFile {
    /// Where it lies below the volume's root.
    #[n(0)]
    pub path: FilePath,
    /// Its mode.
    #[n(1)]
    pub mode: FileMode,
    /// What is in it.
    #[cbor(n(2), with = "secret")]
    pub content: SecretBytes,
}

/// All files of a volume at one instant; the next plan replaces all of them at once.
#[derive(Debug, Encode)]
#[cbor(map)]
pub struct FilePlan {
    #[n(0)]
    files: Vec<PlannedFile>,
    #[cbor(n(1), with = "secret_text")]
    trust_bundle: SecretBytes,
}

impl FilePlan {
    /// Most files.
    pub const MAX_FILES: usize = 64;
    /// Most bytes of content, the trust bundle included: 1 MiB, as Kubernetes' Secret volumes.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// A plan of these files, plus the CA certificates (PEM) that [`TRUST_BUNDLE_FILE`] holds.
    ///
    /// # Errors
    /// [`InvalidPlan::TooManyFiles`], [`InvalidPlan::TooLarge`], [`InvalidPlan::Overlap`].
    pub fn new(files: Vec<PlannedFile>, trust_bundle: &str) -> Result<Self, InvalidPlan> {
        Self::checked(files, SecretBytes::new(trust_bundle.as_bytes().to_vec()))
    }

    fn checked(files: Vec<PlannedFile>, trust_bundle: SecretBytes) -> Result<Self, InvalidPlan> {
        if files.len() > Self::MAX_FILES {
            return Err(InvalidPlan::TooManyFiles);
        }
        let bytes = files.iter().fold(trust_bundle.len(), |sum, file| {
            sum.saturating_add(file.content.len())
        });
        if bytes > Self::MAX_BYTES {
            return Err(InvalidPlan::TooLarge);
        }
        check_overlap(files.iter().map(|file| &file.path))?;
        Ok(Self { files, trust_bundle })
    }

    /// The files, without the trust bundle.
    #[must_use]
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// PEM, for [`TRUST_BUNDLE_FILE`].
    #[must_use]
    pub fn trust_bundle(&self) -> &[u8] {
        self.trust_bundle.expose()
    }

    /// Bytes of content in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.files.iter().fold(self.trust_bundle.len(), |sum, file| {
            sum.saturating_add(file.content.len())
        })
    }
}

/// Whether each of these files can lie beside the others.
pub(super) fn check_overlap<'a>(paths: impl Iterator<Item = &'a FilePath>) -> Result<(), InvalidPlan> {
    let mut files = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for path in paths {
        if !files.insert(path.as_str()) {
            return Err(InvalidPlan::Overlap);
        }
        folders.extend(path.folders());
    }
    if files.is_disjoint(&folders) {
        Ok(())
    } else {
        Err(InvalidPlan::Overlap)
    }
}

impl<'b, C> Decode<'b, C> for FilePlan {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        #[derive(Decode)]
        #[cbor(map)]
        struct Raw {
            #[n(0)]
            files: Vec<PlannedFile>,
            #[cbor(n(1), with = "secret_text")]
            trust_bundle: SecretBytes,
        }
        let Raw { files, trust_bundle } = Raw::decode(d, ctx)?;
        Self::checked(files, trust_bundle).map_err(|_| minicbor::decode::Error::message("file plan"))
    }
}

impl<C> Encode<C> for FilePath {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for FilePath {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(|_| minicbor::decode::Error::message("path"))
    }
}

impl<C> Encode<C> for FileMode {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for FileMode {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::new(d.u16()?).map_err(|_| minicbor::decode::Error::message("mode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str, bytes: usize) -> PlannedFile {
        PlannedFile {
            path: FilePath::parse(path).unwrap(),
            mode: FileMode::default(),
            content: SecretBytes::new(vec![0; bytes]),
        }
    }

    #[test]
    fn paths_stay_below_the_volume() {
        let long = "p".repeat(256);
        let deep = "a/".repeat(8) + "a";
        for good in [
            "a",
            "keys/api",
            "a/b/c/d/e/f/g/h",
            ".hidden",
            "a..b",
            "a/..b",
            "pass word",
            "ключ",
            "x/ca.crt",
        ] {
            assert_eq!(
                FilePath::parse(good).map(|p| p.to_string()),
                Ok(good.to_owned()),
                "{good}"
            );
        }
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "a/.",
            "..data",
            "..data/x",
            "..2026",
            "ca.crt",
            "ca.crt/x",
            "a\0b",
            "a\nb",
            "a\\b",
            long.as_str(),
            deep.as_str(),
        ] {
            assert_eq!(FilePath::parse(bad), Err(InvalidPlan::Path), "{bad:?}");
        }
    }

    #[test]
    fn modes_are_octal_whether_quoted_or_not() {
        for (text, bits) in [
            ("0400", 0o400),
            ("400", 0o400),
            ("0o440", 0o440),
            ("0000", 0),
            ("777", 0o777),
        ] {
            assert_eq!(FileMode::parse(text).map(FileMode::bits), Ok(bits), "{text}");
        }
        for bad in [
            "",
            "0",
            "44",
            "0888",
            "04755",
            "1777",
            "4755",
            "-400",
            "+400",
            "0x100",
            "256.0",
            "rw-r--r--",
        ] {
            assert_eq!(FileMode::parse(bad), Err(InvalidPlan::Mode), "{bad}");
        }
    }

    #[test]
    fn a_plan_keeps_its_bounds() {
        assert!(FilePlan::new(vec![], "").is_ok());
        assert!(FilePlan::new(vec![file("a", FilePlan::MAX_BYTES)], "").is_ok());
        assert_eq!(
            FilePlan::new(vec![file("a", FilePlan::MAX_BYTES)], "x").unwrap_err(),
            InvalidPlan::TooLarge
        );
        let many = |n: usize| (0..n).map(|i| file(&format!("f{i}"), 1)).collect::<Vec<_>>();
        assert!(FilePlan::new(many(64), "").is_ok());
        assert_eq!(
            FilePlan::new(many(65), "").unwrap_err(),
            InvalidPlan::TooManyFiles
        );
    }

    #[test]
    fn no_file_lies_where_another_needs_a_folder() {
        for (paths, good) in [
            (vec!["a", "b"], true),
            (vec!["a/b", "a/c"], true),
            (vec!["a", "a"], false),
            (vec!["a/b", "a"], false),
            (vec!["a", "a/b/c"], false),
            (vec!["a/b", "a/b/c"], false),
            (vec!["ab", "a/b"], true),
        ] {
            let plan = FilePlan::new(paths.iter().map(|path| file(path, 0)).collect(), "");
            assert_eq!(
                plan.map(|_| ()),
                if good { Ok(()) } else { Err(InvalidPlan::Overlap) },
                "{paths:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_accepted_never_climbs(text in "[./a-c\\\\]{0,20}|\\PC{0,40}") {
            if let Ok(path) = FilePath::parse(&text) {
                prop_assert!(!path.as_str().starts_with('/'));
                prop_assert!(path.parts().all(|part| !part.is_empty() && part != "." && part != ".."));
            }
            let _ = FileMode::parse(&text);
        }
    }
}
