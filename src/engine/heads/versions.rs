//! The versions of an object: in the order in which they were made, and found by id.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::pages::{PageRef, Paged};
use crate::engine::Error;
use crate::model::{Tags, UnixSeconds, Version};

/// One version: its attributes in clear, its value sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct VersionEntry {
    pub(in crate::engine) id: Version,
    /// Grows by one with each version; the newest has the highest.
    pub(in crate::engine) order: u64,
    pub(in crate::engine) enabled: bool,
    pub(in crate::engine) not_before: Option<UnixSeconds>,
    pub(in crate::engine) expires: Option<UnixSeconds>,
    pub(in crate::engine) created: UnixSeconds,
    pub(in crate::engine) updated: UnixSeconds,
    pub(in crate::engine) content_type: Option<Arc<str>>,
    pub(in crate::engine) tags: Arc<Tags>,
    /// The value, sealed on its own, so that memory never holds it in clear.
    pub(in crate::engine) body: Body,
}

/// Where a sealed value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Body {
    /// Here.
    Inline(Bytes),
    /// In a record of its own.
    Part(PartRef),
}

/// A record that never changes, by its id and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) struct PartRef {
    pub(in crate::engine) id: [u8; 16],
    /// The first half of SHA-256 of the whole sealed record.
    pub(in crate::engine) hash: [u8; 16],
}

/// All versions of an object; never none. Those that changed last are at hand; the others may be on pages, which are
/// records of their own and perhaps not in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Versions {
    count: u32,
    newest: Arc<VersionEntry>,
    /// Ascending by order; the last is the newest. They stand for what pages say of the same versions.
    inline: Vec<Arc<VersionEntry>>,
    /// Oldest first: a later page stands for what earlier ones say of the same versions.
    pages: Vec<PageRef>,
    /// What pages hold, once somebody wanted to know: these ones, or those of a state before.
    known: Option<Known>,
}

/// What some pages hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    pages: Vec<PageRef>,
    older: Arc<Paged>,
}

impl Versions {
    /// The first version of an object.
    pub(in crate::engine) fn first(entry: VersionEntry) -> Self {
        let newest = Arc::new(entry);
        Self {
            count: 1,
            newest: Arc::clone(&newest),
            inline: vec![newest],
            pages: Vec::new(),
            known: None,
        }
    }

    /// Takes entries in ascending order with distinct ids; nothing else is a list of versions.
    pub(in crate::engine) fn from_entries(entries: Vec<Arc<VersionEntry>>) -> Option<Self> {
        let count = u32::try_from(entries.len()).ok()?;
        Self::from_parts(entries, Vec::new(), count)
    }

    /// The same with pages that hold the rest of `count` versions.
    pub(in crate::engine) fn from_parts(
        inline: Vec<Arc<VersionEntry>>,
        pages: Vec<PageRef>,
        count: u32,
    ) -> Option<Self> {
        let newest = Arc::clone(inline.last()?);
        let mut ids: Vec<Version> = inline.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        let distinct = ids.is_sorted_by(|a, b| a < b);
        let ascending = inline.is_sorted_by(|a, b| a.order < b.order);
        let all_here = usize::try_from(count).is_ok_and(|count| count == inline.len());
        (distinct && ascending && (all_here || !pages.is_empty())).then_some(Self {
            count,
            newest,
            inline,
            pages,
            known: None,
        })
    }

    pub(in crate::engine) const fn newest(&self) -> &Arc<VersionEntry> {
        &self.newest
    }

