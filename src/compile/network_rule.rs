//! The `NetworkRule` resources of one vault -> [`VaultNetwork`], and what each of them amounts to.

use super::{Unusable, exact_vault_name, namespace};
use crate::crd;
use crate::model::{Namespace, Uid, VaultId};
use crate::network::{Cidr, Namespaces, PodTerm, Requirement, Selector, VaultNetwork};

/// Azure Key Vault's limit of IP rules of a vault ("Azure Key Vault service limits").
pub const MAX_CIDRS: usize = 1000;

/// Azure Key Vault's limit of virtual network rules of a vault.
pub const MAX_POD_SELECTIONS: usize = 200;

/// The network rules of one vault, compiled.
#[derive(Debug)]
pub struct CompiledNetwork {
    /// What requests are judged by.
    pub network: VaultNetwork,
    /// One for each rule of the vault, the oldest first.
    pub findings: Vec<NetworkFinding>,
}

/// What one `NetworkRule` amounts to; from it `operate` writes its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFinding {
    /// Name of the rule.
    pub name: String,
    /// Its UID.
    pub uid: Uid,
    /// How many of its CIDRs let somebody in.
    pub cidrs: usize,
    /// How many of its entries of pods let somebody in.
    pub pods: usize,
    /// How many CIDRs and entries are beyond the vault's limit and so let nobody in.
    pub beyond_limit: usize,
    /// What was not understood and lets nobody in: paths of fields, such as `spec.cidrs[1]`, and why.
    pub not_understood: Vec<String>,
}

/// The vault that a rule is about.
///
/// # Errors
/// [`Unusable`]: it lets nobody in.
pub fn ruled_vault(rule: &crd::NetworkRule) -> Result<VaultId, Unusable> {
    if rule.metadata.deletion_timestamp.is_some() {
        return Err(Unusable::Deleting);
    }
    Ok(VaultId {
        namespace: namespace(rule.metadata.namespace.as_deref())?,
        name: exact_vault_name("spec.vaultRef", &rule.spec.vault_ref)?,
    })
}

/// Compiles those of `rules` that are about `vault`; the order given does not matter.
///
/// Beyond [`MAX_CIDRS`] and [`MAX_POD_SELECTIONS`], in the order of the rules' creation time and then UID, entries let
/// nobody in.
#[must_use]
pub fn network_rules(vault: &VaultId, rules: &[&crd::NetworkRule]) -> CompiledNetwork {
    let mut ours: Vec<_> = rules
        .iter()
        .filter(|rule| ruled_vault(rule).is_ok_and(|id| id == *vault))
        .filter_map(|rule| {
            let uid = rule.metadata.uid.as_deref()?;
            let created = rule.metadata.creation_timestamp.as_ref().map(|time| time.0);
            Some(((created, uid), *rule))
        })
        .collect();
    ours.sort_by_key(|(age, _)| *age);

    let (mut cidr_room, mut pod_room) = (MAX_CIDRS, MAX_POD_SELECTIONS);
    let (mut blocks, mut terms) = (Vec::new(), Vec::new());
    let findings = ours
        .into_iter()
        .map(|((_, uid), rule)| {
            let mut read = Read::of(&vault.namespace, rule);
            let beyond = read.fit(rule, &mut cidr_room, &mut pod_room);
            let finding = NetworkFinding {
                name: rule.metadata.name.clone().unwrap_or_default(),
                uid: Uid::new(uid),
                cidrs: read.blocks.len(),
                pods: read.terms.len(),
                beyond_limit: beyond,
                not_understood: read.not_understood,
            };
            blocks.extend(read.blocks.into_iter().map(|(_, block)| block));
            terms.extend(read.terms.into_iter().map(|(_, term)| term));
            finding
        })
        .collect();
    CompiledNetwork {
        network: VaultNetwork::new(blocks, terms),
        findings,
    }
}

/// What one rule says, each entry with its position.
#[derive(Default)]
struct Read {
    blocks: Vec<(usize, Cidr)>,
    terms: Vec<(usize, PodTerm)>,
    not_understood: Vec<String>,
}

