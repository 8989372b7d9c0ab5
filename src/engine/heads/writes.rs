//! Ids of the newest writes of a head.

use std::collections::VecDeque;

/// Random, made anew for each change; found in the head, it proves that the change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) struct WriteId(pub(in crate::engine) [u8; 16]);

/// The newest writes, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct WriteIds(VecDeque<WriteId>);

impl WriteIds {
    /// How many are kept: a writer that has heard nothing finds out about its write unless more than this came after it.
    pub(in crate::engine) const KEPT: usize = 32;

    pub(in crate::engine) fn push(&mut self, id: WriteId) {
        self.0.push_back(id);
        while self.0.len() > Self::KEPT {
            self.0.pop_front();
        }
    }

    pub(in crate::engine) fn contains(&self, id: &WriteId) -> bool {
        self.0.contains(id)
    }

    pub(in crate::engine) fn newest(&self) -> Option<WriteId> {
        self.0.back().copied()
    }

    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = &WriteId> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_32_writes_are_kept() {
        let mut ids = WriteIds::default();
        (0..40).for_each(|i| ids.push(WriteId([i; 16])));
        assert_eq!(ids.iter().count(), WriteIds::KEPT);
        assert!(!ids.contains(&WriteId([7; 16])));
        assert!(ids.contains(&WriteId([8; 16])));
        assert_eq!(ids.newest(), Some(WriteId([39; 16])));
    }
}
