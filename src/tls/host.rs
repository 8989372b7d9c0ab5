//! Which hosts a listener has a certificate for. Pure.

use crate::model::{Namespace, VaultId, VaultName};

use super::ExternalDomain;

/// The Service of the internal listener.
const INTERNAL_SERVICE: &str = "strongroom-internal";
/// Parent domain of vaults on a laptop.
const LOOPBACK_VAULTS: &str = "vault.localhost";
/// Where `dev` listens; what a client that gives no server name is taken to ask for there.
const LOOPBACK_ADDRESS: &str = "127.0.0.1";

/// The hosts of one listener. Hosts are compared in lower case, as TLS hands them over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule(Rule);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Vaults {
        cluster_domain: String,
        external: Vec<ExternalDomain>,
    },
    Internal {
        namespace: Namespace,
        cluster_domain: String,
    },
    Loopback {
        namespace: Namespace,
    },
}

impl HostRule {
    /// The vaults' listener in a cluster: `<vault>.<namespace>.svc` and `<vault>.<namespace>.svc.<cluster domain>`. Whether there is
    /// such a vault is not asked: a certificate discloses nothing, and a client must be able to read its 404. Beside them,
    /// `<vault>.<domain>` for the vaults of the namespaces that these domains are assigned to.
    #[must_use]
    pub fn vaults(cluster_domain: &str, external: Vec<ExternalDomain>) -> Self {
        Self(Rule::Vaults {
            cluster_domain: folded(cluster_domain),
            external,
        })
    }

    /// The external domain right above this host, and the label before it.
    pub(super) fn external<'a>(&'a self, host: &'a str) -> Option<(&'a str, &'a ExternalDomain)> {
        let Rule::Vaults { external, .. } = &self.0 else {
            return None;
        };
        let (label, parent) = host.split_once('.')?;
        let domain = external.iter().find(|domain| domain.domain() == parent)?;
        Some((label, domain))
    }

    /// The internal listener in a cluster: `strongroom-internal.<release namespace>.svc`, and the same with the cluster domain.
    #[must_use]
    pub fn internal(release_namespace: &Namespace, cluster_domain: &str) -> Self {
        Self(Rule::Internal {
            namespace: release_namespace.clone(),
            cluster_domain: folded(cluster_domain),
        })
    }

    /// The listener of `dev`: `<vault>.vault.localhost` for the vaults of one namespace, `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn loopback(namespace: &Namespace) -> Self {
        Self(Rule::Loopback {
            namespace: namespace.clone(),
        })
    }

    /// Whether a certificate is made for this host.
    #[must_use]
    pub fn accepts(&self, host: &str) -> bool {
        match &self.0 {
            Rule::Vaults { .. } => self.vault(host).is_some(),
            Rule::Internal {
                namespace,
                cluster_domain,
            } => service(host, cluster_domain)
                .is_some_and(|(service, of)| service == INTERNAL_SERVICE && of == namespace.as_str()),
            Rule::Loopback { .. } => {
                matches!(host, "localhost" | LOOPBACK_ADDRESS) || self.vault(host).is_some()
            }
        }
    }

    /// The vault that this host addresses, if it is a vault's.
    #[must_use]
    pub fn vault(&self, host: &str) -> Option<VaultId> {
        let lower_case = |text: &str| !text.bytes().any(|b| b.is_ascii_uppercase());
        let (vault, namespace) = match &self.0 {
            Rule::Vaults { cluster_domain, .. } => match self.external(host) {
                Some((vault, domain)) => (vault, domain.namespace().clone()),
                None => {
                    let (vault, namespace) = service(host, cluster_domain)?;
                    (vault, Namespace::parse(namespace).ok()?)
                }
            },
            Rule::Loopback { namespace } => {
                let (vault, parent) = host.split_once('.')?;
                (parent == LOOPBACK_VAULTS).then(|| (vault, namespace.clone()))?
            }
            Rule::Internal { .. } => return None,
        };
        let name = VaultName::parse(vault).ok().filter(|_| lower_case(vault))?;
        Some(VaultId { namespace, name })
    }

    /// What a client is taken to ask for that gives no server name, as clients do that address an IP. None in a cluster.
    #[must_use]
    pub const fn without_name(&self) -> Option<&'static str> {
        match self.0 {
            Rule::Loopback { .. } => Some(LOOPBACK_ADDRESS),
            Rule::Vaults { .. } | Rule::Internal { .. } => None,
        }
    }

    /// What an authority must be permitted to sign for this rule, and no more than that: DNS subtrees and IP addresses.
    #[must_use]
    pub fn permitted(&self) -> Vec<String> {
        match &self.0 {
            Rule::Vaults { cluster_domain, .. } | Rule::Internal { cluster_domain, .. } => {
                vec!["svc".to_owned(), format!("svc.{cluster_domain}")]
            }
            Rule::Loopback { .. } => vec!["localhost".to_owned(), LOOPBACK_ADDRESS.to_owned()],
        }
    }
}