    /// # Errors
    /// [`Error::NotInMemory`].
    pub(in crate::engine) fn get(&self, id: &Version) -> Result<Option<&Arc<VersionEntry>>, Error> {
        match self.inline.iter().rev().find(|entry| entry.id == *id) {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.older()?.and_then(|older| older.get(id))),
        }
    }

    pub(in crate::engine) const fn count(&self) -> usize {
        self.count as usize
    }

    /// From the newest to the oldest, those before `order` where it is given.
    ///
    /// # Errors
    /// [`Error::NotInMemory`].
    pub(in crate::engine) fn before(
        &self,
        order: Option<u64>,
    ) -> Result<impl Iterator<Item = &Arc<VersionEntry>>, Error> {
        let end = order.map_or(self.inline.len(), |order| {
            self.inline.partition_point(|entry| entry.order < order)
        });
        let older = self.older()?.into_iter();
        Ok(Merged {
            inline: self.inline.iter().take(end).rev().peekable(),
            paged: older.flat_map(move |older| older.before(order)).peekable(),
        })
    }

    /// Ascending by order.
    ///
    /// # Errors
    /// [`Error::NotInMemory`].
    pub(in crate::engine) fn all(&self) -> Result<Vec<&Arc<VersionEntry>>, Error> {
        let mut all: Vec<_> = self.before(None)?.collect();
        all.reverse();
        Ok(all)
    }

    /// Those at hand, ascending by order.
    pub(in crate::engine) fn inline(&self) -> &[Arc<VersionEntry>] {
        &self.inline
    }

    pub(in crate::engine) fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    fn older(&self) -> Result<Option<&Paged>, Error> {
        match &self.known {
            _ if self.pages.is_empty() => Ok(None),
            Some(known) if known.pages == self.pages => Ok(Some(&known.older)),
            Some(_) | None => Err(Error::NotInMemory { part: None }),
        }
    }

    /// What is known of its pages, and the pages that are to be added to that, in this order. A version that was on a page stays
    /// on pages, so what earlier pages held is not wrong: later ones stand for it.
    pub(in crate::engine) fn unknown_pages(&self) -> (Paged, &[PageRef]) {
        let Some(known) = &self.known else {
            return (Paged::default(), &self.pages);
        };
        let same = self.pages.iter().zip(&known.pages).take_while(|(a, b)| a == b);
        match self.pages.get(same.count()..) {
            // Pages are added, or merged into one that is added: what has fewer and no other is not what followed.
            Some([]) | None if known.pages.len() > self.pages.len() => (Paged::default(), &self.pages),
            rest => (Paged::clone(&known.older), rest.unwrap_or_default()),
        }
    }

    /// The same with one version more, or with one changed.
    #[must_use]
    pub(in crate::engine) fn with(&self, entry: VersionEntry) -> Self {
        let entry = Arc::new(entry);
        let mut next = self.clone();
        if entry.order > self.newest.order {
            next.count = self.count.saturating_add(1);
        }
        match self
            .inline
            .binary_search_by_key(&entry.order, |entry| entry.order)
        {
            Ok(at) => {
                if let Some(old) = next.inline.get_mut(at) {
                    *old = entry;
                }
            }
            Err(at) => next.inline.insert(at, entry),
        }
        if let Some(newest) = next.inline.last() {
            next.newest = Arc::clone(newest);
        }
        next
    }

    /// The same with values that lie elsewhere now.
    pub(super) fn with_bodies(&self, inline: Vec<Arc<VersionEntry>>) -> Option<Self> {
        let newest = Arc::clone(inline.last()?);
        Some(Self {
            newest,
            inline,
            ..self.clone()
        })
    }

    /// The same with all but the newest on these pages.
    pub(super) fn paged_out(&self, pages: Vec<PageRef>) -> Self {
        let moved = self.inline.iter().take(self.inline.len().saturating_sub(1));
        let known = match self.older() {
            Ok(older) => {
                let mut older = older.cloned().unwrap_or_default();
                older.add(moved.cloned());
                Some(Known {
                    pages: pages.clone(),
                    older: Arc::new(older),
                })
            }
            Err(_) => self.known.clone(),
        };
        Self {
            inline: vec![Arc::clone(&self.newest)],
            pages,
            known,
            ..self.clone()
        }
    }

    /// The same, knowing what its pages hold.
    #[must_use]
    pub(in crate::engine) fn knowing(&self, older: Arc<Paged>) -> Self {
        let pages = self.pages.clone();
        Self {
            known: Some(Known { pages, older }),
            ..self.clone()
        }
    }

    /// Knows what was known in a state before.
    pub(in crate::engine) fn learn_from(&mut self, before: &Self) {
        if self.known.is_none() {
            self.known.clone_from(&before.known);
        }
    }
}

