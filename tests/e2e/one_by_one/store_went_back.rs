//! The store is at an earlier state than a replica saw in an earlier life.

use std::time::Duration;

use super::{AUDIT_FOLDER, all_ready, pods, process};
use crate::e2e::harness::{RELEASE, eventually, kubectl, on_node, run, tenant};

/// Takes a person's word back, whatever happened, so that it does not speak for what comes after.
struct Word;

impl Drop for Word {
    fn drop(&mut self) {
        kubectl(
            &["annotate", "namespace", RELEASE, "strongroom.dev/store-restored-"],
            None,
        );
    }
}

fn ready(pod: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    kubectl(&["-n", RELEASE, "get", "pod", pod, "-o", path], None).stdout
}

#[test]
#[ignore = "needs a cluster"]
fn a_store_that_went_back_is_not_served_from_until_a_person_says_that_it_has_to_do() {
    all_ready();
    let tenant = tenant("a_store_that_went_back");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant.python("client", "client.set_secret('kept', 'kept')").ok();
    let replicas = pods("serve");

    // What a restore of etcd leaves behind: replicas remember a later state than the store is at, and are started anew.
    for replica in &replicas {
        let Some(process) = process(replica) else { return };
        let look = format!("cat /proc/{process}/root{AUDIT_FOLDER}/store-revision");
        let remembered: u64 = eventually(
            "how far the store is is remembered",
            Duration::from_secs(15),
            || on_node(&look)?.stdout.trim().parse().ok(),
        );
        let later = remembered + 1_000_000;
        on_node(&format!(
            "echo {later} >/proc/{process}/root{AUDIT_FOLDER}/store-revision; kill -9 {process}"
        ))
        .unwrap()
        .ok();
    }
    for replica in &replicas {
        let said = eventually(
            "the log says so, and how to go on",
            Duration::from_secs(60),
            || {
                let log = kubectl(&["-n", RELEASE, "logs", replica], None).stdout;
                let line = log.lines().find(|line| line.contains("StoreRolledBack"));
                line.map(str::to_owned)
            },
        );
        assert!(said.contains("kubectl annotate --overwrite namespace"), "{said}");
        println!("{said}");
    }
    for _ in 0..5 {
        assert!(replicas.iter().all(|replica| ready(replica) == "False"));
        std::thread::sleep(Duration::from_secs(1));
    }
    let asked = tenant.python("client", "client.get_secret('kept')");
    assert!(!asked.success, "{}", asked.stdout);

    let _word = Word;
    let now = run("date", &["-u", "+%FT%TZ"], None).ok();
    let word = format!("strongroom.dev/store-restored={}", now.trim());
    kubectl(&["annotate", "--overwrite", "namespace", RELEASE, &word], None).ok();
    eventually("all replicas serve", Duration::from_secs(90), || {
        replicas
            .iter()
            .all(|replica| ready(replica) == "True")
            .then_some(())
    });
    tenant
        .python("client", "assert client.get_secret('kept').value == 'kept'")
        .ok();
    for replica in &replicas {
        let process = process(replica).unwrap();
        let look = format!("grep -c StoreAccept /proc/{process}/root{AUDIT_FOLDER}/audit.log");
        assert_ne!(on_node(&look).unwrap().ok().trim(), "0");
    }
}
