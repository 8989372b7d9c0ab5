//! What a backup says: an object with all its versions, apart from any vault.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::Versions;
use super::wire::{self, DecodeError, WireVersion};
use crate::engine::Error;
use crate::model::ObjectName;

/// What this version of Strongroom writes, and the most that it reads.
const FORMAT: u32 = 1;

/// A secret in a backup. Its values are sealed for the backup, one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct BackedUp {
    /// As it was first written.
    pub(in crate::engine) name: ObjectName,
    pub(in crate::engine) versions: Versions,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireBackup<'a> {
    #[n(0)]
    format: u32,
    #[b(1)]
    name: &'a str,
    #[b(2)]
    versions: Vec<WireVersion<'a>>,
}

impl BackedUp {
    pub(in crate::engine) fn encode(&self) -> Result<Vec<u8>, Error> {
        wire::encode(&WireBackup {
            format: FORMAT,
            name: self.name.as_written(),
            versions: wire::wire_versions(self.versions.inline()),
        })
    }

    /// Reads a backup's content; one of a newer format is none.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireBackup<'_> = minicbor::decode(bytes)?;
        if wire.format > FORMAT {
            return Err(DecodeError);
        }
        let entries = wire.versions.into_iter();
        let entries = entries
            .map(|version| Arc::new(wire::read_version(version)))
            .collect();
        Ok(Self {
            name: ObjectName::parse(wire.name)?,
            versions: Versions::from_entries(entries).ok_or(DecodeError)?,
        })
    }
}
