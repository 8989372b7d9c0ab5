//! A token is worth something as long as its pod and its account live, and only where its pod is.

use std::thread::JoinHandle;
use std::time::Duration;

use crate::e2e::harness::{PRELUDE, RELEASE, Tenant, kubectl, pod, tenant};

/// A second pod shows the token `stolen` until it is refused, and says how long that took and with what.
const SHOW_STOLEN: &str = r#"
import requests
h = {"Authorization": "Bearer " + STOLEN}
def ask():
    return requests.get(url + "/secrets/db-password?api-version=7.4", headers=h, verify=ca).status_code
"#;

fn two_pods(tenant: &Tenant) -> String {
    tenant.vault(&["get", "set"]);
    tenant.pod("victim", "app", None);
    tenant.pod("other", "app", None);
    tenant
        .python("victim", "client.set_secret('db-password', 'x')")
        .ok();
    tenant
        .exec("victim", "cat /var/run/secrets/strongroom/token")
        .ok()
}

#[test]
#[ignore = "needs a cluster"]
fn a_token_used_from_another_pods_address_is_refused() {
    let tenant = tenant("a_token_used_from_another_pods_address");
    let token = two_pods(&tenant);
    let program = format!("STOLEN = {token:?}\n{SHOW_STOLEN}\nprint(ask())");
    assert_eq!(tenant.python("other", &program).ok().trim(), "401");
    assert_eq!(tenant.python("victim", &program).ok().trim(), "200");
}

#[test]
#[ignore = "needs a cluster"]
fn deleting_the_pod_ends_its_token_within_a_second() {
    let tenant = tenant("deleting_the_pod_ends_its_token");
    let token = two_pods(&tenant);
    // From the node's own address, which is no pod's: `podAddressCheck: Report` lets it pass.
    let on_host = pod("host", "default", None).replace(
        "  terminationGracePeriodSeconds: 0\n",
        "  terminationGracePeriodSeconds: 0\n  hostNetwork: true\n  hostAliases:\n  - {ip: ADDRESS, hostnames: [demo.NAMESPACE.svc]}\n",
    );
    // Straight to a replica: not every cluster lets a node's own processes through to its Services.
    let selector = "app.kubernetes.io/component=serve";
    let replica = [
        "-n",
        RELEASE,
        "get",
        "pods",
        "-l",
        selector,
        "-o",
        "jsonpath={.items[0].status.podIP}",
    ];
    let on_host = on_host
        .replace("ADDRESS", &kubectl(&replica, None).ok())
        .replace("demo.NAMESPACE", &format!("demo.{}", tenant.namespace));
    tenant.apply(&on_host).ok();
    tenant
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=45s", "pod/host"])
        .ok();
    let watcher = watch_until_refused(&tenant, "host", "url + ':8443'", &token);
    tenant
        .kubectl(&["delete", "pod", "victim", "--grace-period=0", "--force"])
        .ok();
    assert_refused_within_a_second(watcher, "pod");
}

#[test]
#[ignore = "needs a cluster"]
fn an_account_made_anew_is_another() {
    let tenant = tenant("an_account_made_anew_is_another");
    let token = two_pods(&tenant);
    let ask = format!("STOLEN = {token:?}\n{SHOW_STOLEN}\nprint(ask())");
    assert_eq!(tenant.python("victim", &ask).ok().trim(), "200");
    let watcher = watch_until_refused(&tenant, "victim", "url", &token);
    tenant.kubectl(&["delete", "serviceaccount", "app"]).ok();
    tenant
        .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app}\n")
        .ok();
    assert_refused_within_a_second(watcher, "service account");
}

/// In a pod, shows the token again and again until it is refused, and then says when.
fn watch_until_refused(tenant: &Tenant, pod: &str, url: &str, token: &str) -> JoinHandle<String> {
    let program = format!(
        "{PRELUDE}\nurl = {url}\nSTOLEN = {token:?}\n{SHOW_STOLEN}\nassert ask() == 200\nuntil = time.monotonic() + 25\n\
         while (status := ask()) == 200:\n    assert time.monotonic() < until\n    time.sleep(0.01)\nprint(status, time.time())"
    );
    let (namespace, pod) = (tenant.namespace.clone(), pod.to_owned());
    let watcher = std::thread::spawn(move || {
        kubectl(
            &["-n", &namespace, "exec", "-i", &pod, "--", "python3", "-u", "-"],
            Some(&program),
        )
        .ok()
    });
    // Time for Python to start and to be answered 200 at least once.
    std::thread::sleep(Duration::from_secs(4));
    watcher
}

fn assert_refused_within_a_second(watcher: JoinHandle<String>, what: &str) {
    let gone = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let said = watcher.join().unwrap();
    let (status, refused) = said.trim().split_once(' ').unwrap();
    let refused: f64 = refused.parse().unwrap();
    assert_eq!(status, "401", "{said}");
    println!(
        "from the {what}'s end to the token's: at most {:.0} ms",
        ((refused - gone) * 1000.0).max(0.0)
    );
    assert!(refused - gone < 1.0, "{:.3} s", refused - gone);
}
