//! How a head stays small: what is large or old goes into records of its own.
//!
//! # Why
//! Each change writes the head anew, so its size is what every later write costs. Values over a size are parts from the start;
//! once the head is too long, all versions but the newest go onto a page. Pages are merged as they become many, so that
//! ten thousand versions are named by some dozens of them.

use std::sync::Arc;

use super::pages::{PageRef, Paged, to_merge};
use super::versions::{Body, PartRef, VersionEntry, Versions};
use super::{Head, SecretState, wire};
use crate::crypto::seal::OVERHEAD;
use crate::engine::Error;

/// What is too large for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a sealed head. The newest version alone may take more, by its tags.
    pub head: usize,
    /// Bytes of a sealed value in a head or on a page.
    pub body: usize,
    /// Bytes of a page.
    pub page: usize,
    /// Pages of one object.
    pub pages: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            head: 8 * 1024,
            body: 2 * 1024,
            page: 480 * 1024,
            pages: 100,
        }
    }
}

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum PartKind {
    /// The sealed value of one version.
    Body,
    /// Versions.
    Page,
}

/// A head that is as small as it can be.
#[derive(Debug)]
pub(in crate::engine) struct Fitted {
    pub(in crate::engine) head: Head,
    /// The head as it is written down.
    pub(in crate::engine) content: Vec<u8>,
    /// Pages that it named before and does not need any more.
    pub(in crate::engine) obsolete: Vec<PageRef>,
}

/// Opens a page.
pub(in crate::engine) type OpenPage<'a> = dyn Fn(&PageRef) -> Result<Vec<Arc<VersionEntry>>, Error> + 'a;
/// Makes a part of this content.
pub(in crate::engine) type MakePart<'a> = dyn FnMut(PartKind, &[u8]) -> Result<PartRef, Error> + 'a;

/// Makes a head small. One that is `exempt` may have any number of pages, so that what is full can still be deleted.
///
/// # Errors
/// [`Error::NotInMemory`] where a page is wanted that is not; [`Error::HeadTooLarge`]; those of what it is given.
pub(in crate::engine) fn fit(
    head: Head,
    exempt: bool,
    sizes: &Sizes,
    open: &OpenPage<'_>,
    make: &mut MakePart<'_>,
) -> Result<Fitted, Error> {
    let mut fitted = Fitted {
        content: Vec::new(),
        head,
        obsolete: Vec::new(),
    };
    let Some(state) = fitted.head.secret.clone() else {
        fitted.write()?;
        return Ok(fitted);
    };
    let mut versions = move_bodies(&state.versions, sizes, make)?;
    fitted.set(&state, &versions)?;
    if fitted.content.len() + OVERHEAD > sizes.head && versions.inline().len() > 1 {
        let (pages, obsolete) = page_out(&versions, sizes, open, make)?;
        if pages.len() > sizes.pages && !exempt {
            let size = pages.iter().map(|page| page.bytes as usize).sum();
            let limit = sizes.pages.saturating_mul(sizes.page) / 2;
            return Err(Error::HeadTooLarge { size, limit });
        }
        versions = versions.paged_out(pages);
        fitted.obsolete = obsolete;
        fitted.set(&state, &versions)?;
    }
    Ok(fitted)
}

impl Fitted {
    fn set(&mut self, state: &SecretState, versions: &Versions) -> Result<(), Error> {
        self.head.secret = Some(SecretState {
            versions: versions.clone(),
            ..state.clone()
        });
        self.write()
    }

    fn write(&mut self) -> Result<(), Error> {
        self.head.format = self.head.needed_format();
        self.content = self.head.encode()?;
        Ok(())
    }
}

/// Values that are too large for a head become parts.
fn move_bodies(versions: &Versions, sizes: &Sizes, make: &mut MakePart<'_>) -> Result<Versions, Error> {
    let mut moved = Vec::with_capacity(versions.inline().len());
    for entry in versions.inline() {
        moved.push(match &entry.body {
            Body::Inline(body) if body.len() > sizes.body => Arc::new(VersionEntry {
                body: Body::Part(make(PartKind::Body, body)?),
                ..VersionEntry::clone(entry)
            }),
            Body::Inline(_) | Body::Part(_) => Arc::clone(entry),
        });
    }
    versions.with_bodies(moved).ok_or(Error::Encode)
}

/// All versions at hand but the newest go onto pages. Hands back all pages, and those that are not named any more.
fn page_out(
    versions: &Versions,
    sizes: &Sizes,
    open: &OpenPage<'_>,
    make: &mut MakePart<'_>,
) -> Result<(Vec<PageRef>, Vec<PageRef>), Error> {
    let mut pages = versions.pages().to_vec();
    let mut obsolete = Vec::new();
    let moving = versions.inline().len().saturating_sub(1);
    let mut waiting = versions.inline().iter().take(moving).peekable();
    while waiting.peek().is_some() {
        let mut page: Vec<Arc<VersionEntry>> = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = waiting.peek() {
            bytes += wire::encode_page(std::slice::from_ref(entry))?.len();
            if !page.is_empty() && bytes > sizes.page {
                break;
            }
            page.extend(waiting.next().cloned());
        }
        pages.push(make_page(&page, make)?);
    }
    loop {
        let count = to_merge(&pages, sizes.page);
        if count == 0 {
            break;
        }
        let merging = pages.split_off(pages.len().saturating_sub(count));
        let mut merged = Paged::default();
        for page in &merging {
            // One that was made just now is not written yet.
            merged.add(open(page)?);
        }
        pages.push(make_page(&merged.into_entries(), make)?);
        obsolete.extend(merging);
    }
    Ok((pages, obsolete))
}

fn make_page(entries: &[Arc<VersionEntry>], make: &mut MakePart<'_>) -> Result<PageRef, Error> {
    let content = wire::encode_page(entries)?;
    Ok(PageRef {
        part: make(PartKind::Page, &content)?,
        entries: u32::try_from(entries.len()).map_err(|_| Error::Encode)?,
        bytes: u32::try_from(content.len()).map_err(|_| Error::Encode)?,
    })
}
