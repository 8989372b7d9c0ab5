//! A token is worth something as long as its pod and its account live, and only where its pod is.

use std::time::{Duration, Instant};

use crate::e2e::harness::{Tenant, eventually, kubectl, tenant};

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

/// Asks from the host network of the node (no pod's address), which `podAddressCheck: Report` lets pass.
fn from_the_node(tenant: &Tenant, token: &str) -> Option<String> {
    let service = kubectl(
        &[
            "-n",
            "strongroom-system",
            "get",
            "service",
            "strongroom",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ],
        None,
    )
    .ok();
    let host = format!("demo.{}.svc", tenant.namespace);
    let command = format!(
        "curl -sk -o /dev/null -w '%{{http_code}}' --resolve {host}:443:{service} -H 'Authorization: Bearer {token}' 'https://{host}/secrets/db-password?api-version=7.4'"
    );
    crate::e2e::harness::on_node(&command).map(|said| said.stdout)
}

#[test]
#[ignore = "needs a cluster"]
fn deleting_the_pod_ends_its_token_within_a_second() {
    let tenant = tenant("deleting_the_pod_ends_its_token");
    let token = two_pods(&tenant);
    let Some(before) = from_the_node(&tenant, &token) else {
        return;
    };
    assert_eq!(before, "200");
    tenant
        .kubectl(&["delete", "pod", "victim", "--grace-period=0", "--force"])
        .ok();
    let gone = Instant::now();
    eventually("the token is refused", Duration::from_secs(5), || {
        (from_the_node(&tenant, &token).as_deref() == Some("401")).then_some(())
    });
    let took = gone.elapsed();
    println!(
        "from the pod's end to the token's: {:.0} ms",
        took.as_secs_f64() * 1000.0
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn an_account_made_anew_is_another() {
    let tenant = tenant("an_account_made_anew_is_another");
    let token = two_pods(&tenant);
    let ask = format!("STOLEN = {token:?}\n{SHOW_STOLEN}\nprint(ask())");
    assert_eq!(tenant.python("victim", &ask).ok().trim(), "200");
    let program = format!(
        "STOLEN = {token:?}\n{SHOW_STOLEN}\nprint('ready', flush=True)\nuntil = time.monotonic() + 20\n\
         while ask() == 200:\n    assert time.monotonic() < until\n    time.sleep(0.01)\nprint(time.time())"
    );
    let namespace = tenant.namespace.clone();
    let watcher = std::thread::spawn(move || {
        let whole = format!("{}\n{program}", crate::e2e::harness::PRELUDE);
        kubectl(
            &[
                "-n", &namespace, "exec", "-i", "victim", "--", "python3", "-u", "-",
            ],
            Some(&whole),
        )
        .ok()
    });
    std::thread::sleep(Duration::from_secs(4));
    tenant.kubectl(&["delete", "serviceaccount", "app"]).ok();
    tenant
        .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app}\n")
        .ok();
    let deleted = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let said = watcher.join().unwrap();
    let refused: f64 = said.split_whitespace().last().unwrap().parse().unwrap();
    println!(
        "from the account's end to the token's: {:.0} ms",
        (refused - deleted) * 1000.0
    );
    assert!(refused - deleted < 1.0, "{said}");
}
