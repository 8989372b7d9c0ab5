//! What the operator makes of custom resources, and what it says of those that it can't make true.

use std::time::Duration;

use crate::e2e::harness::{Tenant, eventually, tenant};

fn secret(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {{name: {name}}}\nspec: {{vaultRef: demo, {spec}}}\n"
    )
}

/// Waits until a condition has a status, and gives its message.
fn condition(tenant: &Tenant, resource: &str, condition: &str, status: &str) -> String {
    eventually(
        &format!("{resource} {condition}={status}"),
        Duration::from_secs(20),
        || {
            let path = format!(
                "jsonpath={{.status.conditions[?(@.type==\"{condition}\")].status}}|{{.status.conditions[?(@.type==\"{condition}\")].message}}"
            );
            let said = tenant.kubectl(&["get", resource, "-o", &path]).ok();
            said.strip_prefix(&format!("{status}|")).map(str::to_owned)
        },
    )
}

#[test]
#[ignore = "needs a cluster"]
fn a_service_that_is_not_ours_is_told_and_left_alone() {
    let tenant = tenant("a_service_that_is_not_ours");
    tenant
        .kubectl(&[
            "create",
            "service",
            "externalname",
            "demo",
            "--external-name=theirs.example",
        ])
        .ok();
    tenant
        .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo}\nspec: {}\n")
        .ok();
    let message = condition(&tenant, "vault/demo", "Conflict", "True");
    println!("{message}");
    assert!(
        message.contains("the Service 'demo' of this namespace is not Strongroom's"),
        "{message}"
    );
    condition(&tenant, "vault/demo", "Ready", "False");
    let target = tenant
        .kubectl(&["get", "service", "demo", "-o", "jsonpath={.spec.externalName}"])
        .ok();
    assert_eq!(target, "theirs.example");
}

#[test]
#[ignore = "needs a cluster"]
fn the_trust_bundle_comes_to_every_namespace_and_comes_back_when_it_is_deleted_or_changed() {
    let tenant = tenant("the_trust_bundle_comes_to_every_namespace");
    let bundle = || {
        tenant
            .kubectl(&[
                "get",
                "configmap",
                "strongroom-ca",
                "-o",
                "jsonpath={.data.ca\\.crt}",
            ])
            .stdout
    };
    let there = || {
        eventually("the trust bundle", Duration::from_secs(10), || {
            Some(bundle()).filter(|pem| pem.contains("BEGIN CERTIFICATE"))
        })
    };
    let pem = there();
    tenant.kubectl(&["delete", "configmap", "strongroom-ca"]).ok();
    assert_eq!(there(), pem);
    tenant
        .kubectl(&[
            "patch",
            "configmap",
            "strongroom-ca",
            "--type=merge",
            "-p",
            r#"{"data":{"ca.crt":"mine"}}"#,
        ])
        .ok();
    assert_eq!(there(), pem);
}

