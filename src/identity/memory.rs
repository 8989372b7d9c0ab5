//! What is remembered of tokens: that a signature was good, and nothing that may change.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use imbl::HashMap;

use crate::crypto::mac;
use crate::model::{Caller, SecretBytes};

use super::claims::Claims;

/// Bytes of a token that a connection remembers at most; a cluster's own have one or two thousand.
const REMEMBERED_BYTES: usize = 4096;

/// A token whose signature was good under the keys of this generation.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) generation: u64,
    pub(super) claims: Claims,
}

/// What a connection remembers: its last good token, and the caller that it made. Wiped when the connection ends. It is the
/// token itself, since to compare costs a small part of what a hash does, and each request pays that; what is remembered
/// of tokens beyond their connection is a hash.
#[derive(Debug, Default)]
pub struct ConnectionMemory(ArcSwapOption<Last>);

#[derive(Debug)]
pub(super) struct Last {
    token: SecretBytes,
    pub(super) verified: Arc<Verified>,
    pub(super) caller: Arc<Caller>,
}

impl ConnectionMemory {
    pub(super) fn get(&self, token: &str, generation: u64) -> Option<Arc<Last>> {
        self.0.load_full().filter(|last| {
            last.verified.generation == generation
                && mac::constant_time_eq(last.token.expose(), token.as_bytes())
        })
    }

    pub(super) fn set(&self, token: &str, verified: Arc<Verified>, caller: Arc<Caller>) {
        let last = (token.len() <= REMEMBERED_BYTES).then(|| Last {
            token: SecretBytes::new(token.as_bytes().to_vec()),
            verified,
            caller,
        });
        self.0.store(last.map(Arc::new));
    }
}

/// A bounded memory of what was used recently.
///
/// Two persistent maps behind one pointer: what is new goes into the young one, and when that is full it becomes the old
/// one, whose predecessor is dropped. Looking up takes no lock; writing tries one and gives up where it is taken, since
/// forgetting costs no more than doing the work again.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    halves: ArcSwap<Halves<K, V>>,
    writer: Mutex<()>,
    half: usize,
}

#[derive(Debug, Clone)]
struct Halves<K, V> {
    /// What all entries were made under.
    generation: u64,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// Remembers at most `bound` entries.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            halves: ArcSwap::from_pointee(Halves {
                generation: 0,
                young: HashMap::new(),
                old: HashMap::new(),
            }),
            writer: Mutex::new(()),
            half: (bound / 2).max(1),
        }
    }

    /// What is remembered of this generation.
    pub(super) fn get(&self, key: &K, generation: u64) -> Option<V> {
        let halves = self.halves.load();
        if halves.generation != generation {
            return None;
        }
        if let Some(value) = halves.young.get(key) {
            return Some(value.clone());
        }
        let value = halves.old.get(key)?.clone();
        drop(halves);
        // It is in use: it outlives the next turn.
        self.put(key.clone(), value.clone(), generation);
        Some(value)
    }

    /// Remembers; what was made under another generation is forgotten.
    pub(super) fn put(&self, key: K, value: V, generation: u64) {
        let Ok(_turn) = self.writer.try_lock() else { return };
        let mut halves = Halves::clone(&self.halves.load());
        if halves.generation != generation {
            if halves.generation > generation {
                return;
            }
            halves = Halves {
                generation,
                young: HashMap::new(),
                old: HashMap::new(),
            };
        }
        if halves.young.len() >= self.half {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(key, value);
        self.halves.store(Arc::new(halves));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.halves.load();
        halves.young.len() + halves.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_bound_and_keeps_what_is_used() {
        let recent = Recent::new(100);
        recent.put(u64::MAX, (), 1);
        for key in 0..10_000 {
            recent.put(key, (), 1);
            assert!(recent.len() <= 101, "{}", recent.len());
            assert!(
                recent.get(&u64::MAX, 1).is_some(),
                "used all the time, and forgotten at {key}"
            );
        }
        assert!(recent.get(&0, 1).is_none());
        assert!(recent.get(&9_999, 1).is_some());
    }

    #[test]
    fn a_new_generation_of_keys_empties_it() {
        let recent = Recent::new(100);
        recent.put("a", (), 1);
        assert!(recent.get(&"a", 2).is_none());
        recent.put("b", (), 2);
        assert_eq!(recent.len(), 1);
        recent.put("c", (), 1);
        assert!(
            recent.get(&"c", 2).is_none(),
            "a slow verification under old keys is not remembered"
        );
    }

    #[test]
    fn a_writer_that_is_in_the_way_costs_a_repetition_and_no_wait() {
        let recent = Recent::new(100);
        let turn = recent.writer.lock().unwrap();
        recent.put("a", (), 1);
        drop(turn);
        assert!(recent.get(&"a", 1).is_none());
    }
}
