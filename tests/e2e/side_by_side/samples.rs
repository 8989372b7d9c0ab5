//! What a newcomer tries first: the samples, `kubectl explain`, `kubectl get`.

use crate::e2e::harness::{kubectl, tenant};

#[test]
#[ignore = "needs a cluster"]
fn every_sample_applies_and_becomes_ready() {
    let tenant = tenant("every_sample_applies_and_becomes_ready");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    tenant.kubectl(&["apply", "-f", samples]).ok();
    for kind in [
        "vaults.strongroom.dev",
        "accesspolicies.strongroom.dev",
        "networkrules.strongroom.dev",
        "vaultsecrets.strongroom.dev",
    ] {
        tenant
            .kubectl(&["wait", "--for=condition=Ready", "--timeout=30s", "--all", kind])
            .ok();
        println!("{}", tenant.kubectl(&["get", kind]).ok());
    }
}

#[test]
#[ignore = "needs a cluster"]
fn kubectl_explain_has_a_text_for_every_field() {
    for kind in [
        "vaults",
        "accesspolicies",
        "networkrules",
        "vaultsecrets",
        "sealedrecords",
        "deletedvaults",
    ] {
        let said = kubectl(
            &["get", "crd", &format!("{kind}.strongroom.dev"), "-o", "json"],
            None,
        )
        .ok();
        let crd: serde_json::Value = serde_json::from_str(&said).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut silent = Vec::new();
        without_description(schema, kind, &mut silent);
        assert!(silent.is_empty(), "kubectl explain says nothing of {silent:?}");
        let explained = kubectl(
            &["explain", &format!("{kind}.strongroom.dev"), "--recursive"],
            None,
        )
        .ok();
        assert!(explained.contains("KIND:"), "{explained}");
    }
}

fn without_description(schema: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
    let given = ["apiVersion", "kind", "metadata"];
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if given.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            silent.push(path.clone());
        }
        without_description(field, &path, silent);
        without_description(&field["items"], &path, silent);
    }
}