#[test]
#[ignore = "needs a cluster"]
fn a_vaults_service_comes_back_and_goes_with_it() {
    let tenant = tenant("a_vaults_service_comes_back");
    tenant.vault(&["get"]);
    let target = || {
        tenant
            .kubectl(&["get", "service", "demo", "-o", "jsonpath={.spec.externalName}"])
            .stdout
    };
    let ours = "strongroom.strongroom-system.svc.cluster.local";
    assert_eq!(target(), ours);
    tenant.kubectl(&["delete", "service", "demo"]).ok();
    eventually("the Service again", Duration::from_secs(10), || {
        (target() == ours).then_some(())
    });
    tenant
        .kubectl(&[
            "patch",
            "service",
            "demo",
            "--type=merge",
            "-p",
            r#"{"spec":{"externalName":"evil.example"}}"#,
        ])
        .ok();
    eventually("the Service mended", Duration::from_secs(10), || {
        (target() == ours).then_some(())
    });
    tenant.kubectl(&["delete", "vault", "demo"]).ok();
    eventually("the Service gone", Duration::from_secs(20), || {
        target().is_empty().then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn a_secret_is_made_once_told_by_its_address_and_never_taken_from_somebody_else() {
    let tenant = tenant("a_secret_is_made_once");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('theirs', 'by hand')")
        .ok();
    tenant
        .apply(&secret(
            "made",
            "objectName: Made, generate: {length: 40, alphabet: Hex}",
        ))
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    let said = tenant
        .kubectl(&[
            "get",
            "vaultsecret",
            "made",
            "-o",
            "jsonpath={.status.id} {.status.version}",
        ])
        .ok();
    let (id, version) = said.split_once(' ').unwrap();
    assert_eq!(id, format!("https://demo.{}.svc/secrets/Made", tenant.namespace));
    let value = tenant
        .python(
            "client",
            "print(client.get_secret('made').value, client.get_secret('made').properties.version)",
        )
        .ok();
    let (value, newest) = value.trim().split_once(' ').unwrap();
    assert_eq!((value.len(), newest), (40, version));
    assert!(value.bytes().all(|byte| byte.is_ascii_hexdigit()));

    // A newer version is told.
    let newer = tenant
        .python(
            "client",
            "print(client.set_secret('made', 'newer').properties.version)",
        )
        .ok();
    eventually("the newer version in the status", Duration::from_secs(10), || {
        let told = tenant
            .kubectl(&["get", "vaultsecret", "made", "-o", "jsonpath={.status.version}"])
            .ok();
        (told == newer.trim()).then_some(())
    });

    // Made anew, the resource takes its own up again.
    tenant.kubectl(&["delete", "vaultsecret", "made"]).ok();
    tenant
        .apply(&secret(
            "made",
            "objectName: Made, generate: {length: 40, alphabet: Hex}",
        ))
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    assert_eq!(
        tenant
            .python("client", "print(client.get_secret('made').value)")
            .ok()
            .trim(),
        "newer"
    );

    // What somebody else made stays theirs.
    tenant.apply(&secret("theirs", "generate: {}")).ok();
    let message = condition(&tenant, "vaultsecret/theirs", "Conflict", "True");
    assert!(message.contains("this resource did not make"), "{message}");
    assert_eq!(
        tenant
            .python("client", "print(client.get_secret('theirs').value)")
            .ok()
            .trim(),
        "by hand"
    );

    // Deleted through the API, it is told and not made again.
    let gone = "import requests\nr = requests.delete(url + '/secrets/made?api-version=7.4', headers={'Authorization': 'Bearer ' + token()}, verify=ca)\nassert r.status_code == 200, r.text";
    tenant.python("client", gone).ok();
    let message = condition(&tenant, "vaultsecret/made", "Deleted", "True");
    assert!(message.contains("is not made again"), "{message}");
    condition(&tenant, "vaultsecret/made", "Ready", "False");

    // Nor once it was purged.
    let purge = "import requests, time\nr = requests.delete(url + '/deletedsecrets/made?api-version=7.4', headers={'Authorization': 'Bearer ' + token()}, verify=ca)\nassert r.status_code == 204, r.text\ntime.sleep(12)\nprint('made' in [p.name.lower() for p in client.list_properties_of_secrets()])";
    assert_eq!(tenant.python("client", purge).ok().trim(), "False");
    condition(&tenant, "vaultsecret/made", "Deleted", "True");
}

#[test]
#[ignore = "needs a cluster"]
fn deleting_a_resource_deletes_its_secret_only_where_it_says_so() {
    let tenant = tenant("deleting_a_resource_deletes_its_secret");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    tenant
        .apply(&format!(
            "{}---\n{}",
            secret("kept", "generate: {}"),
            secret("dropped", "generate: {}, deletionPolicy: Delete")
        ))
        .ok();
    for name in ["kept", "dropped"] {
        tenant.ready(&format!("vaultsecrets.strongroom.dev/{name}"));
    }
    tenant
        .kubectl(&["delete", "vaultsecret", "kept", "dropped", "--timeout=20s"])
        .ok();
    let names = tenant
        .python(
            "client",
            "print(*[p.name for p in client.list_properties_of_secrets()])",
        )
        .ok();
    assert_eq!(names.trim(), "kept");
}

#[test]
#[ignore = "needs a cluster"]
fn a_vault_counts_its_secrets_and_a_policy_says_what_it_gives() {
    let tenant = tenant("a_vault_counts_its_secrets");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python(
            "client",
            "client.set_secret('one', 'x'); client.set_secret('two', 'x')",
        )
        .ok();
    eventually("two secrets in the status", Duration::from_secs(12), || {
        let told = tenant
            .kubectl(&["get", "vault", "demo", "-o", "jsonpath={.status.secrets}"])
            .ok();
        (told == "2").then_some(())
    });
    let message = condition(&tenant, "accesspolicy/app", "Ready", "True");
    assert_eq!(message, "one subject has the secret permissions get, set");
    tenant.kubectl(&["delete", "vault", "demo"]).ok();
    let message = condition(&tenant, "accesspolicy/app", "Ready", "False");
    assert!(message.contains("there is no vault 'demo'"), "{message}");
}
