//! May a call from there reach this vault? Pure.
//!
//! # Why
//! - A rule only ever lets in: what is not understood, not known or not proven lets nobody in.
//! - An address is the peer of the TCP connection, and an IPv4 address is one however it is written.
//! - A selector is about the pod that calls: the one that the token names, and only from that pod's own address. A token
//!   that was carried elsewhere is not its pod.
//! - What a request costs depends on the rules of its own vault alone: two binary searches among at most a thousand
//!   ranges, then at most two hundred terms.

mod cidr;
mod ranges;
mod selector;
mod vault_network;

use std::sync::Arc;

use crate::model::{Bypass, Labels, Namespace, NetworkAcls, VaultId};

pub use cidr::{Cidr, InvalidCidr};
pub use selector::{InvalidSelector, Requirement, Selector};
pub use vault_network::{From, Namespaces, PodTerm, Refused, VaultNetwork, Way, WhichPod};

/// The compiled rules of every vault, and the labels of namespaces. Cheap to clone: persistent.
#[derive(Debug, Clone, Default)]
pub struct Index {
    vaults: imbl::HashMap<VaultId, Arc<VaultNetwork>>,
    namespaces: imbl::HashMap<Namespace, Labels>,
}

impl Index {
    /// Puts a vault's compiled rules in place of those before.
    pub fn set(&mut self, vault: VaultId, network: Arc<VaultNetwork>) {
        self.vaults.insert(vault, network);
    }

    /// Forgets a vault's rules: where its default is to deny, nobody gets in.
    pub fn remove(&mut self, vault: &VaultId) {
        self.vaults.remove(vault);
    }

    /// The compiled rules of a vault.
    #[must_use]
    pub fn vault(&self, vault: &VaultId) -> Option<&Arc<VaultNetwork>> {
        self.vaults.get(vault)
    }

    /// Whether a call from there reaches a vault that is like this.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, vault: &VaultId, acls: NetworkAcls, from: &From<'_>) -> Result<(), Refused> {
        let passes = !acls.denies() || (acls.bypass == Bypass::Volumes && from.way == Way::Volume);
        match self.vaults.get(vault) {
            _ if passes => Ok(()),
            Some(network) => network.admit(from),
            None => Err(Refused::NotAuthorized),
        }
    }

    /// Takes in the labels that a namespace has now.
    pub fn label_namespace(&mut self, namespace: Namespace, labels: Labels) {
        self.namespaces.insert(namespace, labels);
    }

    /// Forgets a namespace.
    pub fn forget_namespace(&mut self, namespace: &Namespace) {
        self.namespaces.remove(namespace);
    }

    /// The labels of a namespace; none where it is not known.
    #[must_use]
    pub fn namespace(&self, namespace: &Namespace) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DefaultAction, VaultName};

    #[test]
    fn what_a_vault_says_comes_before_its_rules() {
        let vault = VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        };
        let mut ruled = Index::default();
        let network = VaultNetwork::new(["10.0.0.0/8".parse().unwrap()], []);
        ruled.set(vault.clone(), Arc::new(network));
        let bare = Index::default();
        // (default action, bypass) -> (from within by connection, from without by connection, without by volume, no rules)
        for (default_action, bypass, fares) in [
            (DefaultAction::Allow, Bypass::None, [true, true, true, true]),
            (DefaultAction::Allow, Bypass::Volumes, [true, true, true, true]),
            (DefaultAction::Deny, Bypass::None, [true, false, false, false]),
            (DefaultAction::Deny, Bypass::Volumes, [true, false, true, false]),
        ] {
            let acls = NetworkAcls {
                default_action,
                bypass,
            };
            let reaches = |index: &Index, way, address: &str| {
                let from = From {
                    way,
                    addresses: &[address.parse().unwrap()],
                    pod: WhichPod::None,
                };
                index.admit(&vault, acls, &from).is_ok()
            };
            let seen = [
                reaches(&ruled, Way::Connection, "10.0.0.7"),
                reaches(&ruled, Way::Connection, "192.0.2.7"),
                reaches(&ruled, Way::Volume, "192.0.2.7"),
                reaches(&bare, Way::Connection, "10.0.0.7"),
            ];
            assert_eq!(seen, fares, "{acls:?}");
        }
    }

    #[test]
    fn a_vault_whose_rules_are_gone_lets_nobody_in() {
        let vault = VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        };
        let mut index = Index::default();
        index.set(
            vault.clone(),
            Arc::new(VaultNetwork::new(["0.0.0.0/0".parse().unwrap()], [])),
        );
        let acls = NetworkAcls {
            default_action: DefaultAction::Deny,
            bypass: Bypass::None,
        };
        let from = From {
            way: Way::Connection,
            addresses: &["10.0.0.7".parse().unwrap()],
            pod: WhichPod::None,
        };
        assert_eq!(index.admit(&vault, acls, &from), Ok(()));
        index.remove(&vault);
        assert_eq!(index.admit(&vault, acls, &from), Err(Refused::NotAuthorized));
    }
}
