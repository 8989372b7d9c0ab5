//! The root key missing or wrong, and Strongroom uninstalled and installed again.

use std::time::Duration;

use super::{CHART, all_ready, destroy, helm, pods};
use crate::e2e::harness::{RELEASE, eventually, kubectl, tenant};

const ROOT: &str = "strongroom-root-key";

#[test]
#[ignore = "needs a cluster"]
fn with_the_root_key_missing_or_wrong_serve_refuses_to_start_and_says_what_to_do() {
    all_ready();
    let whole = kubectl(&["-n", RELEASE, "get", "secret", ROOT, "-o", "json"], None).ok();
    let mut kept: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let metadata = kept["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    let _restore = Restore(kept.to_string());

    destroy(&["-n", RELEASE, "secret", ROOT]).ok();
    let said = log_of_a_restarted_replica();
    println!("missing: {said}");
    assert!(said.contains("root key") && said.contains("escrow"), "{said}");
    assert!(
        !kubectl(&["-n", RELEASE, "get", "secret", ROOT], None).success,
        "it made no new one"
    );

    let mut wrong = kept.clone();
    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for value in wrong["data"].as_object_mut().unwrap().values_mut() {
        *value = other.into();
    }
    kubectl(&["create", "-f", "-"], Some(&wrong.to_string())).ok();
    let said = log_of_a_restarted_replica();
    println!("wrong: {said}");
    assert!(
        said.contains("root key") && said.contains("does not open"),
        "{said}"
    );
}

/// Puts the root key back whatever happens.
struct Restore(String);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = destroy(&["-n", RELEASE, "secret", ROOT]);
        let back = kubectl(&["create", "-f", "-"], Some(&self.0));
        for pod in pods("serve") {
            let _ = kubectl(
                &[
                    "-n",
                    RELEASE,
                    "delete",
                    "pod",
                    &pod,
                    "--force",
                    "--grace-period=0",
                ],
                None,
            );
        }
        if std::thread::panicking() {
            println!("the root key is back: {}", back.success);
        } else {
            back.ok();
            all_ready();
        }
    }
}

fn log_of_a_restarted_replica() -> String {
    let pod = pods("serve").into_iter().next().expect("a replica");
    kubectl(
        &[
            "-n",
            RELEASE,
            "delete",
            "pod",
            &pod,
            "--force",
            "--grace-period=0",
        ],
        None,
    )
    .ok();
    eventually(
        "a replica that says why it does not start",
        Duration::from_secs(30),
        || {
            let current = kubectl(&["-n", RELEASE, "logs", &pod], None);
            let said = format!(
                "{}{}",
                current.stdout,
                kubectl(&["-n", RELEASE, "logs", &pod, "--previous"], None).stdout
            );
            said.contains("root key").then_some(said)
        },
    )
}

#[test]
#[ignore = "needs a cluster"]
fn uninstalled_and_installed_again_it_finds_all_data() {
    all_ready();
    let tenant = tenant("uninstalled_and_installed_again");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('kept', 'through the reinstall')")
        .ok();
    let values = helm(&["get", "values", "strongroom", "-o", "yaml"], None).ok();
    helm(&["uninstall", "strongroom", "--wait"], None).ok();
    for kept in [
        "crd/vaults.strongroom.dev",
        "validatingadmissionpolicy/strongroom-grant",
        "validatingadmissionpolicybinding/strongroom-destruction",
        "secret/strongroom-root-key",
    ] {
        kubectl(&["-n", RELEASE, "get", kept], None).ok();
    }
    let crd = kubectl(
        &["delete", "--dry-run=server", "crd", "vaults.strongroom.dev"],
        None,
    );
    crd.refused();
    let install = [
        "install",
        "strongroom",
        CHART,
        "--wait",
        "--timeout",
        "2m",
        "-f",
        "-",
    ];
    helm(&install, Some(&values)).ok();
    let said = eventually("the data is served again", Duration::from_secs(20), || {
        let said = tenant.python("client", "print(client.get_secret('kept').value)");
        said.success.then_some(said.stdout)
    });
    assert_eq!(said.trim(), "through the reinstall");
}
