//! What the management plane declares, turned into the world: vaults, namespaces, access policies, network rules.
//!
//! Four feeds meet here, because a vault's entry needs its namespace's UID, and policies and rules belong to a vault. A
//! vault changes the world at once; policies and rules are compiled a vault at a time, 10 ms after the first change, so
//! that a hundred applied together cost one compilation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::of_vaults::OfVaults;
use crate::compile;
use crate::crd;
use crate::model::{Labels, Namespace, Uid, VaultEntry, VaultId};
use crate::network::VaultNetwork;
use crate::policy::VaultPolicy;
use crate::world::Shared;

/// How long changes of policies and rules are gathered.
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
    pub(crate) fn put_namespace(&self, name: &Namespace, home: Home) {
        self.vaults(|known| known.put_namespace(name, home));
    }

    /// A Namespace is gone.
    pub(crate) fn remove_namespace(&self, name: &Namespace, uid: &Uid) {
        self.vaults(|known| known.remove_namespace(name, uid));
    }

    /// These are all Namespaces.
    pub(crate) fn replace_namespaces(&self, namespaces: HashMap<Namespace, Home>) {
        self.vaults(|known| known.replace_namespaces(namespaces));
    }

    /// An AccessPolicy is there.
    pub(crate) fn put_policy(&self, policy: crd::AccessPolicy) {
        self.known(|known| known.put_policy(policy));
        self.changed.notify_one();
    }

    /// An AccessPolicy is gone.
    pub(crate) fn remove_policy(&self, key: &Key) {
        self.known(|known| known.policies.remove(key));
        self.changed.notify_one();
    }

    /// These are all AccessPolicies; compiled before this returns.
    pub(crate) fn replace_policies(&self, policies: Vec<crd::AccessPolicy>) {
        self.known(|known| known.replace_policies(policies));
        self.compile_now();
    }

    /// A NetworkRule is there.
    pub(crate) fn put_rule(&self, rule: crd::NetworkRule) {
        self.known(|known| known.put_rule(rule));
        self.changed.notify_one();
    }

    /// A NetworkRule is gone.
    pub(crate) fn remove_rule(&self, key: &Key) {
        self.known(|known| known.rules.remove(key));
        self.changed.notify_one();
    }

    /// These are all NetworkRules; compiled before this returns.
    pub(crate) fn replace_rules(&self, rules: Vec<crd::NetworkRule>) {
        self.known(|known| known.replace_rules(rules));
        self.compile_now();
    }

    fn compile_now(&self) {
        // Held until the world has it, so that an older compilation never follows a newer one.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (policies, rules) = known.compile();
        if policies.is_empty() && rules.is_empty() {
            return;
        }
        self.world.update(|world| {
            for (vault, network) in rules {
                match network {
                    Some(network) => world.network.set(vault, Arc::new(network)),
                    None => world.network.remove(&vault),
                }
            }
            for (vault, policy) in policies {
                match policy {
                    Some(policy) => world.policy.set(vault, Arc::new(policy)),
                    None => world.policy.remove(&vault),
                }
            }
        });
    }

    fn vaults(&self, change: impl FnOnce(&mut Known) -> Changes) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Changes { entries, labels } = change(&mut known);
        if entries.is_empty() && labels.is_empty() {
            return;
        }
        self.world.update(|world| {
            for (namespace, labels) in labels {
                match labels {
                    Some(labels) => world.network.label_namespace(namespace, labels),
                    None => world.network.forget_namespace(&namespace),
                }
            }
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

/// A namespace, as far as access depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    /// Its UID.
    pub uid: Uid,
    /// Its labels.
    pub labels: Labels,
}

/// Vaults that were compiled anew; none where nothing is left to compile.
type Compiled<C> = Vec<(VaultId, Option<C>)>;

/// What changes in the world.
#[derive(Debug, Default)]
struct Changes {
    /// Vaults whose entry changed; none where there is to be no entry.
    entries: Vec<(VaultId, Option<VaultEntry>)>,
    /// Namespaces whose labels changed; none where the namespace is gone.
    labels: Vec<(Namespace, Option<Labels>)>,
}

#[derive(Debug, Default)]
struct Known {
    namespaces: HashMap<Namespace, Home>,
    vaults: BTreeMap<Key, crd::Vault>,
    /// What the world has.
    entries: HashMap<Key, VaultEntry>,
    policies: OfVaults<crd::AccessPolicy>,
    rules: OfVaults<crd::NetworkRule>,
}

impl Known {
    fn put_vault(&mut self, vault: crd::Vault) -> Changes {
        let key = Key::of(&vault.metadata);
        self.vaults.insert(key.clone(), vault);
        self.refresh([key])
    }

    fn remove_vault(&mut self, key: &Key) -> Changes {
        self.vaults.remove(key);
        self.refresh([key.clone()])
    }

    fn replace_vaults(&mut self, vaults: Vec<crd::Vault>) -> Changes {
        self.vaults = vaults.into_iter().map(|v| (Key::of(&v.metadata), v)).collect();
        self.refresh_all()
    }

    fn put_namespace(&mut self, name: &Namespace, home: Home) -> Changes {
        let before = self.namespaces.insert(name.clone(), home.clone());
        let mut changes = if before.as_ref().is_some_and(|before| before.uid == home.uid) {
            Changes::default()
        } else {
            self.refresh_namespace(name)
        };
        if before.is_none_or(|before| before.labels != home.labels) {
            changes.labels.push((name.clone(), Some(home.labels)));
        }
        changes
    }

    fn remove_namespace(&mut self, name: &Namespace, uid: &Uid) -> Changes {
        if self.namespaces.get(name).is_none_or(|home| home.uid != *uid) {
            return Changes::default();
        }
        self.namespaces.remove(name);
        let mut changes = self.refresh_namespace(name);
        changes.labels.push((name.clone(), None));
        changes
    }

    fn replace_namespaces(&mut self, namespaces: HashMap<Namespace, Home>) -> Changes {
        let before = std::mem::replace(&mut self.namespaces, namespaces);
        let mut changes = self.refresh_all();
        let gone = before.keys().filter(|name| !self.namespaces.contains_key(*name));
        changes.labels = gone.map(|name| (name.clone(), None)).collect();
        changes
            .labels
            .extend(self.namespaces.iter().filter_map(|(name, home)| {
                let same = before
                    .get(name)
                    .is_some_and(|before| before.labels == home.labels);
                (!same).then(|| (name.clone(), Some(home.labels.clone())))
            }));
        changes
    }

    fn refresh_all(&mut self) -> Changes {
        let keys: HashSet<Key> = self.vaults.keys().chain(self.entries.keys()).cloned().collect();
        self.refresh(keys)
    }

    fn refresh_namespace(&mut self, name: &Namespace) -> Changes {
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
    fn refresh(&mut self, keys: impl IntoIterator<Item = Key>) -> Changes {
        let mut entries = Vec::new();
        for key in keys {
            let now = self.entry(&key);
            let before = self.entries.remove(&key);
            if let Some(before) = &before
                && now.as_ref().is_none_or(|now| now.id != before.id)
            {
                entries.push((before.id.clone(), None));
            }
            if let Some(now) = now {
                if before.as_ref() != Some(&now) {
                    entries.push((now.id.clone(), Some(now.clone())));
                }
                self.entries.insert(key, now);
            }
        }
        Changes {
            entries,
            labels: Vec::new(),
        }
    }

    fn entry(&self, key: &Key) -> Option<VaultEntry> {
        let vault = self.vaults.get(key)?;
        // A vault whose namespace was not seen yet waits for it.
        let home = self.namespaces.get(&Namespace::parse(&key.namespace).ok()?)?;
        compile::vault(vault, &home.uid)
            .inspect_err(|error| tracing::debug!(%error, "a Vault is of no effect"))
            .ok()
    }

    fn put_policy(&mut self, policy: crd::AccessPolicy) {
        let vault = compile::vault_of(&policy);
        self.policies.put(Key::of(&policy.metadata), vault, policy);
    }

    fn replace_policies(&mut self, policies: Vec<crd::AccessPolicy>) {
        self.policies.clear();
        policies.into_iter().for_each(|policy| self.put_policy(policy));
    }

    fn put_rule(&mut self, rule: crd::NetworkRule) {
        let vault = compile::ruled_vault(&rule);
        self.rules.put(Key::of(&rule.metadata), vault, rule);
    }

    fn replace_rules(&mut self, rules: Vec<crd::NetworkRule>) {
        self.rules.clear();
        rules.into_iter().for_each(|rule| self.put_rule(rule));
    }

    /// The policies and the rules of the vaults in which they changed; none where a vault has none left.
    fn compile(&mut self) -> (Compiled<VaultPolicy>, Compiled<VaultNetwork>) {
        let policies = |vault: &VaultId, policies: &[&_]| compile::policies(vault, policies).policy;
        let rules = |vault: &VaultId, rules: &[&_]| compile::network_rules(vault, rules).network;
        (self.policies.compile(policies), self.rules.compile(rules))
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

    fn home(uid: &str) -> Home {
        Home {
            uid: Uid::new(uid),
            labels: Labels::default(),
        }
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
        declared.put_namespace(&namespace("shop"), home("n1"));
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
        declared.put_namespace(&namespace("shop"), home("n1"));
        declared.put_vault(vault("shop", "demo", "v1"));
        declared.put_namespace(&namespace("shop"), home("n2"));
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
        declared.replace_namespaces(HashMap::from([(namespace("shop"), home("n1"))]));
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
        declared.put_namespace(&namespace("shop"), home("n1"));
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

    fn rule(namespace: &str, name: &str, vault: &str) -> crd::NetworkRule {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "NetworkRule",
            "metadata": { "namespace": namespace, "name": name, "uid": name,
                "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "vaultRef": vault, "cidrs": ["10.0.0.0/8"] },
        }))
        .unwrap()
    }

    fn has_rule(declared: &Declared, namespace: &str, name: &str) -> bool {
        declared
            .world
            .load()
            .network
            .vault(&id(namespace, name))
            .is_some()
    }

    #[test]
    fn rules_follow_their_vault_as_policies_do() {
        let declared = declared();
        declared.replace_rules(vec![rule("shop", "a", "demo"), rule("shop", "b", "other")]);
        assert!(has_rule(&declared, "shop", "demo") && has_rule(&declared, "shop", "other"));
        declared.put_rule(rule("shop", "a", "other"));
        declared.compile_now();
        assert!(!has_rule(&declared, "shop", "demo") && has_rule(&declared, "shop", "other"));
        declared.replace_rules(vec![rule("shop", "c", "demo")]);
        assert!(has_rule(&declared, "shop", "demo") && !has_rule(&declared, "shop", "other"));
        declared.remove_rule(&Key {
            namespace: "shop".into(),
            name: "c".into(),
        });
        declared.compile_now();
        assert!(!has_rule(&declared, "shop", "demo"));
    }

    #[test]
    fn the_labels_of_namespaces_are_those_that_they_have_now() {
        let declared = declared();
        let labelled = |uid: &str, team: &str| Home {
            labels: [("team", team)].into_iter().collect(),
            ..home(uid)
        };
        let team = |name: &str| {
            let world = declared.world.load();
            let labels = world.network.namespace(&namespace(name));
            labels.map(|labels| labels.get("team").map(str::to_owned))
        };
        declared.replace_namespaces(HashMap::from([
            (namespace("shop"), labelled("n1", "a")),
            (namespace("other"), labelled("n2", "b")),
        ]));
        assert_eq!(team("shop"), Some(Some("a".into())));
        declared.put_namespace(&namespace("shop"), labelled("n1", "c"));
        assert_eq!(team("shop"), Some(Some("c".into())));
        let before = declared.world.load().generation;
        declared.put_namespace(&namespace("shop"), labelled("n1", "c"));
        assert_eq!(declared.world.load().generation, before);
        declared.remove_namespace(&namespace("shop"), &Uid::new("another"));
        assert_eq!(team("shop"), Some(Some("c".into())));
        declared.remove_namespace(&namespace("shop"), &Uid::new("n1"));
        assert_eq!(team("shop"), None);
        declared.replace_namespaces(HashMap::from([(namespace("shop"), home("n3"))]));
        assert_eq!((team("shop"), team("other")), (Some(None), None));
    }
}
