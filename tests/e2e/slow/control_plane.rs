//! The API server and etcd are away, come back, or are full.

use std::time::Duration;

use super::weather::{Away, Weather, between, control_plane_answers, tally};
use crate::e2e::harness::{RELEASE, Said, eventually, kubectl, on_node, tenant};
use crate::e2e::one_by_one::{all_ready, restarts};

#[test]
#[ignore = "needs a cluster"]
fn while_the_api_server_is_away_for_30_seconds_reads_go_on_and_writes_say_so() {
    all_ready();
    let restarted = restarts();
    let tenant = tenant("while_the_api_server_is_away");
    let weather = Weather::begin(&tenant);
    let from = weather.now();
    let Some(away) = Away::take("kube-apiserver") else {
        return;
    };
    std::thread::sleep(Duration::from_secs(30));
    let to = weather.now();
    drop(away);
    let back = weather.now();
    let seen = weather.end_after(5);
    println!("away from {from:.1} to {to:.1}, it answered again at {back:.1}");
    println!(
        "reads: {:?}, writes: {:?}",
        tally(&seen.reads),
        tally(&seen.writes)
    );
    assert_eq!(
        tally(&seen.reads).keys().collect::<Vec<_>>(),
        [&"200"],
        "no read failed"
    );
    let meanwhile = between(&seen.writes, from + 1.0, to);
    assert!(
        meanwhile.iter().all(|write| write.status == "503"),
        "{meanwhile:?}"
    );
    let slowest = meanwhile.iter().map(|write| write.took).fold(0.0, f64::max);
    println!(
        "the slowest refusal of a write took {slowest:.1} s: {}",
        meanwhile[0].message
    );
    assert!(slowest < 11.0, "an SDK would have given up");
    assert!(
        between(&seen.writes, back + 3.0, f64::MAX)
            .iter()
            .all(|write| write.status == "200"),
        "it heals"
    );
    all_ready();
    assert_eq!(restarts(), restarted, "without a restart");
}

#[test]
#[ignore = "needs a cluster"]
fn beyond_the_staleness_bound_reads_are_refused_until_the_api_server_is_back() {
    all_ready();
    let _bound = Bound::of("15s");
    all_ready();
    let restarted = restarts();
    let tenant = tenant("beyond_the_staleness_bound");
    let weather = Weather::begin(&tenant);
    let from = weather.now();
    let Some(away) = Away::take("kube-apiserver") else {
        return;
    };
    std::thread::sleep(Duration::from_secs(30));
    let to = weather.now();
    drop(away);
    let back = weather.now();
    let seen = weather.end_after(14);
    println!("away from {from:.1} to {to:.1}, it answered again at {back:.1}");
    println!(
        "reads: {:?}, writes: {:?}",
        tally(&seen.reads),
        tally(&seen.writes)
    );
    // What was known at the outage is up to one probe old.
    assert!(
        between(&seen.reads, from, from + 8.0)
            .iter()
            .all(|read| read.status == "200")
    );
    let late = between(&seen.reads, from + 16.5, to);
    assert!(late.iter().all(|read| read.status == "503"), "{late:?}");
    println!("refused reads say: {}", late[0].message);
    assert!(
        late[0].message.contains("the staleness bound is 15 s"),
        "{}",
        late[0].message
    );
    let first = between(&seen.reads, to, f64::MAX)
        .into_iter()
        .find(|read| read.status == "200");
    println!("reads again at {:?}", first.map(|read| read.at));
    assert!(
        between(&seen.reads, back + 10.0, f64::MAX)
            .iter()
            .all(|read| read.status == "200"),
        "it heals"
    );
    all_ready();
    assert_eq!(restarts(), restarted, "without a restart");
}

/// The staleness bound is another until this is dropped.
pub(super) struct Bound(String);

impl Bound {
    pub(super) fn of(bound: &str) -> Self {
        let path = "jsonpath={.spec.template.spec.containers[0].env[?(@.name==\"STRONGROOM_STALENESS_BOUND\")].value}";
        let before = kubectl(
            &[
                "-n",
                RELEASE,
                "get",
                "statefulset",
                "strongroom-serve",
                "-o",
                path,
            ],
            None,
        )
        .ok();
        Self::set(bound).ok();
        Self(before)
    }

    fn set(bound: &str) -> Said {
        let setting = format!("STRONGROOM_STALENESS_BOUND={bound}");
        kubectl(
            &[
                "-n",
                RELEASE,
                "set",
                "env",
                "statefulset/strongroom-serve",
                &setting,
            ],
            None,
        )
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Self::set(&self.0);
        if !std::thread::panicking() {
            all_ready();
        }
    }
}

