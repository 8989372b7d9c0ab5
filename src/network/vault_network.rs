//! The rules of one vault, compiled, and the judgement by them.

use std::net::IpAddr;

use super::ranges::Ranges;
use super::{Cidr, Selector};
use crate::model::{Kind, Labels, Namespace};

/// Which pods a term lets in: those that match both parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTerm {
    /// Where the pod is.
    pub namespaces: Namespaces,
    /// What the pod is.
    pub pods: Selector,
}

/// Which namespaces a term speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// That of the vault.
    Own(Namespace),
    /// Those with such labels.
    Labelled(Selector),
}

/// The compiled rules of one vault.
#[derive(Debug, Default)]
pub struct VaultNetwork {
    blocks: Ranges,
    terms: Vec<PodTerm>,
}

/// How a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over a connection of the caller's own.
    Connection,
    /// By the node, for a volume of a pod that runs there.
    Volume,
}

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// How it comes.
    pub way: Way,
    /// The connection's peer; for a volume the pod's addresses, none while it has none.
    pub addresses: &'a [IpAddr],
    /// The pod that calls.
    pub pod: WhichPod<'a>,
}

/// Which pod calls.
#[derive(Debug, Clone, Copy)]
pub enum WhichPod<'a> {
    /// None, or not provably the one whose token is shown.
    None,
    /// This one.
    Known {
        /// Its namespace.
        namespace: &'a Namespace,
        /// Its namespace's labels.
        namespace_labels: &'a Labels,
        /// Its labels.
        labels: &'a Labels,
    },
    /// It has not been seen whole yet: in a moment more is known.
    NotYet,
}

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No rule speaks of it.
    NotAuthorized,
    /// A rule may, once more is known of the pod.
    NotYet,
}

impl Refused {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::NotAuthorized => Kind::Denied,
            Self::NotYet => Kind::Unavailable,
        }
    }
}

impl VaultNetwork {
    /// Compiles blocks and terms; their order changes nothing.
    #[must_use]
    pub fn new(blocks: impl IntoIterator<Item = Cidr>, terms: impl IntoIterator<Item = PodTerm>) -> Self {
        Self {
            blocks: Ranges::new(blocks),
            terms: terms.into_iter().collect(),
        }
    }

    /// Whether rules let in what comes from there.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, from: &From<'_>) -> Result<(), Refused> {
        if from.addresses.iter().any(|address| self.blocks.contain(*address)) {
            return Ok(());
        }
        match from.pod {
            WhichPod::Known {
                namespace,
                namespace_labels,
                labels,
            } if self
                .terms
                .iter()
                .any(|term| term.matches(namespace, namespace_labels, labels)) =>
            {
                Ok(())
            }
            WhichPod::NotYet if !self.terms.is_empty() => Err(Refused::NotYet),
            WhichPod::None | WhichPod::Known { .. } | WhichPod::NotYet => Err(Refused::NotAuthorized),
        }
    }
}

