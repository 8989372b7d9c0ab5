//! Resources of one kind by the vault that each names, and which vaults have to be compiled anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::declared::Key;
use crate::compile::Unusable;
use crate::model::VaultId;

/// Resources of one kind, by vault.
#[derive(Debug)]
pub(super) struct OfVaults<K> {
    by_vault: HashMap<VaultId, BTreeMap<Key, K>>,
    /// Where each resource stands; one that names no vault stands nowhere.
    places: HashMap<Key, VaultId>,
    dirty: HashSet<VaultId>,
}

impl<K> Default for OfVaults<K> {
    fn default() -> Self {
        Self {
            by_vault: HashMap::new(),
            places: HashMap::new(),
            dirty: HashSet::new(),
        }
    }
}

impl<K> OfVaults<K> {
    /// A resource is there that names this vault, or none.
    pub(super) fn put(&mut self, key: Key, vault: Result<VaultId, Unusable>, object: K) {
        self.remove(&key);
        match vault {
            Ok(vault) => {
                self.dirty.insert(vault.clone());
                self.places.insert(key.clone(), vault.clone());
                self.by_vault.entry(vault).or_default().insert(key, object);
            }
            Err(error) => tracing::debug!(%error, "a resource is of no effect"),
        }
    }

    /// A resource is gone.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(vault) = self.places.remove(key) else {
            return;
        };
        if let Some(objects) = self.by_vault.get_mut(&vault) {
            objects.remove(key);
            if objects.is_empty() {
                self.by_vault.remove(&vault);
            }
        }
        self.dirty.insert(vault);
    }

    /// No resource is there, until it is put again.
    pub(super) fn clear(&mut self) {
        self.dirty.extend(self.by_vault.drain().map(|(vault, _)| vault));
        self.places.clear();
    }

    /// The vaults that changed since this was asked last, compiled; none where a vault has no resource left.
    pub(super) fn compile<C>(&mut self, compile: impl Fn(&VaultId, &[&K]) -> C) -> Vec<(VaultId, Option<C>)> {
        let Self { dirty, by_vault, .. } = self;
        dirty
            .drain()
            .map(|vault| {
                let compiled = by_vault.get(&vault).map(|objects| {
                    let objects: Vec<_> = objects.values().collect();
                    compile(&vault, &objects)
                });
                (vault, compiled)
            })
            .collect()
    }
}
