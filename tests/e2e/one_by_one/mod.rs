//! Tests that break things, and those of a time: one at a time, after the others.

mod audit;
mod canary;
mod destruction;
pub(in crate::e2e) mod history;
mod kills;
mod records;
mod rolling;
mod root_key;
mod store_went_back;
mod stranger;

use std::time::Duration;

use crate::e2e::harness::{RELEASE, Said, kubectl, run};

/// Strongroom is whole again.
#[track_caller]
pub(super) fn all_ready() {
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
    process(pod).is_some_and(|process| {
        super::harness::on_node(&format!("kill -9 {process}"))
            .unwrap()
            .ok();
        true
    })
}

/// Number of a container's first process on the node; none where the node is not ours to enter.
pub(super) fn process(pod: &str) -> Option<u32> {
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
        "crictl inspect -o go-template --template '{{{{.info.pid}}}}' {id} 2>/dev/null || ctr -n k8s.io task ls | awk '$1 == \"{id}\" {{print $2}}'"
    );
    super::harness::on_node(&command).map(|said| said.ok().trim().parse().unwrap())
}

/// Names of the pods of one of our parts.
pub(super) fn pods(component: &str) -> Vec<String> {
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

/// Where `serve` keeps its audit log: the one folder of its container that it may write to.
pub(super) const AUDIT_FOLDER: &str = "/var/log/strongroom";

/// The chart of this tree.
pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/strongroom");

/// helm in the release's namespace.
pub(super) fn helm(arguments: &[&str], input: Option<&str>) -> Said {
    let mut all = vec!["--namespace", RELEASE];
    all.extend(arguments);
    run("helm", &all, input)
}

/// The revision of the release that is installed.
pub(super) fn revision() -> String {
    let status = helm(&["status", "strongroom", "-o", "json"], None).ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status.get("version").unwrap().to_string()
}

/// Takes the release back to a revision that it had.
pub(super) fn roll_back(revision: &str) -> Said {
    helm(
        &["rollback", "strongroom", revision, "--wait", "--timeout", "5m"],
        None,
    )
}

/// Says on an object that its destruction is meant, and deletes it.
fn destroy(object: &[&str]) -> Said {
    let uid = [&["get"], object, &["-o", "jsonpath={.metadata.uid}"]].concat();
    let allow = format!("strongroom.dev/allow-destroy={}", kubectl(&uid, None).stdout);
    let annotated = kubectl(
        &[&["annotate", "--overwrite"], object, &[allow.as_str()]].concat(),
        None,
    );
    if !annotated.success {
        return annotated;
    }
    kubectl(&[&["delete"], object].concat(), None)
}

/// What a pod of ours shows under this name and labels.
fn metric(pod: &str, name: &str) -> Option<f64> {
    let path = format!("/api/v1/namespaces/{RELEASE}/pods/{pod}:8080/proxy/metrics");
    let shown = kubectl(&["get", "--raw", &path], None).stdout;
    let line = shown
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// How often each container of ours was restarted.
pub(super) fn restarts() -> String {
    let path =
        "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}\n{end}";
    kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=strongroom",
            "-o",
            path,
        ],
        None,
    )
    .ok()
}

const SETTLE: Duration = Duration::from_secs(30);
