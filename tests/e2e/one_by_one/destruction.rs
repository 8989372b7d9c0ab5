//! What holds the data is destroyed by nobody who does not say so, and by whoever does, cleanly.

use std::time::Duration;

use super::{CHART, all_ready, helm, metric, pods};
use crate::e2e::harness::{RELEASE, Tenant, eventually, kubectl, run, tenant};

/// What holds the data, as kubectl names it.
const PRECIOUS: [&[&str]; 3] = [
    &["crd", "sealedrecords.strongroom.dev"],
    &["namespace", RELEASE],
    &["--namespace", RELEASE, "secret", "strongroom-root-key"],
];

#[test]
#[ignore = "needs a cluster"]
fn what_holds_the_data_is_deleted_only_by_whoever_says_so_on_it_by_its_uid() {
    all_ready();
    let _unsaid = Unsaid;
    for object in PRECIOUS {
        let delete = [&["delete", "--dry-run=server"], object].concat();
        let annotate = |value: &str| {
            let annotation = format!("strongroom.dev/allow-destroy{value}");
            let arguments = [&["annotate", "--overwrite"], object, &[annotation.as_str()]].concat();
            kubectl(&arguments, None).ok();
        };
        let refused = kubectl(&delete, None).refused();
        println!("{object:?}: {refused}");
        assert!(refused.contains("destroys what Strongroom keeps"), "{refused}");
        annotate("=yes");
        kubectl(&delete, None).refused();
        // What the text says to do is what helps.
        annotate("-");
        let (_, command) = refused.split_once("kubectl annotate ").unwrap();
        let (command, _) = command.split_once(" (").unwrap();
        run("sh", &["-c", &format!("kubectl annotate {command}")], None).ok();
        kubectl(&delete, None).ok();
        annotate("-");
        kubectl(&delete, None).refused();
    }
    let of_the_key = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dstrongroom";
    let all_at_once = format!("/api/v1/namespaces/{RELEASE}/secrets?dryRun=All&{of_the_key}");
    let refused = kubectl(&["delete", "--raw", &all_at_once], None).refused();
    assert!(refused.contains("destroys what Strongroom keeps"), "{refused}");
    for crd in ["vaults", "accesspolicies", "vaultsecrets"] {
        let crd = format!("{crd}.strongroom.dev");
        kubectl(&["delete", "--dry-run=server", "crd", &crd], None).refused();
    }
    // Nobody else's things are in the way.
    let tenant = tenant("what_holds_the_data_is_deleted");
    tenant
        .kubectl(&["create", "secret", "generic", "strongroom-root-key"])
        .ok();
    tenant.kubectl(&["delete", "secret", "strongroom-root-key"]).ok();
}

/// Whatever was said of what holds the data is taken back.
struct Unsaid;

impl Drop for Unsaid {
    fn drop(&mut self) {
        for object in PRECIOUS {
            let _ = kubectl(
                &[&["annotate"], object, &["strongroom.dev/allow-destroy-"]].concat(),
                None,
            );
        }
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_guard_that_is_deleted_or_changed_is_noticed_within_a_minute() {
    all_ready();
    let tenant = tenant("a_guard_that_is_deleted_or_changed");
    tenant.vault(&["get"]);
    let restored = Restored;
    kubectl(
        &["delete", "validatingadmissionpolicybinding", "strongroom-status"],
        None,
    )
    .ok();
    let ignore = r#"{"spec":{"failurePolicy":"Ignore"}}"#;
    let weaken = [
        "patch",
        "validatingadmissionpolicy",
        "strongroom-grant",
        "--type=merge",
        "-p",
        ignore,
    ];
    kubectl(&weaken, None).ok();
    let told = eventually("a condition of the vault", Duration::from_secs(60), || {
        let told = guard_missing(&tenant);
        told.contains("strongroom-status").then_some(told)
    });
    println!("the vault's condition: {told}");
    assert!(told.contains("strongroom-grant"), "{told}");
    tenant.ready("vault/demo");
    for guard in ["strongroom-status", "strongroom-grant"] {
        let line = format!("strongroom_guard_missing{{guard=\"{guard}\"}}");
        assert!(
            pods("operate").iter().any(|pod| metric(pod, &line) == Some(1.0)),
            "{guard}"
        );
    }
    let described = kubectl(
        &["-n", RELEASE, "describe", "deployment", "strongroom-operate"],
        None,
    )
    .ok();
    assert!(described.contains("GuardMissing"), "{described}");
    drop(restored);
    eventually("the condition is gone", Duration::from_secs(40), || {
        guard_missing(&tenant).is_empty().then_some(())
    });
}

fn guard_missing(tenant: &Tenant) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"GuardMissing\")].message}";
    tenant.kubectl(&["get", "vault", "demo", "-o", path]).ok()
}

/// Puts the guards back as their condition says.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
            let arguments = [
                "delete",
                kind,
                "strongroom-status",
                "strongroom-grant",
                "--ignore-not-found",
            ];
            let _ = kubectl(&arguments, None);
        }
        let said = helm(
            &["upgrade", "strongroom", CHART, "--reuse-values", "--wait"],
            None,
        );
        println!(
            "helm upgrade: {}",
            if said.success { "done" } else { &said.stderr }
        );
    }
}
