//! Tests that break things: one at a time, after the others.

mod canary;
mod kills;
mod root_key;

use std::time::Duration;

use crate::e2e::harness::{RELEASE, kubectl};

/// Strongroom is whole again.
#[track_caller]
fn all_ready() {
    for what in ["statefulset", "deployment", "daemonset"] {
        let names = kubectl(&["-n", RELEASE, "get", what, "-o", "name"], None).ok();
        for name in names.lines() {
            kubectl(&["-n", RELEASE, "rollout", "status", name, "--timeout=60s"], None).ok();
        }
    }
}

/// Kills a container's first process as `kill -9` does. The kernel keeps a namespace's own from killing its first
/// process, so it is done from the node.
fn kill_9(pod: &str) -> bool {
    let id = kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pod",
            pod,
            "-o",
            "jsonpath={.status.containerStatuses[0].containerID}",
        ],
        None,
    )
    .ok();
    let id = id.trim_start_matches("containerd://");
    let command = format!(
        "kill -9 $(crictl inspect -o go-template --template '{{{{.info.pid}}}}' {id} 2>/dev/null || ctr -n k8s.io task ls | awk '$1 == \"{id}\" {{print $2}}')"
    );
    super::harness::on_node(&command).is_some_and(|said| {
        assert!(said.success, "{}{}", said.stdout, said.stderr);
        true
    })
}

/// Names of the pods of one of our parts.
fn pods(component: &str) -> Vec<String> {
    let selector = format!("app.kubernetes.io/component={component}");
    let said = kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pods",
            "-l",
            &selector,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ],
        None,
    )
    .ok();
    said.split_whitespace().map(str::to_owned).collect()
}

const SETTLE: Duration = Duration::from_secs(30);
