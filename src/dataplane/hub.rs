//! Tells open streams that something which concerns them changed, and leaves the others asleep.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::jitter;
use crate::gate::{Change, Gate};
use crate::model::{ObjectName, VaultId};

/// Pods come and go all the time in a large cluster. Streams look at the world again at most this often; what is delivered
/// is decided at its own moment anyway.
const WORLD_PAUSE: Duration = Duration::from_millis(200);
/// When every stream must read anew, they do so spread over this time.
const EVERYTHING_WITHIN: Duration = Duration::from_secs(2);

/// One stream's bell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    world: AtomicBool,
    objects: AtomicBool,
    everything: AtomicBool,
    rung: Notify,
}

/// What a bell was rung for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rung {
    /// The caller may no longer be allowed, or is now.
    pub(super) world: bool,
    /// One of the stream's objects changed.
    pub(super) objects: bool,
    /// More changed than could be told: read anew after this pause.
    pub(super) everything: Option<Duration>,
}

impl Bell {
    fn ring(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        self.rung.notify_one();
    }

    /// Waits for a ring. May be dropped and called again: nothing is lost.
    pub(super) async fn rung(&self) -> Rung {
        loop {
            self.rung.notified().await;
            let took = |flag: &AtomicBool| flag.swap(false, Ordering::AcqRel);
            let rung = Rung {
                world: took(&self.world),
                objects: took(&self.objects),
                everything: took(&self.everything).then(|| jitter(EVERYTHING_WITHIN)),
            };
            if rung.world || rung.objects || rung.everything.is_some() {
                return rung;
            }
        }
    }
}

type Bells = HashMap<u64, Arc<Bell>>;

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    all: Bells,
    by_object: HashMap<VaultId, HashMap<Box<str>, Bells>>,
}

/// Which stream wants to know of what.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    registry: Arc<Mutex<Registry>>,
    heads: watch::Sender<u64>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            registry: Arc::default(),
            heads: watch::Sender::new(0),
        }
    }
}

/// A stream's place in the hub, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    hub: Hub,
    number: u64,
    vault: VaultId,
    objects: Vec<Box<str>>,
    /// Rung for these objects, and for the world.
    pub(super) bell: Arc<Bell>,
}

impl Hub {
    /// A bell for these objects of a vault.
    pub(super) fn subscribe<'a>(
        &self,
        vault: &VaultId,
        objects: impl Iterator<Item = &'a ObjectName>,
    ) -> Subscription {
        let bell = Arc::new(Bell::default());
        let mut objects: Vec<Box<str>> = objects.map(|name| name.folded().into()).collect();
        objects.sort_unstable();
        objects.dedup();
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let number = registry.next;
        registry.next += 1;
        registry.all.insert(number, Arc::clone(&bell));
        let of_vault = registry.by_object.entry(vault.clone()).or_default();
        for name in &objects {
            of_vault
                .entry(name.clone())
                .or_default()
                .insert(number, Arc::clone(&bell));
        }
        drop(registry);
        Subscription {
            hub: self.clone(),
            number,
            vault: vault.clone(),
            objects,
            bell,
        }
    }

    /// Changes with each change of any object.
    pub(super) fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    /// Passes the gate's changes on until `stop`.
    pub(super) async fn run(&self, gate: &Gate, stop: &CancellationToken) {
        let mut changes = gate.changes();
        let mut world_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(world_at.unwrap_or_else(Instant::now)), if world_at.is_some() => {
                    world_at = None;
                    self.ring_all(|bell| &bell.world);
                }
                change = changes.next() => match change {
                    None => return,
                    Some(Change::World) => world_at = Some(world_at.unwrap_or_else(|| Instant::now() + WORLD_PAUSE)),
                    Some(Change::Head(head)) => {
                        self.ring(&head.vault, &head.name);
                        self.heads.send_modify(|count| *count += 1);
                    }
                    Some(Change::Everything) => {
                        self.ring_all(|bell| &bell.everything);
                        self.heads.send_modify(|count| *count += 1);
                    }
                },
            }
        }
    }

    fn ring(&self, vault: &VaultId, name: &str) {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let bells = registry
            .by_object
            .get(vault)
            .and_then(|of_vault| of_vault.get(name));
        for bell in bells.into_iter().flat_map(HashMap::values) {
            bell.ring(&bell.objects);
        }
    }

    fn ring_all(&self, what: fn(&Bell) -> &AtomicBool) {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in registry.all.values() {
            bell.ring(what(bell));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut registry = self.hub.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.all.remove(&self.number);
        let Some(of_vault) = registry.by_object.get_mut(&self.vault) else {
            return;
        };
        for name in &self.objects {
            if let Some(bells) = of_vault.get_mut(name) {
                bells.remove(&self.number);
                if bells.is_empty() {
                    of_vault.remove(name);
                }
            }
        }
        if of_vault.is_empty() {
            registry.by_object.remove(&self.vault);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::model::{Namespace, VaultName};

    fn vault(name: &str) -> VaultId {
        VaultId {
            namespace: Namespace::parse("team").unwrap(),
            name: VaultName::parse(name).unwrap(),
        }
    }

    fn names(names: &[&str]) -> Vec<ObjectName> {
        names
            .iter()
            .map(|name| ObjectName::parse(name).unwrap())
            .collect()
    }

    #[test]
    fn a_change_wakes_the_streams_that_want_it_and_no_others() {
        let hub = Hub::default();
        let one = hub.subscribe(&vault("one"), names(&["Alpha", "beta"]).iter());
        let other_object = hub.subscribe(&vault("one"), names(&["gamma"]).iter());
        let other_vault = hub.subscribe(&vault("two"), names(&["alpha"]).iter());
        hub.ring(&vault("one"), "alpha");
        hub.ring(&vault("one"), "beta");
        assert_eq!(
            one.bell.rung().now_or_never(),
            Some(Rung {
                world: false,
                objects: true,
                everything: None
            })
        );
        assert_eq!(one.bell.rung().now_or_never(), None, "a burst is one ring");
        assert!(other_object.bell.rung().now_or_never().is_none());
        assert!(other_vault.bell.rung().now_or_never().is_none());
        hub.ring_all(|bell| &bell.world);
        assert!(other_vault.bell.rung().now_or_never().unwrap().world);
    }

    #[test]
    fn a_stream_that_ended_leaves_nothing_behind() {
        let hub = Hub::default();
        let subscriptions: Vec<_> = (0..10)
            .map(|_| hub.subscribe(&vault("one"), names(&["a", "A", "b"]).iter()))
            .collect();
        drop(subscriptions);
        let registry = hub.registry.lock().unwrap();
        assert!(registry.all.is_empty() && registry.by_object.is_empty());
    }
}
