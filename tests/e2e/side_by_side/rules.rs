//! What the schemas refuse, on the real API server: it alone knows its rules and what they may cost.

use crate::e2e::harness::tenant;

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: strongroom.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[test]
#[ignore = "needs a cluster"]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let tenant = tenant("what_makes_no_sense_is_refused");
    let policy = |subjects: &str, secrets: &str| {
        format!("{{vaultRef: demo, subjects: [{subjects}], permissions: {{secrets: [{secrets}]}}}}")
    };
    let account = "{kind: ServiceAccount, name: app}";
    let many = format!(
        "{{vaultRef: demo, generate: {{}}, contentType: {}}}",
        "x".repeat(256)
    );
    let cases = [
        ("Vault", "ab", "{}", "3 to 24 characters"),
        ("Vault", "a--b", "{}", "3 to 24 characters"),
        ("Vault", "1abc", "{}", "3 to 24 characters"),
        ("Vault", "abcdefghijklmnopqrstuvwxy", "{}", "3 to 24 characters"),
        (
            "Vault",
            "abc",
            "{softDelete: {retentionDays: 6}}",
            "greater than or equal to 7",
        ),
        (
            "Vault",
            "abc",
            "{softDelete: {retentionDays: 91}}",
            "less than or equal to 90",
        ),
        (
            "Vault",
            "abc",
            "{outsideValidity: Sometimes}",
            "Unsupported value",
        ),
        ("Vault", "abc", "{sku: Premium}", "unknown field"),
        (
            "Vault",
            "abc",
            "{network: {defaultAction: deny}}",
            "Unsupported value",
        ),
        (
            "Vault",
            "abc",
            "{network: {bypass: AzureServices}}",
            "Unsupported value",
        ),
        ("NetworkRule", "abc", "{}", "Required value"),
        ("NetworkRule", "abc", "{vaultRef: Demo}", "should match"),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, cidrs: [example.com]}",
            "should match",
        ),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, cidrs: [10.0.0.1, 10.0.0.1]}",
            "Duplicate value",
        ),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, pods: [{}]}",
            "a podSelector, a namespaceSelector or both",
        ),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, pods: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}",
            "In and NotIn have values",
        ),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, pods: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}",
            "In and NotIn have values",
        ),
        (
            "NetworkRule",
            "abc",
            "{vaultRef: demo, pods: [{podSelector: {matchExpressions: [{key: a, operator: Gt, values: [b]}]}}]}",
            "Unsupported value",
        ),
        (
            "AccessPolicy",
            "abc",
            &policy("{kind: User, name: app}", "get"),
            "ServiceAccount",
        ),
        (
            "AccessPolicy",
            "abc",
            &policy(account, "sign"),
            "Unsupported value",
        ),
        ("AccessPolicy", "abc", &policy("", "get"), "at least 1 items"),
        (
            "AccessPolicy",
            "abc",
            &policy(&format!("{account}, {account}"), "get"),
            "Duplicate value",
        ),
        (
            "AccessPolicy",
            "abc",
            &policy(account, "get").replace("demo", "Demo"),
            "should match",
        ),
        (
            "Secret",
            "a.b",
            "{vaultRef: demo, generate: {}}",
            "spec.objectName",
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: demo, objectName: a/b, generate: {}}",
            "should match",
        ),
        ("Secret", "abc", "{vaultRef: demo}", "Required value"),
        (
            "Secret",
            "abc",
            "{vaultRef: demo, generate: {length: 15}}",
            "greater than or equal to 16",
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: demo, generate: {length: 1025}}",
            "less than or equal to 1024",
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: demo, generate: {alphabet: Emoji}}",
            "Unsupported value",
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: demo, generate: {}, deletionPolicy: Purge}",
            "Unsupported value",
        ),
        ("Secret", "abc", &many, "may not be more than 255"),
    ];
    for (kind, name, spec, expected) in cases {
        let refused = tenant.apply(&resource(kind, name, spec)).refused();
        assert!(refused.contains(expected), "{kind} {name} {spec}: {refused}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn what_can_not_change_is_refused_and_the_rest_is_taken() {
    let tenant = tenant("what_can_not_change_is_refused");
    let steps = [
        ("Vault", "one", "{}", None),
        ("Vault", "one", "{softDelete: {retentionDays: 90}}", None),
        (
            "Vault",
            "one",
            "{softDelete: {retentionDays: 30}}",
            Some("can't be changed"),
        ),
        ("Vault", "two", "{softDelete: {retentionDays: 7}}", None),
        ("Vault", "two", "{}", Some("can't be changed")),
        ("Vault", "three", "{purgeProtection: false}", None),
        ("Vault", "three", "{purgeProtection: true}", None),
        (
            "Vault",
            "three",
            "{purgeProtection: false}",
            Some("can't be switched off"),
        ),
        ("Vault", "three", "{}", Some("can't be switched off")),
        ("Secret", "abc", "{vaultRef: one, generate: {length: 20}}", None),
        (
            "Secret",
            "abc",
            "{vaultRef: one, generate: {length: 21}}",
            Some("generated once"),
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: two, generate: {length: 20}}",
            Some("generated once"),
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: one, objectName: x, generate: {length: 20}}",
            Some("generated once"),
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: one, contentType: x, generate: {length: 20}}",
            Some("generated once"),
        ),
        (
            "Secret",
            "abc",
            "{vaultRef: one, deletionPolicy: Retain, generate: {length: 20}}",
            None,
        ),
    ];
    for (kind, name, spec, expected) in steps {
        let said = tenant.apply(&resource(kind, name, spec));
        match expected {
            None => {
                said.ok();
            }
            Some(expected) => {
                let refused = said.refused();
                assert!(refused.contains(expected), "{kind} {name} {spec}: {refused}");
            }
        }
    }
}
