//! Removing all for good, as documented.

use crate::e2e::harness::{kubectl, on_node, run, tenant};
use crate::e2e::one_by_one::{CHART, all_ready, helm};

#[test]
#[ignore = "needs a cluster"]
fn what_the_documentation_says_of_removal_leaves_nothing_and_a_new_installation_works() {
    // It ends every vault of the cluster, so the cluster has to be ours.
    if on_node("true").is_none() {
        return;
    }
    all_ready();
    let tenant = tenant("what_the_documentation_says_of_removal");
    tenant.vault(&["all"]);
    tenant
        .apply(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: made}\n\
             spec: {vaultRef: demo, generate: {}, deletionPolicy: Delete}\n",
        )
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    let values = helm(&["get", "values", "strongroom", "-o", "yaml"], None).ok();
    let documented = removal();
    println!("{documented}");
    let removed = run("timeout", &["150", "sh", "-euc", &documented], None);
    let left = kubectl(&["get", "crd,namespaces,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,csidrivers", "-o", "name"], None).ok();
    let bundles = kubectl(
        &[
            "get",
            "configmaps",
            "-A",
            "--field-selector=metadata.name=strongroom-ca",
            "-o",
            "name",
        ],
        None,
    )
    .ok();
    let install = [
        "install",
        "strongroom",
        CHART,
        "--create-namespace",
        "--wait",
        "--timeout",
        "3m",
        "-f",
        "-",
    ];
    let installed = helm(&install, Some(&values));
    removed.ok();
    installed.ok();
    let left: Vec<_> = left.lines().filter(|line| line.contains("strongroom")).collect();
    assert!(
        left.is_empty() && bundles.is_empty(),
        "left behind: {left:?} {bundles}"
    );
    all_ready();
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    let again = "client.set_secret('anew', 'x'); print(client.get_secret('anew').value)";
    assert_eq!(tenant.python("client", again).ok().trim(), "x");
}

/// The commands below the heading.
fn removal() -> String {
    let text = include_str!("../../../docs/operations.md");
    let (_, section) = text.split_once("## Removing Strongroom for good").unwrap();
    let (_, commands) = section.split_once("```sh\n").unwrap();
    commands.split_once("```").unwrap().0.to_owned()
}