impl Read {
    fn of(namespace: &Namespace, rule: &crd::NetworkRule) -> Self {
        let spec = &rule.spec;
        let mut read = Self {
            not_understood: spec.unknown.keys().map(|key| format!("spec.{key}")).collect(),
            ..Self::default()
        };
        let narrowed = !read.not_understood.is_empty();
        for (position, text) in spec.cidrs.iter().enumerate() {
            match text.parse() {
                Ok(block) if !narrowed => read.blocks.push((position, block)),
                Ok(_) => {}
                Err(invalid) => read
                    .not_understood
                    .push(format!("spec.cidrs[{position}] ({invalid})")),
            }
        }
        for (position, selection) in spec.pods.iter().enumerate() {
            match term(namespace, selection) {
                Ok(term) if !narrowed => read.terms.push((position, term)),
                Ok(_) => {}
                Err(why) => read.not_understood.push(format!("spec.pods[{position}] ({why})")),
            }
        }
        read
    }

    /// Leaves out what is beyond the room that is left, and says how much that is.
    fn fit(&mut self, rule: &crd::NetworkRule, cidr_room: &mut usize, pod_room: &mut usize) -> usize {
        let (cidrs, pods) = (rule.spec.cidrs.len(), rule.spec.pods.len());
        let (cidrs_fit, pods_fit) = (cidrs.min(*cidr_room), pods.min(*pod_room));
        *cidr_room -= cidrs_fit;
        *pod_room -= pods_fit;
        self.blocks.retain(|(position, _)| *position < cidrs_fit);
        self.terms.retain(|(position, _)| *position < pods_fit);
        cidrs - cidrs_fit + pods - pods_fit
    }
}

/// Which pods an entry lets in, or why none.
fn term(own: &Namespace, selection: &crd::PodSelection) -> Result<PodTerm, String> {
    const NEWER: &str = "it has fields of a newer schema";
    if !selection.unknown.is_empty() {
        return Err(NEWER.to_owned());
    }
    let namespaces = match (&selection.namespace_selector, &selection.pod_selector) {
        (None, None) => return Err("it has neither a podSelector nor a namespaceSelector".to_owned()),
        (None, Some(_)) => Namespaces::Own(own.clone()),
        (Some(labels), _) => Namespaces::Labelled(selector(labels, NEWER)?),
    };
    let pods = match &selection.pod_selector {
        None => Selector::default(),
        Some(labels) => selector(labels, NEWER)?,
    };
    Ok(PodTerm { namespaces, pods })
}

