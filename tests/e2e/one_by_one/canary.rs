//! A value is in the reply and in the mounted file, and nowhere else.

use super::all_ready;
use crate::e2e::harness::{RELEASE, kubectl, on_node, tenant};

#[test]
#[ignore = "needs a cluster"]
fn a_value_is_nowhere_but_in_the_reply_and_the_mounted_file() {
    all_ready();
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let canary = format!("canary{nanos:x}canary");
    let tenant = tenant("a_value_is_nowhere_but_in_the_reply");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let program = format!(
        "client.set_secret('canary', '{canary}', content_type='text/plain')\nassert client.get_secret('canary').value == '{canary}'\n\
         import requests\nr = requests.put(url + '/secrets/bad_name?api-version=7.4', headers={{'Authorization': 'Bearer ' + token()}}, json={{'value': '{canary}'}}, verify=ca)\n\
         assert r.status_code == 400 and '{canary}' not in r.text\n\
         r = requests.put(url + '/secrets/broken?api-version=7.4', headers={{'Authorization': 'Bearer ' + token()}}, data='{{\"value\": \"{canary}\", oops', verify=ca)\n\
         assert r.status_code == 400 and '{canary}' not in r.text"
    );
    tenant.python("client", &program).ok();
    tenant.pod("reader", "app", Some("- secret: canary"));
    assert_eq!(tenant.exec("reader", "cat /secrets/canary").ok(), canary);

    let base64 = base64_of(&canary);
    let clean = |place: &str, text: &str| {
        assert!(!text.contains(&canary), "the value is in {place}");
        assert!(!text.contains(&base64), "the value is in {place}, as base64");
    };
    let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"], None).ok();
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("componentstatuses"))
        .collect();
    clean(
        "the YAML of some object",
        &kubectl(
            &["get", &kinds.join(","), "-A", "-o", "yaml", "--ignore-not-found"],
            None,
        )
        .stdout,
    );
    clean(
        "an event",
        &kubectl(&["get", "events", "-A", "-o", "yaml"], None).ok(),
    );
    for pod in kubectl(&["-n", RELEASE, "get", "pods", "-o", "name"], None)
        .ok()
        .lines()
    {
        clean(
            "a log",
            &kubectl(&["-n", RELEASE, "logs", pod, "--all-containers"], None).ok(),
        );
    }
    let metrics = "import urllib.request\nfor ip in IPS:\n    print(urllib.request.urlopen(f'http://{ip}:8080/metrics').read().decode())";
    let ips = kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].status.podIP}",
        ],
        None,
    )
    .ok();
    let ips: Vec<&str> = ips.split_whitespace().collect();
    let said = tenant.python("client", &format!("IPS = {ips:?}\n{metrics}")).ok();
    assert!(said.contains("strongroom_requests_total"), "{said}");
    clean("/metrics", &said);

    let search = format!(
        "for place in /var/lib/etcd /var/log /var/lib/containerd/io.containerd.grpc.v1.cri /var/lib/kubelet/plugins; do grep -rlaF -e {canary} -e {base64} $place 2>/dev/null; done; true"
    );
    if let Some(found) = on_node(&search) {
        let found: Vec<&str> = found.stdout.lines().collect();
        assert!(found.is_empty(), "the value is in files of the node: {found:?}");
        // The search itself can find: the pod's name is in etcd.
        let sure = on_node(&format!(
            "grep -rlaF {} /var/lib/etcd | head -1",
            tenant.namespace
        ))
        .unwrap();
        assert!(
            !sure.stdout.is_empty(),
            "the search found nothing where something must be"
        );
        let audit = on_node(&format!("grep -rlaF SecretGet /var/lib/kubelet/pods /var/local 2>/dev/null | xargs -r grep -laF {canary}; true")).unwrap();
        assert!(
            audit.stdout.trim().is_empty(),
            "the value is in the audit log: {}",
            audit.stdout
        );
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    // The middle of any alignment that does not begin or end within a group of three.
    base64::engine::general_purpose::STANDARD
        .encode(text)
        .trim_end_matches('=')
        .to_owned()
}
