//! An upgrade with another image and other values, under clients that retry as the SDKs do.

use super::{CHART, all_ready, helm};
use crate::e2e::harness::{PRELUDE, kubectl, on_node, tenant};

/// Four readers with the SDK's default options, of which two make a new connection each time.
const READERS: &str = r#"
import threading
failures, reads, slowest = [], [0] * 4, [0.0] * 4
def reader(i):
    own = SecretClient(url, ProjectedToken())
    while not os.path.exists("/tmp/stop"):
        began = time.monotonic()
        try:
            assert own.get_secret("watched").value == "before"
            reads[i] += 1
        except Exception as e:
            failures.append((type(e).__name__, str(e)[:300]))
        slowest[i] = max(slowest[i], time.monotonic() - began)
        if i % 2:
            own = SecretClient(url, ProjectedToken())
        time.sleep(0.02)
threads = [threading.Thread(target=reader, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("reads", reads, "slowest", [round(s, 2) for s in slowest], "failures", failures[:5])
assert not failures and min(reads) > 50
"#;

#[test]
#[ignore = "needs a cluster"]
fn an_upgrade_with_another_image_and_other_values_fails_no_read_of_an_sdk() {
    all_ready();
    let tenant = tenant("an_upgrade_with_another_image");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('watched', 'before')")
        .ok();
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployment = [
        "-n",
        "strongroom-system",
        "get",
        "deployment",
        "strongroom-operate",
        "-o",
        image,
    ];
    let image = kubectl(&deployment, None).ok();
    let (repository, _) = image.rsplit_once(':').unwrap();
    let tag = format!("ctr -n k8s.io images tag --force {image} {repository}:upgraded");
    let Some(tagged) = on_node(&tag) else { return };
    tagged.ok();
    let namespace = tenant.namespace.clone();
    let readers = std::thread::spawn(move || {
        let arguments = [
            "-n", &namespace, "exec", "-i", "client", "--", "python3", "-u", "-",
        ];
        kubectl(&arguments, Some(&format!("{PRELUDE}\n{READERS}")))
    });
    let upgrade = [
        "upgrade",
        "strongroom",
        CHART,
        "--reuse-values",
        "--wait",
        "--timeout",
        "3m",
        "--set",
        "image.tag=upgraded,stalenessBound=4m",
    ];
    let upgraded = helm(&upgrade, None);
    let running = kubectl(&deployment, None);
    let back = helm(&["rollback", "strongroom", "--wait", "--timeout", "3m"], None);
    let _ = on_node(&format!("ctr -n k8s.io images rm {repository}:upgraded"));
    tenant.exec("client", "touch /tmp/stop").ok();
    let said = readers.join().unwrap().ok();
    println!("{}", said.trim());
    upgraded.ok();
    back.ok();
    assert!(running.ok().ends_with(":upgraded"));
    all_ready();
}
