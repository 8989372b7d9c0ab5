//! Stored records that somebody changed, copied, put back or deleted, having taken the guard away first.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{all_ready, metric, pods};
use crate::e2e::harness::{RELEASE, Said, Tenant, eventually, kubectl, tenant};

/// What ten requests for each secret, on connections of their own, are answered with, on whichever replica.
const ASK: &str = r#"
import requests
def ask(method, name, **more):
    r = requests.request(method, f"{url}/secrets/{name}?api-version=7.4", headers={"Authorization": "Bearer " + token()}, verify=ca, **more)
    return r.status_code, r.json().get("error", {}).get("message", "")
for name in NAMES:
    got = [ask("GET", name) for _ in range(10)]
    print(name, *("/".join(sorted({str(of) for of in each})) for each in zip(*got)), sep="|")
"#;

#[test]
#[ignore = "needs a cluster"]
fn a_record_that_was_tampered_with_fails_alone_and_clearly_until_it_is_restored() {
    all_ready();
    let tenant = tenant("a_record_that_was_tampered_with");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let flipped = Stored::make(&tenant, "flipped");
    let copied = Stored::make(&tenant, "copied");
    let older = Stored::make(&tenant, "older");
    let deleted = Stored::make(&tenant, "deleted");
    let kept = Stored::make(&tenant, "kept");
    tenant
        .python("client", "client.set_secret('older', 'newer')")
        .ok();
    let newer = older.sealed_now();

    let counted = |pod: &String| metric(pod, "strongroom_damaged_records");
    let before: Vec<_> = pods("serve")
        .into_iter()
        .map(|pod| (counted(&pod).unwrap(), pod))
        .collect();
    let unguarded = Unguarded::take([
        (flipped.record.clone(), flipped.sealed.clone()),
        (copied.record.clone(), copied.sealed.clone()),
        (older.record.clone(), newer),
        (deleted.record.clone(), deleted.sealed.clone()),
    ]);
    let mut bytes = STANDARD.decode(&flipped.sealed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    flipped.put(&STANDARD.encode(bytes)).ok();
    copied.put(&kept.sealed).ok();
    older.put(&older.sealed).ok();
    kubectl(&["-n", RELEASE, "delete", "sealedrecord", &deleted.record], None).ok();

    let names = ["flipped", "copied", "older", "deleted", "kept"];
    let answers = eventually(
        "each is refused, on both replicas",
        Duration::from_secs(10),
        || {
            let answers = ask(&tenant, &names);
            let refused = answers
                .lines()
                .filter(|line| line.split('|').nth(1) == Some("500"));
            (refused.count() == 4 && answers.contains("kept|200|\n")).then_some(answers)
        },
    );
    println!("{answers}");
    for (name, why) in [
        ("flipped", "does not open"),
        ("copied", "does not open"),
        ("older", "was rolled back"),
        ("deleted", "is gone"),
    ] {
        let line = answers.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(
            line.contains("The stored record of this object") && line.contains(why),
            "{line}"
        );
    }
    let write = "import requests\nr = requests.put(f'{url}/secrets/older?api-version=7.4', headers={'Authorization': 'Bearer ' + token()}, json={'value': 'x'}, verify=ca)\nassert r.status_code == 500, r.text\nclient.set_secret('kept', 'still')";
    tenant.python("client", write).ok();
    for (before, pod) in &before {
        eventually("the metric of each replica", Duration::from_secs(20), || {
            (counted(pod)? >= before + 4.0).then_some(())
        });
    }
    // It may have looked while they were being tampered with.
    let told = eventually("a condition of the vault", Duration::from_secs(20), || {
        let told = damaged(&tenant);
        told.starts_with("4 stored records").then_some(told)
    });
    println!("the vault's condition: {told}");
    let events = tenant.kubectl(&[
        "get",
        "events",
        "--field-selector=reason=RecordsDamaged",
        "-o",
        "name",
    ]);
    assert!(!events.ok().is_empty(), "an event says so");

    drop(unguarded);
    eventually("what was restored works again", Duration::from_secs(10), || {
        let answers = ask(&tenant, &names);
        answers
            .lines()
            .all(|line| line.split('|').nth(1) == Some("200"))
            .then_some(())
    });
    for (before, pod) in &before {
        eventually("the metric says so", Duration::from_secs(20), || {
            (counted(pod)? <= *before).then_some(())
        });
    }
    eventually("the condition is gone", Duration::from_secs(20), || {
        damaged(&tenant).is_empty().then_some(())
    });
    all_ready();
}

/// What the vault's condition says.
fn damaged(tenant: &Tenant) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"RecordsDamaged\")].message}";
    tenant.kubectl(&["get", "vault", "demo", "-o", path]).ok()
}

