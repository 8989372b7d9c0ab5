//! Processes that stand still for a minute and wake up again (SIGSTOP and SIGCONT).

use std::time::{Duration, Instant};

use crate::e2e::harness::{RELEASE, eventually, kubectl, on_node, tenant};
use crate::e2e::one_by_one::{all_ready, history, pods, process, restarts};

const MINUTE: Duration = Duration::from_secs(58);

/// A process that stands still until this is dropped.
struct Stopped(u32);

impl Stopped {
    /// None where the node is not ours to enter.
    fn take(pod: &str) -> Option<Self> {
        let process = process(pod)?;
        on_node(&format!("kill -STOP {process}"))?.ok();
        Some(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = on_node(&format!("kill -CONT {}", self.0));
    }
}

fn leader() -> Option<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    let lease = kubectl(
        &["-n", RELEASE, "get", "lease", "strongroom-operate", "-o", path],
        None,
    )
    .ok();
    pods("operate")
        .into_iter()
        .find(|pod| lease.contains(pod.as_str()))
}

#[test]
#[ignore = "needs a cluster"]
fn a_leader_of_operate_that_stood_still_for_a_minute_wakes_up_and_does_no_harm() {
    all_ready();
    let tenant = tenant("a_leader_of_operate_that_stood_still");
    tenant.vault(&["get", "set"]);
    tenant
        .apply(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: made}\n\
             spec: {vaultRef: demo, generate: {}, deletionPolicy: Delete}\n",
        )
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    let first = eventually("one leads", Duration::from_secs(30), leader);
    let began = Instant::now();
    let Some(stopped) = Stopped::take(&first) else {
        return;
    };
    let second = eventually("another leads", Duration::from_secs(40), || {
        leader().filter(|now| *now != first)
    });
    println!("another leads after {:.1} s", began.elapsed().as_secs_f64());
    // What the new leader does while the old one sleeps must not be undone when that wakes up.
    tenant
        .kubectl(&["delete", "vaultsecrets.strongroom.dev/made", "--timeout=30s"])
        .ok();
    tenant
        .kubectl(&[
            "patch",
            "vault",
            "demo",
            "--type=merge",
            "-p",
            r#"{"spec":{"purgeProtection":true}}"#,
        ])
        .ok();
    let settled = || {
        let path = "jsonpath={.status.observedGeneration} {.status.conditions[?(@.type==\"Ready\")].status}";
        tenant.kubectl(&["get", "vault", "demo", "-o", path]).ok()
    };
    eventually("the new leader reconciles", Duration::from_secs(20), || {
        (settled() == "2 True").then_some(())
    });
    std::thread::sleep(MINUTE.saturating_sub(began.elapsed()));
    drop(stopped);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(settled(), "2 True");
    assert!(
        !tenant
            .kubectl(&["get", "vaultsecrets.strongroom.dev/made"])
            .success
    );
    assert_eq!(
        leader().as_deref(),
        Some(second.as_str()),
        "who leads goes on leading"
    );
    let another = "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: after}\nspec: {}\n";
    tenant.apply(another).ok();
    tenant.ready("vaults.strongroom.dev/after");
    println!("{}", restarts());
    all_ready();
}

#[test]
#[ignore = "needs a cluster"]
fn a_replica_of_serve_that_stood_still_for_a_minute_leaves_one_history() {
    // What was asked of it meanwhile it answers with what it knew, which the staleness bound allows.
    let late = MINUTE + Duration::from_secs(5);
    history::is_one_while("a_replica_of_serve_that_stood_still", 80, late, |replicas| {
        let Some(stopped) = Stopped::take(&replicas[0]) else {
            return false;
        };
        std::thread::sleep(MINUTE);
        drop(stopped);
        true
    });
    println!("{}", restarts());
}