impl PodTerm {
    fn matches(&self, namespace: &Namespace, namespace_labels: &Labels, labels: &Labels) -> bool {
        let there = match &self.namespaces {
            Namespaces::Own(own) => own == namespace,
            Namespaces::Labelled(selector) => selector.matches(namespace_labels),
        };
        there && self.pods.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Requirement;

    fn namespace(name: &str) -> Namespace {
        Namespace::parse(name).unwrap()
    }

    fn labelled(key: &str, value: &str) -> Selector {
        [Requirement::new(key, "In", &[value.to_owned()]).unwrap()]
            .into_iter()
            .collect()
    }

    fn network(blocks: &[&str], terms: &[PodTerm]) -> VaultNetwork {
        VaultNetwork::new(blocks.iter().map(|block| block.parse().unwrap()), terms.to_vec())
    }

    fn own(pods: Selector) -> PodTerm {
        PodTerm {
            namespaces: Namespaces::Own(namespace("shop")),
            pods,
        }
    }

    fn in_namespaces(namespaces: Selector, pods: Selector) -> PodTerm {
        PodTerm {
            namespaces: Namespaces::Labelled(namespaces),
            pods,
        }
    }

    /// How a pod fares that has these labels, at 10.0.0.7.
    fn fares(network: &VaultNetwork, at: &str, team: &str, app: &str) -> Result<(), Refused> {
        let (namespace, labels) = (namespace(at), [("app", app)].into_iter().collect());
        let namespace_labels = [("team", team)].into_iter().collect();
        network.admit(&From {
            way: Way::Connection,
            addresses: &["10.0.0.7".parse().unwrap()],
            pod: WhichPod::Known {
                namespace: &namespace,
                namespace_labels: &namespace_labels,
                labels: &labels,
            },
        })
    }

    #[test]
    fn a_pod_is_let_in_by_its_own_labels_and_its_namespaces() {
        const IN: Result<(), Refused> = Ok(());
        const OUT: Result<(), Refused> = Err(Refused::NotAuthorized);
        let any = Selector::default;
        // The pods: shop/web of team a, shop/db of team a, other/web of team b.
        for (terms, fare) in [
            (vec![], [OUT, OUT, OUT]),
            (vec![own(any())], [IN, IN, OUT]),
            (vec![own(labelled("app", "web"))], [IN, OUT, OUT]),
            (vec![in_namespaces(any(), any())], [IN, IN, IN]),
            (vec![in_namespaces(labelled("team", "b"), any())], [OUT, OUT, IN]),
            (vec![in_namespaces(any(), labelled("app", "web"))], [IN, OUT, IN]),
            (
                vec![in_namespaces(labelled("team", "a"), labelled("app", "web"))],
                [IN, OUT, OUT],
            ),
            (
                vec![
                    own(labelled("app", "db")),
                    in_namespaces(labelled("team", "b"), any()),
                ],
                [OUT, IN, IN],
            ),
        ] {
            let network = network(&[], &terms);
            let seen = [("shop", "a", "web"), ("shop", "a", "db"), ("other", "b", "web")]
                .map(|(at, team, app)| fares(&network, at, team, app));
            assert_eq!(seen, fare, "{terms:?}");
        }
    }

    #[test]
    fn an_address_is_enough_and_so_is_a_pod() {
        let by_address = network(&["10.0.0.0/24"], &[own(labelled("app", "none"))]);
        assert_eq!(fares(&by_address, "other", "b", "web"), Ok(()));
        let elsewhere = network(&["10.0.1.0/24"], &[own(labelled("app", "web"))]);
        assert_eq!(fares(&elsewhere, "shop", "a", "web"), Ok(()));
        assert_eq!(fares(&elsewhere, "shop", "a", "db"), Err(Refused::NotAuthorized));
    }

    #[test]
    fn of_a_pod_with_two_addresses_either_counts_and_of_one_without_none() {
        let network = network(&["2001:db8::/32"], &[]);
        let admit = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            network.admit(&From {
                way: Way::Connection,
                addresses: &addresses,
                pod: WhichPod::None,
            })
        };
        assert_eq!(admit(&["10.0.0.7", "2001:db8::7"]), Ok(()));
        assert_eq!(admit(&["10.0.0.7"]), Err(Refused::NotAuthorized));
        assert_eq!(admit(&[]), Err(Refused::NotAuthorized));
    }

    #[test]
    fn whoever_is_not_known_yet_is_put_off_only_where_knowing_more_could_help() {
        let from = |pod| From {
            way: Way::Connection,
            addresses: &[],
            pod,
        };
        let by_pod = network(&[], &[own(Selector::default())]);
        assert_eq!(by_pod.admit(&from(WhichPod::NotYet)), Err(Refused::NotYet));
        assert_eq!(by_pod.admit(&from(WhichPod::None)), Err(Refused::NotAuthorized));
        let by_address = network(&["10.0.0.0/8"], &[]);
        assert_eq!(
            by_address.admit(&from(WhichPod::NotYet)),
            Err(Refused::NotAuthorized)
        );
        assert_eq!(
            (Refused::NotAuthorized.kind(), Refused::NotYet.kind()),
            (Kind::Denied, Kind::Unavailable)
        );
    }
}