fn selector(labels: &crd::LabelSelector, newer: &str) -> Result<Selector, String> {
    let known = labels.unknown.is_empty() && labels.match_expressions.iter().all(|it| it.unknown.is_empty());
    if !known {
        return Err(newer.to_owned());
    }
    let equal = labels
        .match_labels
        .iter()
        .map(|(key, value)| Requirement::new(key, "In", std::slice::from_ref(value)));
    let expressions = labels
        .match_expressions
        .iter()
        .map(|it| Requirement::new(&it.key, &it.operator, &it.values));
    equal
        .chain(expressions)
        .collect::<Result<_, _>>()
        .map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::compile::documents;
    use crate::model::{Labels, VaultName};
    use crate::network::{From, Way, WhichPod};

    fn vault() -> VaultId {
        VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        }
    }

    fn rule(name: &str, created: u32, spec: &str) -> crd::NetworkRule {
        let yaml = format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: NetworkRule\nmetadata: {{name: {name}, namespace: shop, uid: \
             uid-{name}, creationTimestamp: '2026-11-22T10:{:02}:{:02}Z'}}\nspec: {spec}",
            created / 60,
            created % 60,
        );
        documents(&yaml).unwrap().rules.remove(0)
    }

    fn compiled(spec: &str) -> CompiledNetwork {
        network_rules(&vault(), &[&rule("a", 0, &format!("{{vaultRef: demo, {spec}}}"))])
    }

    fn lets_in(network: &VaultNetwork, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        network
            .admit(&From {
                way: Way::Connection,
                addresses: &[address],
                pod: WhichPod::None,
            })
            .is_ok()
    }

    /// Whether a pod of that namespace is let in whose labels, and whose namespace's, are these.
    fn lets_in_pod(network: &VaultNetwork, namespace: &str, team: &str, app: &str) -> bool {
        let labels = |key: &str, value: &str| [(key, value)].into_iter().collect::<Labels>();
        network
            .admit(&From {
                way: Way::Connection,
                addresses: &[],
                pod: WhichPod::Known {
                    namespace: &Namespace::parse(namespace).unwrap(),
                    namespace_labels: &labels("team", team),
                    labels: &labels("app", app),
                },
            })
            .is_ok()
    }

    #[test]
    fn a_rule_lets_in_the_addresses_that_it_names() {
        let compiled = compiled("cidrs: [203.0.113.0/24, '2001:db8::7']");
        assert_eq!(
            compiled.findings,
            [NetworkFinding {
                name: "a".to_owned(),
                uid: Uid::new("uid-a"),
                cidrs: 2,
                pods: 0,
                beyond_limit: 0,
                not_understood: vec![]
            }]
        );
        for (address, inside) in [
            ("203.0.113.9", true),
            ("::ffff:203.0.113.9", true),
            ("2001:db8::7", true),
            ("203.0.114.9", false),
            ("2001:db8::8", false),
        ] {
            assert_eq!(lets_in(&compiled.network, address), inside, "{address}");
        }
    }

    #[test]
    fn an_entry_of_pods_means_what_it_means_in_a_network_policy() {
        // Whether it lets in: shop/web of team a, shop/db of team a, other/web of team b.
        for (entry, expected) in [
            ("{podSelector: {}}", [true, true, false]),
            ("{podSelector: {matchLabels: {app: web}}}", [true, false, false]),
            ("{namespaceSelector: {}}", [true, true, true]),
            (
                "{namespaceSelector: {matchLabels: {team: b}}}",
                [false, false, true],
            ),
            (
                "{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}",
                [true, false, true],
            ),
            (
                "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}}",
                [true, false, false],
            ),
            (
                "{podSelector: {matchExpressions: [{key: nope, operator: DoesNotExist}]}}",
                [true, true, false],
            ),
            (
                "{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [b, c]}]}}",
                [false, false, true],
            ),
            (
                "{podSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [db]}]}}",
                [false, false, false],
            ),
        ] {
            let compiled = compiled(&format!("pods: [{entry}]"));
            let seen = [("shop", "a", "web"), ("shop", "a", "db"), ("other", "b", "web")]
                .map(|(namespace, team, app)| lets_in_pod(&compiled.network, namespace, team, app));
            assert_eq!(seen, expected, "{entry}");
            assert_eq!(compiled.findings[0].pods, 1, "{entry}");
        }
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in_and_is_named() {
        for (spec, path) in [
            ("cidrs: [10.0.0.0/8], until: tomorrow", "spec.until"),
            (
                "cidrs: [10.0.0.1/8]",
                "spec.cidrs[0] (the address has bits beyond",
            ),
            ("cidrs: ['*']", "spec.cidrs[0] (it is no IPv4"),
            ("pods: [{}]", "spec.pods[0] (it has neither"),
            (
                "pods: [{podSelector: {}, ports: [443]}]",
                "spec.pods[0] (it has fields of a newer",
            ),
            (
                "pods: [{podSelector: {matchFields: []}}]",
                "spec.pods[0] (it has fields of a newer",
            ),
            (
                "pods: [{namespaceSelector: {matchExpressions: [{key: team, operator: Exists, x: y}]}}]",
                "spec.pods[0] (it has fields of a newer",
            ),
            (
                "pods: [{podSelector: {matchExpressions: [{key: app, operator: Gt, values: ['1']}]}}]",
                "spec.pods[0] (the operator is not",
            ),
            (
                "pods: [{podSelector: {matchExpressions: [{key: app, operator: NotIn}]}}]",
                "spec.pods[0] (In and NotIn have values",
            ),
            (
                "pods: [{podSelector: {matchLabels: {'a b': web}}}]",
                "spec.pods[0] (the key",
            ),
        ] {
            let compiled = compiled(spec);
            let finding = &compiled.findings[0];
            assert_eq!((finding.cidrs, finding.pods), (0, 0), "{spec}");
            assert_eq!(finding.not_understood.len(), 1, "{spec}");
            assert!(finding.not_understood[0].starts_with(path), "{spec}: {finding:?}");
            assert!(!lets_in(&compiled.network, "10.0.0.7"), "{spec}");
            assert!(!lets_in_pod(&compiled.network, "shop", "a", "web"), "{spec}");
        }
    }

    #[test]
    fn what_is_understood_beside_it_counts() {
        let compiled = compiled("cidrs: [bad, 10.0.0.0/8], pods: [{}, {podSelector: {}}]");
        let finding = &compiled.findings[0];
        assert_eq!(
            (finding.cidrs, finding.pods, finding.not_understood.len()),
            (1, 1, 2)
        );
        assert!(lets_in(&compiled.network, "10.0.0.7"));
    }

    #[test]
    fn a_rule_of_another_vault_or_one_being_deleted_lets_nobody_in() {
        const ALL: &str = "{vaultRef: demo, cidrs: [0.0.0.0/0]}";
        let mut deleting = rule("a", 0, ALL);
        deleting.metadata.deletion_timestamp = deleting.metadata.creation_timestamp.clone();
        let mut elsewhere = rule("b", 0, ALL);
        elsewhere.metadata.namespace = Some("other".to_owned());
        let mut folded = rule("c", 0, ALL);
        folded.spec.vault_ref = "Demo".to_owned();
        let mut other = rule("d", 0, ALL);
        other.spec.vault_ref = "demo2".to_owned();
        let compiled = network_rules(&vault(), &[&deleting, &elsewhere, &folded, &other]);
        assert_eq!(compiled.findings, []);
        assert!(!lets_in(&compiled.network, "10.0.0.7"));
    }

    fn crowd(name: &str, created: u32, net: usize, cidrs: usize, pods: usize) -> crd::NetworkRule {
        let mut rule = rule(name, created, "{vaultRef: demo, pods: [{podSelector: {}}]}");
        let entry = rule.spec.pods.remove(0);
        rule.spec.cidrs = (0..cidrs)
            .map(|number| format!("10.{net}.{}.{}", number / 256, number % 256))
            .collect();
        rule.spec.pods = vec![entry; pods];
        rule
    }

    #[test]
    fn beyond_a_thousand_cidrs_and_two_hundred_entries_the_youngest_let_nobody_in() {
        let (old, young) = (
            crowd("old", 1, 1, MAX_CIDRS - 1, MAX_POD_SELECTIONS),
            crowd("young", 2, 2, 3, 1),
        );
        for order in [[&old, &young], [&young, &old]] {
            let compiled = network_rules(&vault(), &order);
            let seen: Vec<_> = compiled
                .findings
                .iter()
                .map(|it| (it.name.as_str(), it.cidrs, it.pods, it.beyond_limit))
                .collect();
            assert_eq!(
                seen,
                [("old", MAX_CIDRS - 1, MAX_POD_SELECTIONS, 0), ("young", 1, 0, 3)]
            );
            assert!(lets_in(&compiled.network, "10.2.0.0"));
            assert!(!lets_in(&compiled.network, "10.2.0.1"));
        }
    }

    #[test]
    fn of_rules_made_in_the_same_second_the_uid_decides() {
        let (a, b) = (crowd("a", 1, 1, MAX_CIDRS, 0), crowd("b", 1, 2, 1, 0));
        let compiled = network_rules(&vault(), &[&b, &a]);
        let last = compiled.findings.last().unwrap();
        assert_eq!((last.name.as_str(), last.beyond_limit), ("b", 1));
    }

    proptest! {
        #[test]
        fn the_order_in_which_rules_arrive_changes_nothing(
            sizes in prop::collection::vec((0_usize..400, 0_usize..90), 1..5),
            turn in 0_usize..5,
        ) {
            let made: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(number, (cidrs, pods))| {
                    crowd(&format!("r{number}"), (number % 3) as u32, number, *cidrs, *pods)
                })
                .collect();
            let mut order: Vec<_> = made.iter().collect();
            let straight = network_rules(&vault(), &order).findings;
            order.rotate_left(turn % made.len());
            prop_assert_eq!(&network_rules(&vault(), &order).findings, &straight);
            prop_assert!(straight.iter().map(|it| it.cidrs).sum::<usize>() <= MAX_CIDRS);
            prop_assert!(straight.iter().map(|it| it.pods).sum::<usize>() <= MAX_POD_SELECTIONS);
        }
    }
}
