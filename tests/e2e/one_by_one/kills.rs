//! `kill -9` of each of our processes, in the middle of what it does.

use std::time::Duration;

use super::{SETTLE, all_ready, history, kill_9, pods};
use crate::e2e::harness::{RELEASE, eventually, kubectl, on_node, tenant};

const LATE: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs a cluster"]
fn kill_9_of_either_replica_of_serve_leaves_one_history_and_loses_no_acknowledged_write() {
    history::is_one_while("kill_9_of_either_replica_of_serve", 22, LATE, |replicas| {
        replicas.iter().all(|pod| {
            let killed = kill_9(pod);
            std::thread::sleep(Duration::from_secs(6));
            killed
        })
    });
}

#[test]
#[ignore = "needs a cluster"]
fn kill_9_of_operates_leader_stops_no_write_and_another_leads() {
    history::is_one_while("kill_9_of_operates_leader", 12, LATE, |_| {
        let lease = kubectl(
            &[
                "-n",
                RELEASE,
                "get",
                "lease",
                "strongroom-operate",
                "-o",
                "jsonpath={.spec.holderIdentity}",
            ],
            None,
        )
        .ok();
        let leader = pods("operate")
            .into_iter()
            .find(|pod| lease.contains(pod.as_str()))
            .expect("one leads");
        kill_9(&leader)
    });
    let tenant = tenant("after_the_leader_another_reconciles");
    tenant.vault(&["get"]);
}

#[test]
#[ignore = "needs a cluster"]
fn kill_9_of_the_node_process_leaves_files_in_place_and_updates_resume() {
    all_ready();
    let tenant = tenant("kill_9_of_the_node_process_leaves_files");
    tenant.vault(&["get", "set"]);
    tenant.pod("writer", "app", None);
    tenant
        .python("writer", "client.set_secret('watched', 'before')")
        .ok();
    tenant.pod("reader", "app", Some("- secret: watched"));
    tenant.pod("leaves", "app", Some("- secret: watched"));
    let uid = tenant
        .kubectl(&["get", "pod", "leaves", "-o", "jsonpath={.metadata.uid}"])
        .ok();
    let node = pods("node").pop().expect("a node process");
    if !kill_9(&node) {
        return;
    }
    assert_eq!(tenant.exec("reader", "cat /secrets/watched").ok(), "before");
    tenant.kubectl(&["delete", "pod", "leaves", "--wait=false"]).ok();
    tenant
        .python("writer", "client.set_secret('watched', 'after')")
        .ok();
    eventually("updates resume", SETTLE, || {
        (tenant.exec("reader", "cat /secrets/watched").ok() == "after").then_some(())
    });
    eventually("the pod that was deleted meanwhile is gone", SETTLE, || {
        (!tenant.kubectl(&["get", "pod", "leaves"]).success).then_some(())
    });
    eventually("nothing of it is mounted, and its folder is gone", SETTLE, || {
        let look = format!("grep {uid} /proc/mounts; ls -d /var/lib/kubelet/pods/{uid} 2>/dev/null; true");
        on_node(&look).unwrap().stdout.trim().is_empty().then_some(())
    });
    all_ready();
}
