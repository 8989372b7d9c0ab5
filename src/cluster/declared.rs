//! What the management plane declares, turned into the world: vaults, their namespaces, their access policies.
//!
//! Three feeds meet here, because a vault's entry needs its namespace's UID and a policy belongs to a vault. A vault
//! changes the world at once; policies are compiled a vault at a time, 10 ms after the first change, so that a hundred
//! policies applied together cost one compilation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::compile;
use crate::crd;
use crate::model::{Namespace, Uid, VaultEntry, VaultId};
use crate::policy::VaultPolicy;
use crate::world::Shared;

/// How long changes of policies are gathered.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// What was declared so far, and the world that it goes to.
pub(crate) struct Declared {
    world: Arc<Shared>,
    known: Mutex<Known>,
    changed: Notify,
}

impl Declared {
    /// Nothing is declared.
    pub(crate) fn new(world: Arc<Shared>) -> Self {
        Self {
            world,
            known: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Compiles what changed until dropped.
    pub(crate) async fn compile_changes(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            sleep(DEBOUNCE).await;
            self.compile_now();
        }
    }

    /// A Vault is there.
    pub(crate) fn put_vault(&self, vault: crd::Vault) {
        self.vaults(|known| known.put_vault(vault));
    }

    /// A Vault is gone.
    pub(crate) fn remove_vault(&self, key: &Key) {
        self.vaults(|known| known.remove_vault(key));
    }

    /// These are all Vaults.
    pub(crate) fn replace_vaults(&self, vaults: Vec<crd::Vault>) {
        self.vaults(|known| known.replace_vaults(vaults));
    }

    /// A Namespace is there.
    pub(crate) fn put_namespace(&self, name: &Namespace, uid: Uid) {
        self.vaults(|known| known.put_namespace(name, uid));
    }

    /// A Namespace is gone.
    pub(crate) fn remove_namespace(&self, name: &Namespace, uid: &Uid) {
        self.vaults(|known| known.remove_namespace(name, uid));
    }

    /// These are all Namespaces.
    pub(crate) fn replace_namespaces(&self, namespaces: HashMap<Namespace, Uid>) {
        self.vaults(|known| known.replace_namespaces(namespaces));
    }

    /// An AccessPolicy is there.
    pub(crate) fn put_policy(&self, policy: crd::AccessPolicy) {
        self.known(|known| known.put_policy(policy));
        self.changed.notify_one();
    }

    /// An AccessPolicy is gone.
    pub(crate) fn remove_policy(&self, key: &Key) {
        self.known(|known| known.remove_policy(key));
        self.changed.notify_one();
    }

    /// These are all AccessPolicies; compiled before this returns.
    pub(crate) fn replace_policies(&self, policies: Vec<crd::AccessPolicy>) {
        self.known(|known| known.replace_policies(policies));
        self.compile_now();
    }

    fn compile_now(&self) {
        // Held until the world has it, so that an older compilation never follows a newer one.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = known.compile();
        if compiled.is_empty() {
            return;
        }
        self.world.update(|world| {
            for (vault, policy) in compiled {
                match policy {
                    Some(policy) => world.policy.set(vault, Arc::new(policy)),
                    None => world.policy.remove(&vault),
                }
            }
        });
    }

    fn vaults(&self, change: impl FnOnce(&mut Known) -> Entries) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = change(&mut known);
        if entries.is_empty() {
            return;
        }
        self.world.update(|world| {
            for (vault, entry) in entries {
                match entry {
                    Some(entry) => world.vaults.insert(vault, Arc::new(entry)),
                    None => world.vaults.remove(&vault),
                };
            }
        });
    }