fn ask(tenant: &Tenant, names: &[&str]) -> String {
    tenant.python("client", &format!("NAMES = {names:?}\n{ASK}")).ok()
}

/// A secret, and the record that holds it.
struct Stored {
    record: String,
    sealed: String,
}

impl Stored {
    fn make(tenant: &Tenant, name: &str) -> Self {
        let before = records();
        tenant
            .python("client", &format!("client.set_secret('{name}', '{name}')"))
            .ok();
        let after = records();
        let mut new = after.difference(&before);
        let record = new.next().expect("a record of its own").clone();
        assert_eq!(new.next(), None);
        let sealed = sealed(&record);
        Self { record, sealed }
    }

    fn sealed_now(&self) -> String {
        sealed(&self.record)
    }

    fn put(&self, sealed: &str) -> Said {
        put(&self.record, sealed)
    }
}

fn put(record: &str, sealed: &str) -> Said {
    let patch = json!({ "sealed": sealed }).to_string();
    let arguments = [
        "-n",
        RELEASE,
        "patch",
        "sealedrecord",
        record,
        "--type=merge",
        "-p",
        &patch,
    ];
    kubectl(&arguments, None)
}

fn records() -> BTreeSet<String> {
    let path = "jsonpath={.items[*].metadata.name}";
    let said = kubectl(&["-n", RELEASE, "get", "sealedrecords", "-o", path], None).ok();
    said.split_whitespace().map(str::to_owned).collect()
}

fn sealed(record: &str) -> String {
    kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "sealedrecord",
            record,
            "-o",
            "jsonpath={.sealed}",
        ],
        None,
    )
    .ok()
}

/// The guard of sealed records is away until this is dropped; then these records are as they were too.
struct Unguarded {
    guard: String,
    records: [(String, String); 4],
}

impl Unguarded {
    fn take(records: [(String, String); 4]) -> Self {
        const BINDING: [&str; 2] = ["validatingadmissionpolicybinding", "strongroom-sealed-records"];
        let whole = kubectl(&[&["get"][..], &BINDING, &["-o", "json"]].concat(), None).ok();
        let mut kept: serde_json::Value = serde_json::from_str(&whole).unwrap();
        let metadata = kept
            .get_mut("metadata")
            .and_then(|metadata| metadata.as_object_mut())
            .unwrap();
        metadata.retain(|key, _| ["name", "labels", "annotations"].contains(&key.as_str()));
        kubectl(&[&["delete"][..], &BINDING].concat(), None).ok();
        let unguarded = Self {
            guard: kept.to_string(),
            records,
        };
        eventually("the guard is away", Duration::from_secs(10), || {
            let (record, _) = unguarded.records.first()?;
            let dry = [
                "-n",
                RELEASE,
                "delete",
                "sealedrecord",
                record,
                "--dry-run=server",
            ];
            kubectl(&dry, None).success.then_some(())
        });
        unguarded
    }
}

impl Drop for Unguarded {
    fn drop(&mut self) {
        for (record, sealed) in &self.records {
            let whole = json!({
                "apiVersion": "strongroom.dev/v1alpha1",
                "kind": "SealedRecord",
                "metadata": { "name": record, "namespace": RELEASE },
                "sealed": sealed,
            });
            let restored = put(record, sealed).success
                || kubectl(&["create", "-f", "-"], Some(&whole.to_string())).success;
            println!("{record} restored: {restored}");
        }
        let _ = kubectl(&["create", "-f", "-"], Some(&self.guard));
    }
}
