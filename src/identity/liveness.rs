//! Which pods and service accounts live, and which pod an address belongs to. Persistent maps: a clone costs nothing that
//! grows, a change costs O(log n), a look-up takes no lock.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::HashMap;

use crate::model::{Namespace, Uid};

use super::{AccountRef, Phase, PodFacts};

/// The pods and service accounts of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    pods: HashMap<Uid, Arc<PodFacts>>,
    /// Who holds a name now: a pod made anew pushes out the one before, even where its deletion was never seen.
    names: HashMap<PodName, Uid>,
    accounts: HashMap<AccountRef, Uid>,
    /// Pods with a network of their own that live, by address.
    owners: HashMap<IpAddr, Vec<Uid>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PodName {
    namespace: Namespace,
    name: Arc<str>,
}

impl PodName {
    fn of(pod: &PodFacts) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: Arc::clone(&pod.name),
        }
    }
}

/// To whom an address belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOwner<'a> {
    /// To one live pod with a network of its own.
    Pod(&'a Uid),
    /// To no such pod, or to several, which is the same: it proves nothing.
    Nobody,
}

impl Liveness {
    /// Takes in a pod as it is now.
    pub fn upsert_pod(&mut self, pod: PodFacts) {
        if let Some(holder) = self.names.insert(PodName::of(&pod), pod.uid.clone()) {
            self.forget(&holder);
        }
        // Of a known UID the name never changes, but addresses and phase do.
        self.forget(&pod.uid);
        for address in own_addresses(&pod) {
            let mut owners = self.owners.get(&address).cloned().unwrap_or_default();
            if !owners.contains(&pod.uid) {
                owners.push(pod.uid.clone());
                self.owners.insert(address, owners);
            }
        }
        self.pods.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// Forgets a pod that is gone.
    pub fn remove_pod(&mut self, uid: &Uid) {
        let Some(pod) = self.forget(uid) else { return };
        // Whoever is known holds its name: another who took it has pushed it out.
        self.names.remove(&PodName::of(&pod));
    }

    /// Puts a complete list of pods in place of all that was known.
    pub fn replace_pods(&mut self, pods: impl IntoIterator<Item = PodFacts>) {
        let mut fresh = Self {
            accounts: self.accounts.clone(),
            ..Self::default()
        };
        pods.into_iter().for_each(|pod| fresh.upsert_pod(pod));
        *self = fresh;
    }

    /// Takes in a service account as it is now.
    pub fn upsert_account(&mut self, account: AccountRef, uid: Uid) {
        self.accounts.insert(account, uid);
    }

    /// Forgets a service account that is gone; one made anew under its name stays.
    pub fn remove_account(&mut self, account: &AccountRef, uid: &Uid) {
        if self.accounts.get(account) == Some(uid) {
            self.accounts.remove(account);
        }
    }

    /// Puts a complete list of service accounts in place of all that was known.
    pub fn replace_accounts(&mut self, accounts: impl IntoIterator<Item = (AccountRef, Uid)>) {
        self.accounts = accounts.into_iter().collect();
    }

    /// The pod of that UID, terminal ones included.
    #[must_use]
    pub fn pod(&self, uid: &Uid) -> Option<&Arc<PodFacts>> {
        self.pods.get(uid)
    }

    /// The UID under which a service account lives.
    #[must_use]
    pub fn account(&self, account: &AccountRef) -> Option<&Uid> {
        self.accounts.get(account)
    }

    /// To whom an address belongs.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> AddressOwner<'_> {
        match self.owners.get(&address.to_canonical()).map(Vec::as_slice) {
            Some([uid]) => AddressOwner::Pod(uid),
            _ => AddressOwner::Nobody,
        }
    }

    /// How many pods are known.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    fn forget(&mut self, uid: &Uid) -> Option<Arc<PodFacts>> {
        let pod = self.pods.remove(uid)?;
        for address in own_addresses(&pod) {
            let Some(mut owners) = self.owners.remove(&address) else {
                continue;
            };
            owners.retain(|owner| owner != uid);
            if !owners.is_empty() {
                self.owners.insert(address, owners);
            }
        }
        Some(pod)
    }
}

/// The addresses that are this pod's alone: none of a pod on the host's network, none of one that ended (they are given
/// to others while its object stays).
fn own_addresses(pod: &PodFacts) -> impl Iterator<Item = IpAddr> {
    let has_own = !pod.host_network && pod.phase != Phase::Terminal;
    pod.addresses
        .iter()
        .filter(move |_| has_own)
        .map(IpAddr::to_canonical)
}
