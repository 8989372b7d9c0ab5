//! The root key missing or wrong, in a Secret and in a file, and Strongroom uninstalled and installed again.

use std::time::Duration;

use super::{CHART, all_ready, destroy, helm, pods, revision, roll_back};
use crate::e2e::harness::{RELEASE, Said, eventually, kubectl, tenant};

const ROOT: &str = "strongroom-root-key";
/// What fills the volume in which the root key is a file: a Secret of another name, so that any cluster can.
const FILLS: &str = "e2e-root-key-file";
/// The key that is another one.
const OTHER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

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
    for value in wrong["data"].as_object_mut().unwrap().values_mut() {
        *value = OTHER.into();
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

#[test]
#[ignore = "needs a cluster"]
fn in_a_file_another_root_key_is_refused_and_one_that_is_carried_over_opens_everything() {
    all_ready();
    let tenant = tenant("in_a_file_another_root_key");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('kept', 'through the move')")
        .ok();
    let read = || {
        let said = tenant.python("client", "print(client.get_secret('kept').value)");
        said.success && said.stdout.trim() == "through the move"
    };
    let path = "jsonpath={.data.root-key}";
    let key = kubectl(&["-n", RELEASE, "get", "secret", ROOT, "-o", path], None).ok();
    let moved = Moved::now();

    fill(OTHER);
    in_a_file().ok();
    let (refused, said) = eventually("a replica that says why not", Duration::from_secs(60), || {
        pods("serve").into_iter().find_map(|pod| {
            let log = |more: &[&str]| {
                kubectl(&[&["-n", RELEASE, "logs", pod.as_str()], more].concat(), None).stdout
            };
            let said = format!("{}{}", log(&[]), log(&["--previous"]));
            said.contains("does not open").then_some((pod, said))
        })
    });
    println!("{said}");
    for part in [
        "another key than the one that the store was sealed with",
        "/etc/strongroom/root-key/root-key",
        "get secret strongroom-root-key -o jsonpath='{.data.root-key}' | base64 -d",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(read(), "the other replica goes on");

    fill(&key);
    kubectl(
        &[
            "-n",
            RELEASE,
            "delete",
            "pod",
            &refused,
            "--grace-period=0",
            "--force",
        ],
        None,
    )
    .ok();
    all_ready();
    eventually(
        "what was sealed before the move is served",
        Duration::from_secs(20),
        || read().then_some(()),
    );
    tenant
        .python("client", "client.set_secret('made', 'under the file')")
        .ok();
    for pod in pods("serve") {
        let said = kubectl(&["-n", RELEASE, "logs", &pod], None).ok();
        assert!(said.contains("the root key was read from its file"), "{said}");
        assert!(!said.contains("everybody on the machine"), "{said}");
    }

    // Nothing of the Secret is left to the data plane, and nothing holds it back.
    let account = format!("--as=system:serviceaccount:{RELEASE}:strongroom-serve");
    for verb in ["get", "create"] {
        let name = if verb == "get" {
            "secrets/strongroom-root-key"
        } else {
            "secrets"
        };
        let may = kubectl(&["-n", RELEASE, "auth", "can-i", verb, name, &account], None);
        assert_eq!(may.stdout.trim(), "no", "{verb}");
    }
    eventually("the Secret may go", Duration::from_secs(20), || {
        let delete = ["-n", RELEASE, "delete", "--dry-run=server", "secret", ROOT];
        kubectl(&delete, None).success.then_some(())
    });
    for condition in ["RootKeyNotEscrowed", "GuardMissing"] {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{condition}\")].message}}");
        eventually(condition, Duration::from_secs(60), || {
            let said = tenant.kubectl(&["get", "vault", "demo", "-o", &path]).ok();
            said.is_empty().then_some(())
        });
    }

    drop(moved);
    eventually(
        "back in its Secret the key opens the same",
        Duration::from_secs(20),
        || read().then_some(()),
    );
    let made = tenant
        .python("client", "print(client.get_secret('made').value)")
        .ok();
    assert_eq!(made.trim(), "under the file");
}

/// Makes the Secret that fills the volume; the key is in base64.
fn fill(key: &str) {
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": FILLS, "namespace": RELEASE },
        "data": { "root-key": key },
    });
    kubectl(&["apply", "-f", "-"], Some(&secret.to_string())).ok();
}

/// Upgrades to provider File.
fn in_a_file() -> Said {
    let volume = serde_json::json!({ "secret": { "secretName": FILLS, "defaultMode": 0o440 } });
    let values = serde_json::json!({ "rootKey": { "provider": "File", "file": { "volume": volume } } });
    let upgrade = ["upgrade", "strongroom", CHART, "--reuse-values", "-f", "-"];
    helm(&upgrade, Some(&values.to_string()))
}

/// Puts the release back to the revision that it had, whatever happens.
struct Moved(String);

impl Moved {
    fn now() -> Self {
        Self(revision())
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        let back = roll_back(&self.0);
        let _ = kubectl(
            &["-n", RELEASE, "delete", "secret", FILLS, "--ignore-not-found"],
            None,
        );
        if std::thread::panicking() {
            println!("the release is back: {}{}", back.success, back.stderr);
        } else {
            back.ok();
            all_ready();
        }
    }
}
