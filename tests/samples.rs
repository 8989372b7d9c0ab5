//! The samples of `manifests/` say what this version understands; that they become ready is shown on the cluster.
#![allow(clippy::unwrap_used)]

use strongroom::compile;
use strongroom::model::Uid;

fn read(name: &str) -> compile::Documents {
    let path = format!("{}/manifests/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    compile::documents(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_sample_is_understood_whole() {
    let namespace = Uid::new("n");
    let vault = compile::vault(&read("vault").vaults[0], &namespace).unwrap();
    let policies = read("access-policy").policies;
    let compiled = compile::policies(&vault.id, &policies.iter().collect::<Vec<_>>());
    assert_eq!(compiled.findings.len(), policies.len());
    for finding in compiled.findings {
        assert_eq!(
            (finding.granting, finding.not_understood),
            (1, vec![]),
            "{}",
            finding.name
        );
    }
    let rules = read("network-rule").rules;
    let compiled = compile::network_rules(&vault.id, &rules.iter().collect::<Vec<_>>());
    assert_eq!(compiled.findings.len(), 1);
    for finding in compiled.findings {
        assert_eq!(
            (finding.cidrs, finding.pods, finding.not_understood),
            (2, 2, vec![]),
            "{}",
            finding.name
        );
    }
    for secret in read("secret").secrets {
        assert_eq!(compile::secret(&secret, &namespace).unwrap().vault, vault.id);
    }
    assert_eq!(read("consumer").others, 2);
}