#[test]
#[ignore = "needs a cluster"]
fn while_etcd_restarts_reads_go_on_and_no_write_is_half_done() {
    all_ready();
    let restarted = restarts();
    let tenant = tenant("while_etcd_restarts");
    let weather = Weather::begin(&tenant);
    let from = weather.now();
    let Some(before) = on_node("pgrep -x etcd") else {
        return;
    };
    let before = before.ok();
    on_node("pkill -KILL -x etcd").unwrap().ok();
    // The API server may say that it is ready until it has noticed.
    eventually("another etcd", Duration::from_secs(60), || {
        let now = on_node("pgrep -x etcd").unwrap();
        (now.success && now.stdout != before).then_some(())
    });
    control_plane_answers();
    let back = weather.now();
    let seen = weather.end_after(9);
    println!("etcd was killed at {from:.1}, the API server was ready again at {back:.1}");
    println!(
        "reads: {:?}, writes: {:?}",
        tally(&seen.reads),
        tally(&seen.writes)
    );
    assert_eq!(
        tally(&seen.reads).keys().collect::<Vec<_>>(),
        [&"200"],
        "no read failed"
    );
    assert!(
        seen.writes
            .iter()
            .all(|write| ["200", "503"].contains(&write.status.as_str()))
    );
    assert!(
        between(&seen.writes, back + 5.0, f64::MAX)
            .iter()
            .all(|write| write.status == "200"),
        "it heals"
    );
    all_ready();
    assert_eq!(restarts(), restarted, "without a restart");
}

#[test]
#[ignore = "needs a cluster"]
fn while_etcd_is_full_reads_go_on_and_writes_say_why_not() {
    all_ready();
    let tenant = tenant("while_etcd_is_full");
    let weather = Weather::begin(&tenant);
    let Some(full) = Full::make() else { return };
    let from = weather.now();
    std::thread::sleep(Duration::from_secs(8));
    let to = weather.now();
    drop(full);
    let back = weather.now();
    let seen = weather.end_after(9);
    println!("full from {from:.1} to {to:.1}, room again at {back:.1}");
    println!(
        "reads: {:?}, writes: {:?}",
        tally(&seen.reads),
        tally(&seen.writes)
    );
    assert_eq!(
        tally(&seen.reads).keys().collect::<Vec<_>>(),
        [&"200"],
        "no read failed"
    );
    let meanwhile = between(&seen.writes, from + 1.0, to);
    println!(
        "refused writes say: {} {}",
        meanwhile[0].status, meanwhile[0].message
    );
    assert!(
        meanwhile.iter().all(|write| write.status == "429"),
        "{meanwhile:?}"
    );
    assert!(meanwhile[0].message.contains("full"), "{}", meanwhile[0].message);
    assert!(
        between(&seen.writes, back + 5.0, f64::MAX)
            .iter()
            .all(|write| write.status == "200"),
        "it heals"
    );
    all_ready();
}

const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// Where etcd's own client finds its way.
const ETCDCTL: [&str; 7] = [
    "etcdctl",
    "--cacert",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "--cert",
    "/etc/kubernetes/pki/etcd/server.crt",
    "--key",
    "/etc/kubernetes/pki/etcd/server.key",
];

/// etcd has less room than it uses until this is dropped.
struct Full;

impl Full {
    fn make() -> Option<Self> {
        let shrink = format!(
            "cp {MANIFEST} /etc/kubernetes/etcd.before && sed 's/^    - etcd$/    - etcd\\n    - --quota-backend-bytes=4194304/' \
             /etc/kubernetes/etcd.before >/etc/kubernetes/etcd.after && mv /etc/kubernetes/etcd.after {MANIFEST} && pkill -KILL -x etcd"
        );
        let said = on_node(&shrink)?;
        // Before it is known whether that went well: half of it is to be undone too.
        let full = Self;
        said.ok();
        control_plane_answers();
        // The alarm is raised by the first write that finds no room.
        for _ in 0..100 {
            if etcdctl(&["alarm", "list"]).stdout.contains("NOSPACE") {
                return Some(full);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!(
            "etcd is not full: {}",
            etcdctl(&["endpoint", "status", "-w", "json"]).stdout
        );
    }
}

/// In etcd's container, which has no shell.
fn etcdctl(command: &[&str]) -> Said {
    let pod = format!("etcd-{}", std::env::var("STRONGROOM_NODE").unwrap());
    let exec = ["-n", "kube-system", "exec", &pod, "--"];
    kubectl(&[&exec, ETCDCTL.as_slice(), command].concat(), None)
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = on_node(&format!(
            "mv /etc/kubernetes/etcd.before {MANIFEST}; pkill -KILL -x etcd"
        ));
        control_plane_answers();
        for _ in 0..100 {
            if etcdctl(&["alarm", "disarm"]).success && etcdctl(&["alarm", "list"]).stdout.trim().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
