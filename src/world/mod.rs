//! The snapshot that a request reads: one struct, one generation, swapped whole.
//!
//! # Why
//! Vaults, rules, policies and what is alive must be seen together: a request that saw yesterday's policy beside today's
//! pods could be allowed by neither day's rules. Writers (the feeds) are few and serialised; readers take no lock.

mod standing;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::identity::Liveness;
use crate::model::{VaultEntry, VaultId};
use crate::network;
use crate::policy;

pub use standing::{Feed, OutOfStanding, Standing};

/// What requests are judged by. Cloning costs nothing that grows: every index is persistent.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Grows by one with each change.
    pub generation: u64,
    /// The vaults that the management plane declares.
    pub vaults: imbl::HashMap<VaultId, Arc<VaultEntry>>,
    /// From where they may be called.
    pub network: network::Index,
    /// Who may do what in them.
    pub policy: policy::Index,
    /// Which pods and accounts live.
    pub liveness: Liveness,
}

/// The current world, and what says whether it may be relied upon.
#[derive(Debug)]
pub struct Shared {
    current: ArcSwap<World>,
    writers: Mutex<()>,
    generation: watch::Sender<u64>,
    /// Whether reads may be answered from it.
    pub standing: Standing,
}

impl Shared {
    /// An empty world: nobody may do anything in it.
    #[must_use]
    pub fn new(standing: Standing) -> Self {
        Self {
            current: ArcSwap::from_pointee(World::default()),
            writers: Mutex::new(()),
            generation: watch::Sender::new(0),
            standing,
        }
    }

    /// The world now.
    #[must_use]
    pub fn load(&self) -> Arc<World> {
        self.current.load_full()
    }

    /// Changes the world; readers see all of the change or nothing.
    pub fn update(&self, change: impl FnOnce(&mut World)) {
        // A writer that panicked has swapped nothing in, so what stands is whole.
        let _turn = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = World::clone(&self.current.load());
        change(&mut next);
        next.generation += 1;
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.generation.send_replace(generation);
    }

    /// Tells of each new generation; a slow reader sees the newest alone.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
