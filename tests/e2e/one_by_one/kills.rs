//! `kill -9` of each of our processes, in the middle of what it does.

use std::time::Duration;

use super::{SETTLE, all_ready, kill_9, pods};
use crate::e2e::harness::{PRELUDE, RELEASE, eventually, kubectl, on_node, tenant};

/// Four writers, each with a secret of its own and without retries, and what was acknowledged. Whatever was answered
/// with 200 must be there, in its order, once; whatever was not may be there at most once.
const WRITERS: &str = r#"
import threading, http.client, ssl, collections
until = time.monotonic() + 14
acknowledged, attempted, failed = collections.defaultdict(list), collections.defaultdict(list), collections.Counter()
context = ssl.create_default_context(cafile=ca)
host = url.removeprefix("https://")
def writer(w):
    name, n, connection = f"stream-{w}", 0, None
    while time.monotonic() < until:
        n += 1
        attempted[w].append(n)
        try:
            if connection is None:
                connection = http.client.HTTPSConnection(host, context=context, timeout=10)
            connection.request("PUT", f"/secrets/{name}?api-version=7.4", json.dumps({"value": str(n)}),
                {"Authorization": "Bearer " + token(), "Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                acknowledged[w].append((n, json.loads(body)["id"].rsplit("/", 1)[1]))
            else:
                failed[response.status] += 1
                time.sleep(0.05)
        except Exception as e:
            failed[type(e).__name__] += 1
            connection = None
            time.sleep(0.05)
threads = [threading.Thread(target=writer, args=(w,)) for w in range(4)]
[t.start() for t in threads]
print("writing", flush=True)
[t.join() for t in threads]
def patiently(call):
    for _ in range(100):
        try:
            return call()
        except Exception as e:
            last = e
            time.sleep(0.2)
    raise last
for w in range(4):
    name = f"stream-{w}"
    versions = patiently(lambda: list(client.list_properties_of_secret_versions(name)))
    value = {p.version: int(patiently(lambda: client.get_secret(name, p.version)).value) for p in versions}
    counts = collections.Counter(value.values())
    assert max(counts.values()) == 1, ("twice", [n for n in counts if counts[n] > 1])
    for n, version in acknowledged[w]:
        assert value.get(version) == n, ("lost", w, n, version)
    latest = int(patiently(lambda: client.get_secret(name)).value)
    assert latest == max(value.values()) >= acknowledged[w][-1][0], ("order", latest, max(value.values()))
print("acknowledged", sum(len(a) for a in acknowledged.values()), "attempted", sum(len(a) for a in attempted.values()), "failed", dict(failed))
print("nothing lost, nothing twice")
"#;

fn nothing_is_lost_when(test: &'static str, kill: impl FnOnce() -> bool) {
    all_ready();
    let tenant = tenant(test);
    tenant.vault(&["get", "list", "set"]);
    tenant.pod("writer", "app", None);
    tenant
        .python("writer", "client.set_secret('watched', 'before')")
        .ok();
    tenant.pod("reader", "app", Some("- secret: watched"));
    let namespace = tenant.namespace.clone();
    let writers = std::thread::spawn(move || {
        let program = format!("{PRELUDE}\n{WRITERS}");
        kubectl(
            &[
                "-n", &namespace, "exec", "-i", "writer", "--", "python3", "-u", "-",
            ],
            Some(&program),
        )
        .ok()
    });
    std::thread::sleep(Duration::from_secs(5));
    if !kill() {
        writers.join().unwrap();
        return;
    }
    assert_eq!(
        tenant.exec("reader", "cat /secrets/watched").ok(),
        "before",
        "mounted files stay"
    );
    let said = writers.join().unwrap();
    println!("{test}: {said}");
    assert!(said.contains("nothing lost, nothing twice"), "{said}");
    tenant
        .python("writer", "client.set_secret('watched', 'after')")
        .ok();
    eventually("the mounted file is current again", SETTLE, || {
        (tenant.exec("reader", "cat /secrets/watched").ok() == "after").then_some(())
    });
    all_ready();
}

#[test]
#[ignore = "needs a cluster"]
fn kill_9_of_either_replica_of_serve_loses_no_acknowledged_write() {
    nothing_is_lost_when("kill_9_of_either_replica_of_serve", || {
        let replicas = pods("serve");
        assert_eq!(replicas.len(), 2, "{replicas:?}");
        replicas.iter().all(|pod| {
            let killed = kill_9(pod);
            std::thread::sleep(Duration::from_secs(4));
            killed
        })
    });
}

#[test]
#[ignore = "needs a cluster"]
fn kill_9_of_operates_leader_stops_no_write_and_another_leads() {
    nothing_is_lost_when("kill_9_of_operates_leader", || {
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