/// Two lists in descending order; of what both have, the first one's.
struct Merged<A: Iterator, B: Iterator> {
    inline: Peekable<A>,
    paged: Peekable<B>,
}

impl<'a, A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = &'a Arc<VersionEntry>>,
    B: Iterator<Item = &'a Arc<VersionEntry>>,
{
    type Item = &'a Arc<VersionEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let inline = self.inline.peek().map(|entry| entry.order);
        let paged = self.paged.peek().map(|entry| entry.order);
        match (inline, paged) {
            (Some(inline), Some(paged)) if inline < paged => self.paged.next(),
            (Some(inline), Some(paged)) => {
                if inline == paged {
                    self.paged.next();
                }
                self.inline.next()
            }
            (Some(_), None) => self.inline.next(),
            (None, _) => self.paged.next(),
        }
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests {
    use super::*;

    pub(in crate::engine) fn entry(order: u64) -> VersionEntry {
        VersionEntry {
            id: Version(
                u128::from(order)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                    .to_be_bytes(),
            ),
            order,
            enabled: true,
            not_before: None,
            expires: None,
            created: UnixSeconds(100),
            updated: UnixSeconds(100),
            content_type: None,
            tags: Arc::default(),
            body: Body::Inline(Bytes::from_static(b"sealed")),
        }
    }

    #[test]
    fn every_version_is_found_by_id_and_the_newest_is_the_last() {
        let versions = Versions::from_entries((1..=500).map(|i| Arc::new(entry(i))).collect()).unwrap();
        for order in 1..=500 {
            let found = versions.get(&entry(order).id).unwrap();
            assert_eq!(found.map(|e| e.order), Some(order));
        }
        assert_eq!(versions.get(&entry(501).id), Ok(None));
        assert_eq!(versions.newest().order, 500);
        assert_eq!(
            versions
                .before(Some(3))
                .unwrap()
                .map(|e| e.order)
                .collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(versions.before(None).unwrap().next().map(|e| e.order), Some(500));
    }

    #[test]
    fn what_is_no_list_of_versions_is_refused() {
        let list =
            |orders: &[u64]| Versions::from_entries(orders.iter().map(|o| Arc::new(entry(*o))).collect());
        assert!(list(&[]).is_none());
        assert!(list(&[2, 1]).is_none());
        assert!(list(&[1, 1]).is_none());
        let twin = VersionEntry { order: 2, ..entry(1) };
        assert!(Versions::from_entries(vec![Arc::new(entry(1)), Arc::new(twin)]).is_none());
    }

    #[test]
    fn a_changed_version_takes_its_own_place() {
        let versions = Versions::from_entries(vec![Arc::new(entry(1)), Arc::new(entry(2))]).unwrap();
        let changed = versions.with(VersionEntry {
            enabled: false,
            ..entry(1)
        });
        assert_eq!(changed.count(), 2);
        assert!(!changed.get(&entry(1).id).unwrap().unwrap().enabled);
        assert!(changed.newest().enabled);
        let longer = versions.with(entry(3));
        assert_eq!((longer.newest().order, longer.count()), (3, 3));
    }

    #[test]
    fn what_was_known_of_earlier_pages_stays_known() {
        let with = |pages: Vec<PageRef>| Versions::from_parts(vec![Arc::new(entry(9))], pages, 9).unwrap();
        let learned = |pages| {
            let mut older = Paged::default();
            older.add((1..6).map(|order| Arc::new(entry(order))));
            let before = with(vec![page(1, 3), page(2, 2)]).knowing(Arc::new(older));
            let mut versions = with(pages);
            versions.learn_from(&before);
            versions
        };
        let unknown = |pages| {
            let versions = learned(pages);
            let (older, rest) = versions.unknown_pages();
            let ids: Vec<u8> = rest.iter().map(|page| page.part.id[0]).collect();
            (older.into_entries().len(), ids)
        };
        assert_eq!(unknown(vec![page(1, 3), page(2, 2)]), (5, vec![]));
        assert_eq!(unknown(vec![page(1, 3), page(2, 2), page(3, 3)]), (5, vec![3]));
        assert_eq!(
            unknown(vec![page(1, 3), page(4, 5)]),
            (5, vec![4]),
            "one was merged"
        );
        assert_eq!(unknown(vec![page(5, 8)]), (5, vec![5]), "all were");
        assert_eq!(unknown(vec![page(1, 3)]), (0, vec![1]), "not what followed");
        // None of that is told before the new pages are known.
        let told = |pages| learned(pages).get(&entry(2).id).map(|found| found.is_some());
        assert_eq!(told(vec![page(1, 3), page(2, 2)]), Ok(true));
        let unknown = Err(Error::NotInMemory { part: None });
        assert_eq!(told(vec![page(1, 3), page(4, 5)]), unknown);
    }

    /// A list of ten thousand is entered anywhere.
    #[test]
    fn a_list_goes_on_where_it_was_left() {
        let mut older = Paged::default();
        older.add((1..10_000).map(|order| Arc::new(entry(order))));
        let inline = vec![Arc::new(entry(10_000))];
        let versions = Versions::from_parts(inline, vec![page(1, 9_999)], 10_000).unwrap();
        let versions = versions.knowing(Arc::new(older));
        for before in [10_001, 10_000, 9_999, 5_000, 2] {
            let found = versions.before(Some(before)).unwrap().take(25);
            let found: Vec<_> = found.map(|entry| entry.order).collect();
            assert!(
                found.iter().copied().eq((1..before).rev().take(25)),
                "{before}: {found:?}"
            );
        }
        assert_eq!(versions.before(Some(1)).unwrap().count(), 0);
    }

    fn page(id: u8, entries: u32) -> PageRef {
        let part = PartRef {
            id: [id; 16],
            hash: [id; 16],
        };
        PageRef {
            part,
            entries,
            bytes: 1000,
        }
    }

    #[test]
    fn what_is_at_hand_stands_for_what_pages_say() {
        let inline = vec![Arc::new(entry(2)), Arc::new(entry(5))];
        let versions = Versions::from_parts(inline, vec![page(1, 3), page(2, 2)], 5).unwrap();
        let unknown = Error::NotInMemory { part: None };
        assert_eq!(versions.get(&entry(1).id), Err(unknown.clone()));
        assert_eq!(versions.before(None).map(drop), Err(unknown));
        assert!(versions.get(&entry(2).id).unwrap().is_some(), "at hand");
        let disabled = |order| {
            Arc::new(VersionEntry {
                enabled: false,
                ..entry(order)
            })
        };
        let mut older = Paged::default();
        older.add([disabled(1), disabled(2), disabled(3)]);
        older.add([Arc::new(entry(3)), disabled(4)]);
        let versions = versions.knowing(Arc::new(older));
        let found: Vec<_> = versions
            .all()
            .unwrap()
            .iter()
            .map(|e| (e.order, e.enabled))
            .collect();
        assert_eq!(found, [(1, false), (2, true), (3, true), (4, false), (5, true)]);
        let before: Vec<_> = versions.before(Some(4)).unwrap().map(|e| e.order).collect();
        assert_eq!(before, [3, 2, 1]);
        assert!(!versions.get(&entry(4).id).unwrap().unwrap().enabled);
        assert_eq!(versions.get(&entry(9).id), Ok(None));
        // A version on a page that changes is at hand then, and counts once.
        let changed = versions.with(entry(4));
        assert_eq!((changed.count(), changed.newest().order), (5, 5));
        assert!(changed.get(&entry(4).id).unwrap().unwrap().enabled);
    }
}