pub(super) fn folded(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

/// Service and namespace of `<service>.<namespace>.svc[.<cluster domain>]`.
fn service<'a>(host: &'a str, cluster_domain: &str) -> Option<(&'a str, &'a str)> {
    let (service, rest) = host.split_once('.')?;
    let (namespace, suffix) = rest.split_once('.')?;
    let domain = suffix.strip_prefix("svc")?;
    let ours = domain.is_empty()
        || domain
            .strip_prefix('.')
            .is_some_and(|domain| domain == cluster_domain);
    ours.then_some((service, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> [HostRule; 3] {
        let namespace = |text| Namespace::parse(text).unwrap();
        [
            HostRule::vaults("cluster.local", Vec::new()),
            HostRule::internal(&namespace("strongroom-system"), "Cluster.Local."),
            HostRule::loopback(&namespace("dev")),
        ]
    }

    #[test]
    fn each_listener_has_certificates_for_its_own_hosts_and_no_others() {
        for (host, accepted) in [
            ("demo.team.svc", [true, false, false]),
            ("demo.team.svc.cluster.local", [true, false, false]),
            ("a-vault.kube-system.svc", [true, false, false]),
            ("strongroom-internal.strongroom-system.svc", [true, true, false]),
            (
                "strongroom-internal.strongroom-system.svc.cluster.local",
                [true, true, false],
            ),
            ("strongroom-internal.other.svc", [true, false, false]),
            ("strongroom-other.strongroom-system.svc", [true, false, false]),
            ("demo.vault.localhost", [false, false, true]),
            ("localhost", [false, false, true]),
            ("127.0.0.1", [false, false, true]),
            ("127.0.0.2", [false; 3]),
            ("::1", [false; 3]),
            ("demo.localhost", [false; 3]),
            ("vault.localhost", [false; 3]),
            ("x.demo.vault.localhost", [false; 3]),
            ("", [false; 3]),
            (".", [false; 3]),
            ("svc", [false; 3]),
            ("team.svc", [false; 3]),
            (".team.svc", [false; 3]),
            ("demo..svc", [false; 3]),
            ("demo.team.svc.", [false; 3]),
            ("demo.team.svc.cluster.local.", [false; 3]),
            ("x.demo.team.svc", [false; 3]),
            ("demo.team.svcs", [false; 3]),
            ("demo.team.svc.example.com", [false; 3]),
            ("demo.team.svc.cluster.local.example.com", [false; 3]),
            ("demo.team.svccluster.local", [false; 3]),
            ("demo.team.pod", [false; 3]),
            ("*.team.svc", [false; 3]),
            ("ab.team.svc", [false; 3]),
            ("1abc.team.svc", [false; 3]),
            ("DEMO.team.svc", [false; 3]),
            ("demo.Team.svc", [false; 3]),
            ("demo.team.SVC", [false; 3]),
            ("demo.-team.svc", [false; 3]),
            ("demo.vault.azure.net", [false; 3]),
            ("example.com", [false; 3]),
        ] {
            assert_eq!(rules().map(|rule| rule.accepts(host)), accepted, "{host}");
        }
    }

    #[test]
    fn a_host_tells_its_vault() {
        let [vaults, internal, loopback] = rules();
        for host in ["demo.team.svc", "demo.team.svc.cluster.local"] {
            assert_eq!(vaults.vault(host).unwrap().to_string(), "team/demo");
        }
        assert_eq!(
            loopback.vault("demo.vault.localhost").unwrap().to_string(),
            "dev/demo"
        );
        assert_eq!(loopback.vault("localhost"), None);
        assert_eq!(internal.vault("strongroom-internal.strongroom-system.svc"), None);
    }

    #[test]
    fn a_host_under_an_assigned_domain_is_a_vault_of_its_namespace_and_no_others() {
        let domains = ["vaults.example.com=shop", "eu.vaults.example.com=shop-eu"].map(str::to_owned);
        let domains = ExternalDomain::parse_all(&domains, "cluster.local").unwrap();
        let rule = HostRule::vaults("cluster.local", domains);
        for (host, vault) in [
            ("demo.vaults.example.com", Some("shop/demo")),
            ("demo.eu.vaults.example.com", Some("shop-eu/demo")),
            ("demo.team.svc", Some("team/demo")),
            ("demo.shop.svc.cluster.local", Some("shop/demo")),
            ("vaults.example.com", None),
            ("ab.vaults.example.com", None),
            ("Demo.vaults.example.com", None),
            ("x.demo.vaults.example.com", None),
            ("demo.vaults.example.com.", None),
            ("demo.other.example.com", None),
            ("demo.shop.vaults.example.com", None),
        ] {
            let found = rule.vault(host).map(|id| id.to_string());
            assert_eq!(found.as_deref(), vault, "{host}");
            assert_eq!(rule.accepts(host), vault.is_some(), "{host}");
        }
        assert_eq!(
            rule.permitted(),
            HostRule::vaults("cluster.local", Vec::new()).permitted()
        );
    }

    #[test]
    fn only_on_a_laptop_may_a_client_give_no_name() {
        assert_eq!(
            rules().map(|rule| rule.without_name()),
            [None, None, Some("127.0.0.1")]
        );
    }

    proptest! {
        #[test]
        fn no_host_makes_a_rule_panic(host in "\\PC{0,100}", labels in proptest::collection::vec("[a-z0-9.-]{0,12}|svc", 0..6)) {
            for rule in rules() {
                for host in [&host, &labels.join(".")] {
                    let _ = (rule.accepts(host), rule.vault(host));
                }
            }
        }
    }
}
