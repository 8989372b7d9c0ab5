//! etcd is restored from a snapshot: what was written since is gone, and nobody is told something old as if it were new.

use std::time::Duration;

use super::weather::control_plane_answers;
use crate::e2e::harness::{RELEASE, eventually, kubectl, on_node, tenant};
use crate::e2e::one_by_one::all_ready;

const SNAPSHOT: &str = "cd /etc/kubernetes/pki/etcd && rm -f /var/lib/etcd-snapshot.db && \
    etcdctl --cacert ca.crt --cert server.crt --key server.key snapshot save /var/lib/etcd-snapshot.db";

/// As Kubernetes' documentation of etcd says: revisions go on beyond those that were, and watches begin anew.
const RESTORE: &str = r#"cd /etc/kubernetes && mkdir -p away && mv manifests/kube-apiserver.yaml manifests/etcd.yaml away/
pkill -KILL -x kube-apiserver; pkill -KILL -x etcd
quiet=0
for _ in $(seq 200); do
    if pgrep -x etcd >/dev/null; then quiet=0; pkill -KILL -x etcd; else quiet=$((quiet + 1)); fi
    [ $quiet -lt 10 ] || break
    sleep 0.2
done
rm -rf /var/lib/etcd.restored
etcdutl snapshot restore /var/lib/etcd-snapshot.db --data-dir /var/lib/etcd.restored --bump-revision 1000000 --mark-compacted \
    $(grep -o -e '--name=[^ ]*' -e '--initial-cluster=[^ ]*' -e '--initial-advertise-peer-urls=[^ ]*' away/etcd.yaml) &&
    rm -rf /var/lib/etcd/member && mv /var/lib/etcd.restored/member /var/lib/etcd/
"#;

/// Takes the snapshot's files away again, and lets the control plane start, whatever happened.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = on_node(
            "cd /etc/kubernetes && mv away/etcd.yaml away/kube-apiserver.yaml manifests/; rm -rf /var/lib/etcd-snapshot.db /var/lib/etcd.restored",
        );
        control_plane_answers();
    }
}

#[test]
#[ignore = "needs a cluster"]
fn after_etcd_was_restored_what_is_older_than_was_seen_is_refused_until_serve_is_restarted() {
    all_ready();
    let Some(tools) = on_node("command -v etcdctl && command -v etcdutl") else {
        return;
    };
    if !tools.success {
        println!("SKIPPED: the node has no etcdctl and etcdutl");
        return;
    }
    let tenant = tenant("after_etcd_was_restored");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let before = "client.set_secret('kept', 'kept')\nclient.set_secret('changed', 'old')\nprint('set')";
    tenant.python("client", before).ok();
    on_node(SNAPSHOT).unwrap().ok();
    let since = "client.set_secret('changed', 'new')\nclient.set_secret('made', 'since')\nprint('set')";
    tenant.python("client", since).ok();

    let restored = Restored;
    on_node(RESTORE).unwrap().ok();
    drop(restored);

    // Each replica refuses what it has seen newer; what nothing happened to goes on.
    let look = "import requests\ndef ask(name):\n    r = requests.get(url + '/secrets/' + name + '?api-version=7.4', \
                headers={'Authorization': 'Bearer ' + token()}, verify=ca, timeout=10)\n    \
                return str(r.status_code) + ' ' + (r.json().get('value') or r.json()['error']['message'])\n\
                for name in ('kept', 'changed', 'made'):\n    print(sorted({ask(name) for _ in range(12)}))";
    let expected = [
        "['200 kept']",
        "['500 The stored record of this object was rolled back; it is refused until it is restored.']",
        "['500 The stored record of this object is gone; it is refused until it is restored.']",
    ];
    eventually(
        "what went back is refused by every replica",
        Duration::from_secs(90),
        || {
            let said = tenant.python("client", look);
            let lines: Vec<_> = said.stdout.lines().collect();
            (said.success && lines == expected).then_some(())
        },
    );
    eventually("the vault says so", Duration::from_secs(90), || {
        let path = "jsonpath={.status.conditions[?(@.type==\"RecordsDamaged\")].status}";
        let said = tenant.kubectl(&["get", "vaults.strongroom.dev", "demo", "-o", path]);
        (said.stdout == "True").then_some(())
    });

    // Whoever restarts the data plane accepts what there is.
    let restart = [
        "-n",
        RELEASE,
        "rollout",
        "restart",
        "statefulset",
        "strongroom-serve",
    ];
    kubectl(&restart, None).ok();
    all_ready();
    let accepted = "assert client.get_secret('kept').value == 'kept'\nassert client.get_secret('changed').value == 'old'\n\
                    assert client.set_secret('made', 'again').value == 'again'\nprint('accepted')";
    eventually("what there is is served", Duration::from_secs(60), || {
        let said = tenant.python("client", accepted);
        said.stdout.trim_end().ends_with("accepted").then_some(())
    });
}
