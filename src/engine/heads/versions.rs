//! The versions of an object: in the order in which they were made, and found by id.

use std::sync::Arc;

use bytes::Bytes;

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
    pub(in crate::engine) body: Bytes,
}

/// All versions of an object; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Versions {
    newest: Arc<VersionEntry>,
    /// Ascending by order; the last is the newest.
    entries: Vec<Arc<VersionEntry>>,
    /// Positions in `entries`, ascending by id: a pinned version is found in as few steps among thousands as among ten.
    by_id: Vec<u32>,
}

impl Versions {
    /// The first version of an object.
    pub(in crate::engine) fn first(entry: VersionEntry) -> Self {
        let newest = Arc::new(entry);
        Self {
            newest: Arc::clone(&newest),
            entries: vec![newest],
            by_id: vec![0],
        }
    }

    /// Takes entries in ascending order with distinct ids; nothing else is a list of versions.
    pub(in crate::engine) fn from_entries(entries: Vec<Arc<VersionEntry>>) -> Option<Self> {
        let newest = Arc::clone(entries.last()?);
        let count = u32::try_from(entries.len()).ok()?;
        let mut by_id: Vec<u32> = (0..count).collect();
        let id = |position: &u32| entries.get(*position as usize).map(|entry| entry.id);
        by_id.sort_unstable_by_key(id);
        let distinct = by_id.is_sorted_by(|a, b| id(a) < id(b));
        let ascending = entries.is_sorted_by(|a, b| a.order < b.order);
        (distinct && ascending).then_some(Self {
            newest,
            entries,
            by_id,
        })
    }

    pub(in crate::engine) fn newest(&self) -> &Arc<VersionEntry> {
        &self.newest
    }

    pub(in crate::engine) fn get(&self, id: &Version) -> Option<&Arc<VersionEntry>> {
        let entry = |position: &u32| self.entries.get(*position as usize);
        let found = self
            .by_id
            .binary_search_by_key(&Some(id), |position| entry(position).map(|e| &e.id));
        found.ok().and_then(|at| self.by_id.get(at)).and_then(entry)
    }

    pub(in crate::engine) fn count(&self) -> usize {
        self.entries.len()
    }

    /// From the newest to the oldest, those before `order` where it is given.
    pub(in crate::engine) fn before(&self, order: Option<u64>) -> impl Iterator<Item = &Arc<VersionEntry>> {
        let end = order.map_or(self.entries.len(), |order| {
            self.entries.partition_point(|e| e.order < order)
        });
        self.entries.iter().take(end).rev()
    }

    /// Ascending by order.
    pub(in crate::engine) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<VersionEntry>> {
        self.entries.iter()
    }

    /// The same with one version more, or with one changed; none if that is no list of versions.
    #[must_use]
    pub(in crate::engine) fn with(&self, entry: VersionEntry) -> Option<Self> {
        let mut entries = self.entries.clone();
        match entries.iter_mut().find(|e| e.order == entry.order) {
            Some(old) => *old = Arc::new(entry),
            None => entries.push(Arc::new(entry)),
        }
        Self::from_entries(entries)
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
            body: Bytes::from_static(b"sealed"),
        }
    }

    #[test]
    fn every_version_is_found_by_id_and_the_newest_is_the_last() {
        let versions = Versions::from_entries((1..=500).map(|i| Arc::new(entry(i))).collect()).unwrap();
        for order in 1..=500 {
            assert_eq!(versions.get(&entry(order).id).map(|e| e.order), Some(order));
        }
        assert!(versions.get(&entry(501).id).is_none());
        assert_eq!(versions.newest().order, 500);
        assert_eq!(
            versions.before(Some(3)).map(|e| e.order).collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(versions.before(None).next().map(|e| e.order), Some(500));
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
        let changed = versions
            .with(VersionEntry {
                enabled: false,
                ..entry(1)
            })
            .unwrap();
        assert_eq!(changed.count(), 2);
        assert!(!changed.get(&entry(1).id).unwrap().enabled);
        assert!(changed.newest().enabled);
        assert_eq!(versions.with(entry(3)).unwrap().newest().order, 3);
    }
}
