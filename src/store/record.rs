//! A record: an opaque envelope under an opaque name.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::Uid;

/// The largest envelope that every backend takes, in bytes: a head of 512 KiB and what sealing adds to it. As base64 it is
/// the 786,432 characters that the schema of `SealedRecord` allows, half of etcd's default limit of 1.5 MiB for one request.
pub const MAX_ENVELOPE: usize = 576 * 1024;

/// A text is no record name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record name has 1 to 63 characters of a-z, 0-9 and '-', and starts and ends with a letter or digit"
)]
pub struct InvalidRecordName;

/// The name of a record: a keyed hash, or the fixed name of a record of the installation. An RFC 1123 label, so that it can
/// be the name of a Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName(Arc<str>);

impl RecordName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`InvalidRecordName`].
    pub fn parse(text: &str) -> Result<Self, InvalidRecordName> {
        let good = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRecordName)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which state of a record: its UID changes when it is made anew, its revision with every change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Given by the store when the record was made; never reused.
    pub uid: Uid,
    /// The store's revision of its last change (Kubernetes: `resourceVersion`).
    pub revision: u64,
}

/// One record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: RecordName,
    /// Its state.
    pub stamp: Stamp,
    /// Its sealed content.
    pub envelope: Bytes,
}

/// A change, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A record was made or replaced.
    Put(Record),
    /// A record was removed.
    Deleted {
        /// Its name.
        name: RecordName,
        /// Its UID, and the revision of its removal.
        stamp: Stamp,
    },
    /// Everything up to this revision has been told.
    Bookmark(u64),
}

impl StoreEvent {
    /// The revision that a watch may go on from once this was taken in.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        match self {
            Self::Put(record) => record.stamp.revision,
            Self::Deleted { stamp, .. } => stamp.revision,
            Self::Bookmark(revision) => *revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_name_is_a_kubernetes_name() {
        for good in [
            "a",
            "installation",
            "certificate-authority",
            "0123456789abcdef0123456789abcdef01234567",
        ] {
            assert!(RecordName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", &"a".repeat(64)] {
            assert_eq!(RecordName::parse(bad), Err(InvalidRecordName), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,100}") {
            let _ = RecordName::parse(&text);
        }
    }
}