    fn known(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Namespace and name of a resource, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of a namespaced resource.
    pub(crate) fn of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// Vaults whose entry changed; none where there is to be no entry.
type Entries = Vec<(VaultId, Option<VaultEntry>)>;

#[derive(Debug, Default)]
struct Known {
    namespaces: HashMap<Namespace, Uid>,
    vaults: BTreeMap<Key, crd::Vault>,
    /// What the world has.
    entries: HashMap<Key, VaultEntry>,
    policies: HashMap<VaultId, BTreeMap<Key, crd::AccessPolicy>>,
    /// Where each policy stands; a policy that names no vault stands nowhere.
    places: HashMap<Key, VaultId>,
    dirty: HashSet<VaultId>,
}

impl Known {
    fn put_vault(&mut self, vault: crd::Vault) -> Entries {
        let key = Key::of(&vault.metadata);
        self.vaults.insert(key.clone(), vault);
        self.refresh([key])
    }

    fn remove_vault(&mut self, key: &Key) -> Entries {
        self.vaults.remove(key);
        self.refresh([key.clone()])
    }

    fn replace_vaults(&mut self, vaults: Vec<crd::Vault>) -> Entries {
        self.vaults = vaults.into_iter().map(|v| (Key::of(&v.metadata), v)).collect();
        self.refresh_all()
    }

    fn put_namespace(&mut self, name: &Namespace, uid: Uid) -> Entries {
        if self.namespaces.get(name) == Some(&uid) {
            return Vec::new();
        }
        self.namespaces.insert(name.clone(), uid);
        self.refresh_namespace(name)
    }

    fn remove_namespace(&mut self, name: &Namespace, uid: &Uid) -> Entries {
        if self.namespaces.get(name) != Some(uid) {
            return Vec::new();
        }
        self.namespaces.remove(name);
        self.refresh_namespace(name)
    }

    fn replace_namespaces(&mut self, namespaces: HashMap<Namespace, Uid>) -> Entries {
        self.namespaces = namespaces;
        self.refresh_all()
    }

    fn refresh_all(&mut self) -> Entries {
        let keys: HashSet<Key> = self.vaults.keys().chain(self.entries.keys()).cloned().collect();
        self.refresh(keys)
    }

    fn refresh_namespace(&mut self, name: &Namespace) -> Entries {
        let first = Key {
            namespace: name.as_str().to_owned(),
            name: String::new(),
        };
        let keys: Vec<Key> = self
            .vaults
            .range(&first..)
            .map(|(key, _)| key)
            .take_while(|key| key.namespace == first.namespace)
            .cloned()
            .collect();
        self.refresh(keys)
    }

    /// The entries of these vaults, as far as they differ from those in the world.
    fn refresh(&mut self, keys: impl IntoIterator<Item = Key>) -> Entries {
        let mut changes = Vec::new();
        for key in keys {
            let now = self.entry(&key);
            let before = self.entries.remove(&key);
            if let Some(before) = &before
                && now.as_ref().is_none_or(|now| now.id != before.id)
            {
                changes.push((before.id.clone(), None));
            }
            if let Some(now) = now {
                if before.as_ref() != Some(&now) {
                    changes.push((now.id.clone(), Some(now.clone())));
                }
                self.entries.insert(key, now);
            }
        }
        changes
    }

    fn entry(&self, key: &Key) -> Option<VaultEntry> {
        let vault = self.vaults.get(key)?;
        // A vault whose namespace was not seen yet waits for it.
        let uid = self.namespaces.get(&Namespace::parse(&key.namespace).ok()?)?;
        compile::vault(vault, uid)
            .inspect_err(|error| tracing::debug!(%error, "a Vault is of no effect"))
            .ok()
    }

    fn put_policy(&mut self, policy: crd::AccessPolicy) {
        let key = Key::of(&policy.metadata);
        self.remove_policy(&key);
        match compile::vault_of(&policy) {
            Ok(vault) => {
                self.dirty.insert(vault.clone());
                self.places.insert(key.clone(), vault.clone());
                self.policies.entry(vault).or_default().insert(key, policy);
            }
            Err(error) => tracing::debug!(%error, "an AccessPolicy is of no effect"),
        }
    }

    fn remove_policy(&mut self, key: &Key) {
        let Some(vault) = self.places.remove(key) else {
            return;
        };
        if let Some(policies) = self.policies.get_mut(&vault) {
            policies.remove(key);
            if policies.is_empty() {
                self.policies.remove(&vault);
            }
        }
        self.dirty.insert(vault);
    }

    fn replace_policies(&mut self, policies: Vec<crd::AccessPolicy>) {
        self.dirty.extend(self.policies.drain().map(|(vault, _)| vault));
        self.places.clear();
        policies.into_iter().for_each(|policy| self.put_policy(policy));
    }

    /// The policies of the vaults that changed; none where a vault has none left.
    fn compile(&mut self) -> Vec<(VaultId, Option<VaultPolicy>)> {
        let Self { dirty, policies, .. } = self;
        dirty
            .drain()
            .map(|vault| {
                let compiled = policies.get(&vault).map(|policies| {
                    let policies: Vec<_> = policies.values().collect();
                    compile::policies(&vault, &policies).policy
                });
                (vault, compiled)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Standing;
    use std::time::Instant;

    fn declared() -> Declared {
        let standing = Standing::new(Instant::now(), Duration::from_secs(60));
        Declared::new(Arc::new(Shared::new(standing)))
    }

    fn namespace(name: &str) -> Namespace {
        Namespace::parse(name).unwrap()
    }

    fn vault(namespace: &str, name: &str, uid: &str) -> crd::Vault {
        let metadata = serde_json::json!({ "namespace": namespace, "name": name, "uid": uid });
        serde_json::from_value(serde_json::json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "Vault", "metadata": metadata, "spec": {},
        }))
        .unwrap()
    }

    fn policy(namespace: &str, name: &str, vault: &str) -> crd::AccessPolicy {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": { "namespace": namespace, "name": name, "uid": name,
                "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "vaultRef": vault, "subjects": [{ "kind": "ServiceAccount", "name": "web" }],
                "permissions": { "secrets": ["get"] } },
        }))
        .unwrap()
    }

    fn id(namespace_name: &str, name: &str) -> VaultId {
        VaultId {
            namespace: namespace(namespace_name),
            name: crate::model::VaultName::parse(name).unwrap(),
        }
    }

    fn entry(declared: &Declared, namespace: &str, name: &str) -> Option<Arc<VaultEntry>> {
        declared.world.load().vaults.get(&id(namespace, name)).cloned()
    }

    fn has_policy(declared: &Declared, namespace: &str, name: &str) -> bool {
        declared.world.load().policy.vault(&id(namespace, name)).is_some()
    }

    #[test]
    fn a_vault_is_there_once_both_it_and_its_namespace_are_seen_in_whatever_order() {
        let declared = declared();
        declared.put_vault(vault("shop", "demo", "v1"));
        assert!(entry(&declared, "shop", "demo").is_none());
        declared.put_namespace(&namespace("shop"), Uid::new("n1"));
        assert_eq!(
            entry(&declared, "shop", "demo").unwrap().namespace_uid,
            Uid::new("n1")
        );
        declared.put_vault(vault("shop", "other", "v2"));
        assert_eq!(entry(&declared, "shop", "other").unwrap().uid, Uid::new("v2"));
    }

    #[test]
    fn a_recycled_namespace_is_another_tenant_and_a_late_removal_of_the_former_changes_nothing() {
        let declared = declared();
        declared.put_namespace(&namespace("shop"), Uid::new("n1"));
        declared.put_vault(vault("shop", "demo", "v1"));
        declared.put_namespace(&namespace("shop"), Uid::new("n2"));
        assert_eq!(
            entry(&declared, "shop", "demo").unwrap().namespace_uid,
            Uid::new("n2")
        );
        declared.remove_namespace(&namespace("shop"), &Uid::new("n1"));
        assert!(entry(&declared, "shop", "demo").is_some());
        declared.remove_namespace(&namespace("shop"), &Uid::new("n2"));
        assert!(entry(&declared, "shop", "demo").is_none());
    }

    #[test]
    fn a_list_takes_the_place_of_all_that_was_declared() {
        let declared = declared();
        declared.replace_namespaces(HashMap::from([(namespace("shop"), Uid::new("n1"))]));
        declared.replace_vaults(vec![vault("shop", "demo", "v1"), vault("shop", "other", "v2")]);
        declared.replace_policies(vec![policy("shop", "a", "demo"), policy("shop", "b", "other")]);
        declared.replace_vaults(vec![vault("shop", "demo", "v1")]);
        declared.replace_policies(vec![policy("shop", "a", "demo")]);
        assert!(entry(&declared, "shop", "demo").is_some() && entry(&declared, "shop", "other").is_none());
        assert!(has_policy(&declared, "shop", "demo") && !has_policy(&declared, "shop", "other"));
    }

    #[test]
    fn a_change_of_a_vaults_status_is_no_change_of_the_world() {
        let declared = declared();
        declared.put_namespace(&namespace("shop"), Uid::new("n1"));
        declared.put_vault(vault("shop", "demo", "v1"));
        let before = declared.world.load().generation;
        let mut same = vault("shop", "demo", "v1");
        same.status = Some(crd::VaultStatus::default());
        declared.put_vault(same);
        assert_eq!(declared.world.load().generation, before);
    }

    #[test]
    fn a_policy_that_moves_to_another_vault_no_longer_grants_at_the_former() {
        let declared = declared();
        declared.replace_policies(vec![policy("shop", "a", "demo")]);
        assert!(has_policy(&declared, "shop", "demo"));
        declared.put_policy(policy("shop", "a", "other"));
        declared.compile_now();
        assert!(!has_policy(&declared, "shop", "demo") && has_policy(&declared, "shop", "other"));
        declared.remove_policy(&Key {
            namespace: "shop".into(),
            name: "a".into(),
        });
        declared.compile_now();
        assert!(!has_policy(&declared, "shop", "other"));
    }

    #[tokio::test]
    async fn policies_applied_together_are_compiled_once_and_within_milliseconds() {
        let declared = Arc::new(declared());
        let compiling = tokio::spawn(Arc::clone(&declared).compile_changes());
        let before = declared.world.load().generation;
        for n in 0..100 {
            declared.put_policy(policy("shop", &format!("p{n}"), "demo"));
        }
        sleep(DEBOUNCE * 5).await;
        assert!(has_policy(&declared, "shop", "demo"));
        assert_eq!(declared.world.load().generation, before + 1);
        compiling.abort();
    }
}
