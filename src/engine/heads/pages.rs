//! Older versions on pages: records that are written once and never changed.

use std::sync::Arc;

use super::versions::{PartRef, VersionEntry};
use crate::model::Version;

/// A page, as its head names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct PageRef {
    pub(in crate::engine) part: PartRef,
    /// How many versions it tells of.
    pub(in crate::engine) entries: u32,
    /// Bytes of its content.
    pub(in crate::engine) bytes: u32,
}

/// What pages hold, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct Paged {
    by_order: imbl::OrdMap<u64, Arc<VersionEntry>>,
    by_id: imbl::HashMap<Version, u64>,
}

impl Paged {
    /// Takes in a page that is later than those before.
    pub(in crate::engine) fn add(&mut self, entries: impl IntoIterator<Item = Arc<VersionEntry>>) {
        for entry in entries {
            self.by_id.insert(entry.id, entry.order);
            self.by_order.insert(entry.order, entry);
        }
    }

    pub(super) fn get(&self, id: &Version) -> Option<&Arc<VersionEntry>> {
        self.by_order.get(self.by_id.get(id)?)
    }

    /// From the newest to the oldest.
    pub(super) fn before(&self, order: Option<u64>) -> impl Iterator<Item = &Arc<VersionEntry>> {
        self.by_order
            .range(..order.unwrap_or(u64::MAX))
            .rev()
            .map(|(_, entry)| entry)
    }

    /// Ascending by order.
    pub(super) fn into_entries(self) -> Vec<Arc<VersionEntry>> {
        self.by_order.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// How many pages of a size are put together into a larger one.
const FANOUT: usize = 8;

/// Which of the last pages are to become one, so that there are few of them, and each version is written anew but a few times:
/// none, or at least two.
pub(super) fn to_merge(pages: &[PageRef], most_bytes: usize) -> usize {
    let class = |page: &PageRef| class(page.bytes as usize, most_bytes);
    let Some(last) = pages.last().map(class) else {
        return 0;
    };
    let run = pages.iter().rev().take_while(|page| class(page) == last).count();
    let bytes = |count: usize| -> usize {
        pages
            .iter()
            .rev()
            .take(count)
            .map(|page| page.bytes as usize)
            .sum()
    };
    if run < FANOUT && bytes(run) < most_bytes / 4 * 3 {
        return 0;
    }
    let fitting = (2..=run).rev().find(|count| bytes(*count) <= most_bytes);
    fitting.unwrap_or(0)
}

/// Sizes that are about the same: each class is eight times the one before.
fn class(bytes: usize, most_bytes: usize) -> usize {
    let mut limit = most_bytes / 128;
    let mut class = 0;
    while bytes >= limit && class < 3 {
        limit = limit.saturating_mul(8);
        class += 1;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 480 * 1024;

    /// Adds pages of these sizes one after another, merging as it is done, and hands back how many there are in the end and
    /// how often each byte was written.
    fn grow(sizes: impl Iterator<Item = u32>) -> (usize, f64) {
        let (mut pages, mut given, mut written) = (Vec::new(), 0_u64, 0_u64);
        let page = |bytes| PageRef {
            part: PartRef {
                id: [0; 16],
                hash: [0; 16],
            },
            entries: 1,
            bytes,
        };
        for bytes in sizes {
            given += u64::from(bytes);
            written += u64::from(bytes);
            pages.push(page(bytes));
            loop {
                let count = to_merge(&pages, MOST);
                if count == 0 {
                    break;
                }
                assert!(count >= 2);
                let merged: u32 = pages.drain(pages.len() - count..).map(|page| page.bytes).sum();
                assert!(merged as usize <= MOST);
                written += u64::from(merged);
                pages.push(page(merged));
            }
        }
        (pages.len(), written as f64 / given as f64)
    }

    #[test]
    fn there_are_few_pages_and_each_byte_is_written_a_few_times() {
        // Ten thousand versions: small ones, those with values of 2 KiB, those with tags of 15 and of 60 KiB.
        for (size, count, most_pages) in [
            (5_000, 700, 32),
            (6_500, 3_400, 100),
            (15_000, 1_000, 70),
            (60_000, 300, 64),
        ] {
            let (pages, times) = grow(std::iter::repeat_n(size, count));
            assert!(pages <= most_pages, "{size}: {pages} pages");
            assert!(times < 4.0, "{size}: written {times:.1} times");
        }
    }

    #[test]
    fn pages_of_different_sizes_stay_apart() {
        let page = |bytes| PageRef {
            part: PartRef {
                id: [0; 16],
                hash: [0; 16],
            },
            entries: 1,
            bytes,
        };
        assert_eq!(to_merge(&[], MOST), 0);
        assert_eq!(to_merge(&[page(400_000), page(5_000)], MOST), 0);
        assert_eq!(to_merge(&[page(400_000), page(400_000)], MOST), 0);
        let mut pages = vec![page(400_000)];
        pages.extend(std::iter::repeat_n(page(5_000), 8));
        assert_eq!(to_merge(&pages, MOST), 8);
    }
}
