//! What becomes of a vault whose Vault is deleted.

use std::time::Duration;

use serde_json::Value;

use crate::e2e::harness::{Tenant, eventually, kubectl, tenant};

/// The DeletedVault of the tenant's vault, once it is told whole.
#[track_caller]
pub(in crate::e2e) fn deleted_vault(tenant: &Tenant) -> Value {
    eventually("the vault is shown as deleted", Duration::from_secs(45), || {
        let all = kubectl(&["get", "deletedvaults", "-o", "json"], None).ok();
        let all: Value = serde_json::from_str(&all).unwrap();
        let mut items = all.get("items").and_then(Value::as_array).unwrap().iter();
        items
            .find(|item| item.pointer("/status/namespace") == Some(&Value::from(tenant.namespace.as_str())))
            .cloned()
    })
}

pub(in crate::e2e) fn name(deleted: &Value) -> String {
    let name = deleted.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap().to_owned()
}

#[track_caller]
pub(in crate::e2e) fn is_gone(deleted: &str) {
    eventually(
        "the DeletedVault is gone",
        Duration::from_secs(45),
        || match kubectl(&["get", "deletedvault", deleted], None) {
            said if said.success => None,
            said => said.stderr.contains("NotFound").then_some(()),
        },
    );
}

/// What kubectl is told, so that a deleted vault is purged.
pub(in crate::e2e) fn order_to_purge(deleted: &str) -> [&str; 6] {
    [
        "patch",
        "deletedvault",
        deleted,
        "--type=merge",
        "-p",
        r#"{"spec":{"purge":true}}"#,
    ]
}

/// The vault again, as it was applied first.
#[track_caller]
pub(in crate::e2e) fn apply_again(tenant: &Tenant, spec: &str) {
    let yaml =
        format!("apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: demo}}\nspec: {spec}\n");
    tenant.apply(&yaml).ok();
    tenant.ready("vaults.strongroom.dev/demo");
}

#[test]
#[ignore = "needs a cluster"]
fn a_vault_whose_resource_is_deleted_is_kept_and_comes_back_with_all_that_is_in_it() {
    let tenant = tenant("a_vault_whose_resource_is_deleted_is_kept");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let set = "one = client.set_secret('pw', 'one')\nclient.set_secret('pw', 'two')\nclient.set_secret('gone', 'x')\n\
               client.begin_delete_secret('gone').wait()\nprint(one.properties.version)";
    let first = tenant.python("client", set).ok();
    tenant
        .kubectl(&["delete", "vaults.strongroom.dev", "demo", "--wait=true"])
        .ok();

    let deleted = deleted_vault(&tenant);
    let status = deleted.get("status").unwrap();
    for (field, expected) in [
        ("vault", Value::from("demo")),
        ("secrets", Value::from(2)),
        ("purgeProtection", Value::from(false)),
    ] {
        assert_eq!(status.get(field), Some(&expected), "{field}");
    }
    let days = |field: &str| {
        let text = status.get(field).and_then(Value::as_str).unwrap();
        text.parse::<jiff::Timestamp>().unwrap().as_second()
    };
    assert_eq!(days("scheduledPurgeDate") - days("deletionDate"), 90 * 86_400);
    let described = kubectl(&["describe", "deletedvault", &name(&deleted)], None).ok();
    assert!(
        described.contains("to have it back with all that is in it"),
        "{described}"
    );
    let listed = kubectl(&["get", "deletedvault", &name(&deleted)], None).ok();
    assert!(listed.contains("Recoverable"), "{listed}");

    // Nothing but the vault's own name leads there, and that is gone.
    let ask = "import requests\ntry:\n    requests.get(url, verify=ca, timeout=5)\n    print('answered')\n\
               except requests.exceptions.ConnectionError:\n    print('nobody')";
    eventually("its address is gone", Duration::from_secs(40), || {
        let said = tenant.python("client", ask).ok();
        said.trim_end().ends_with("nobody").then_some(())
    });

    apply_again(&tenant, "{}");
    let read = format!(
        "assert client.get_secret('pw').value == 'two'\nassert client.get_secret('pw', '{}').value == 'one'\n\
         assert [d.name for d in client.list_deleted_secrets()] == ['gone']\n\
         client.begin_recover_deleted_secret('gone').wait()\nassert client.get_secret('gone').value == 'x'\nprint('whole')",
        first.trim()
    );
    eventually("it answers", Duration::from_secs(40), || {
        let said = tenant.python("client", &read);
        (said.success && said.stdout.trim_end().ends_with("whole")).then_some(())
    });
    is_gone(&name(&deleted));
}

#[test]
#[ignore = "needs a cluster"]
fn to_purge_a_deleted_vault_takes_the_verb_purge_and_protection_holds_it_up() {
    let tenant = tenant("to_purge_a_deleted_vault_takes_the_verb_purge");
    apply_again(&tenant, "{purgeProtection: true}");
    tenant.kubectl(&["delete", "vaults.strongroom.dev", "demo"]).ok();
    let deleted = name(&deleted_vault(&tenant));
    // Somebody who may change them, and not purge.
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n\
         - {{apiGroups: [strongroom.dev], resources: [deletedvaults], verbs: [get, update, patch]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
         subjects: [{{kind: User, name: {name}, apiGroup: rbac.authorization.k8s.io}}]\n",
        name = tenant.namespace
    );
    kubectl(&["apply", "-f", "-"], Some(&role)).ok();
    let who = format!("--as={}", tenant.namespace);
    let order = order_to_purge(&deleted);
    let refused = eventually("the role counts", Duration::from_secs(10), || {
        let said = kubectl(&[&[who.as_str()], &order[..]].concat(), None).refused();
        said.contains("verb").then_some(said)
    });
    assert!(refused.contains("takes the verb 'purge' on it"), "{refused}");
    kubectl(
        &["delete", "clusterrole,clusterrolebinding", &tenant.namespace],
        None,
    )
    .ok();

    kubectl(&order, None).ok();
    eventually("it says that it is protected", Duration::from_secs(30), || {
        let path = "jsonpath={.status.conditions[?(@.type==\"PurgeRefused\")].message}";
        let said = kubectl(&["get", "deletedvault", &deleted, "-o", path], None).ok();
        said.contains("purge-protected").then_some(())
    });
    // To delete what stands for it changes nothing.
    kubectl(&["delete", "deletedvault", &deleted], None).ok();
    assert_eq!(name(&deleted_vault(&tenant)), deleted);
    apply_again(&tenant, "{}");
    let level = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let ready = tenant
        .kubectl(&["get", "vaults.strongroom.dev", "demo", "-o", level])
        .ok();
    assert_eq!(ready, "True");
}
