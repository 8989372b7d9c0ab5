//! A stranger's pod, and how soon it is none: a time that neighbours would spoil.

use std::time::{Duration, Instant};

use crate::e2e::harness::{eventually, pod, policy, tenant};

#[test]
#[ignore = "needs a cluster"]
fn a_strangers_pod_does_not_start_says_why_and_starts_within_five_seconds_of_a_policy() {
    let tenant = tenant("a_strangers_pod_does_not_start");
    tenant.vault(&["get", "set"]);
    tenant.pod("writer", "app", None);
    tenant
        .python("writer", "client.set_secret('db-password', 'x')")
        .ok();
    tenant
        .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger}\n")
        .ok();
    tenant
        .apply(&pod("stranger", "stranger", Some("- secret: db-password")))
        .ok();
    let event = eventually("an event that says why", Duration::from_secs(20), || {
        let events = tenant
            .kubectl(&[
                "get",
                "events",
                "--field-selector=involvedObject.name=stranger,reason=FailedMount",
                "-o",
                "jsonpath={.items[*].message}",
            ])
            .ok();
        events
            .contains("stranger")
            .then_some(events)
            .filter(|events| events.contains("get"))
    });
    println!("the pod's event: {event}");
    for part in [
        tenant.namespace.as_str(),
        "stranger",
        "secrets get permission",
        "demo",
    ] {
        assert!(event.contains(part), "the event should name {part}: {event}");
    }
    assert!(
        !event.contains("AccessPolicy/"),
        "which rule decided is not told: {event}"
    );
    // The kubelet tries again after half a second, then one, two …: by now its call is held.
    eventually("a held call", Duration::from_secs(10), || {
        let events = tenant
            .kubectl(&[
                "get",
                "events",
                "--field-selector=involvedObject.name=stranger,reason=FailedMount",
                "-o",
                "jsonpath={.items[*].count}",
            ])
            .ok();
        (!events.is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    tenant.apply(&policy("stranger", "stranger", &["get"])).ok();
    let applied = Instant::now();
    tenant
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=20s", "pod/stranger"])
        .ok();
    let took = applied.elapsed();
    println!("from the policy to a running pod: {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(tenant.exec("stranger", "cat /secrets/db-password").ok(), "x");
}
