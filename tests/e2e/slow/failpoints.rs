//! What no `kill -9` from outside hits by chance: `serve` dies at points within a change, and a clock that is off. The build with
//! failpoints (`src/failpoints.rs`) runs as one replica, the product as the other.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use crate::e2e::harness::{RELEASE, Said, Tenant, eventually, kubectl, on_node, tenant};
use crate::e2e::one_by_one::{AUDIT_FOLDER, all_ready, pods, process};

const SOON: Duration = Duration::from_secs(10);
const RESTART: Duration = Duration::from_secs(60);
/// In how many seconds a record that nobody names is collected, from the second look at the latest.
const COLLECTED: &str = "10";

/// Asks one replica by its address, each time on a connection of its own and without a retry, and what it shows of a secret.
const CLIENT: &str = r#"
import http.client, socket, ssl, uuid
context = ssl.create_default_context(cafile=ca)
host = url.removeprefix("https://")
class Replica(http.client.HTTPSConnection):
    def __init__(self, address):
        super().__init__(host, context=context, timeout=15)
        self.address = address
    def connect(self):
        self.sock = context.wrap_socket(socket.create_connection((self.address, 8443), self.timeout), server_hostname=host)
def ask(address, method, path, body=None, id=None):
    headers = {"Authorization": "Bearer " + token(), "Content-Type": "application/json", "x-ms-client-request-id": id or str(uuid.uuid4())}
    try:
        connection = Replica(address)
        connection.request(method, path + "?api-version=7.4", body and json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        return None, {}
    return answer.status, json.loads(text or "{}")
def large(word):
    return " ".join([word] * 800)
def word(value):
    words = value.split()
    assert len(set(words)) == 1 and len(words) in (1, 800), "not a whole value"
    return words[0]
def see(address, name):
    status, newest = ask(address, "GET", f"/secrets/{name}")
    listed, page = ask(address, "GET", f"/secrets/{name}/versions")
    assert listed == 200 and page["nextLink"] is None, (listed, page)
    versions = [ask(address, "GET", item["id"].removeprefix(url)) for item in page["value"]]
    assert all(status == 200 for status, _ in versions), versions
    words = " ".join(sorted(word(version["value"]) for _, version in versions)) or "none"
    return f"{word(newest['value'])} of {words}" if status == 200 else f"{status} of {words}"
"#;

/// One replica runs the build with failpoints until this is dropped.
struct Failing {
    pod: String,
    set: String,
    image: String,
    /// What takes it back.
    back: Value,
}

impl Failing {
    /// The replica of the highest number, with these variables in its environment. None, and said loudly, where there is no
    /// such build or the node is not ours to enter.
    fn run(environment: &[(&str, &str)]) -> Option<Self> {
        let Ok(image) = std::env::var("STRONGROOM_FAILPOINT_IMAGE") else {
            println!(
                "SKIPPED: this needs the build with failpoints (STRONGROOM_FAILPOINT_IMAGE); `make e2e TEST=failpoints` makes it"
            );
            return None;
        };
        let pod = pods("serve").into_iter().max().expect("a replica");
        // What a test left behind that was cut off.
        disarm(&pod)?;
        let (set, number) = pod.rsplit_once('-').unwrap();
        let get = ["-n", RELEASE, "get", "statefulset", set, "-o", "json"];
        let whole: Value = serde_json::from_str(&kubectl(&get, None).ok()).unwrap();
        let back = |path: &str| json!({"op": "replace", "path": path, "value": whole.pointer(path).expect("a whole StatefulSet")});
        let failing = Self {
            set: format!("statefulset/{set}"),
            back: json!([back("/spec/template"), back("/spec/updateStrategy")]),
            pod: pod.clone(),
            image,
        };
        let variables: Vec<_> = environment
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let serve = json!({"name": "serve", "image": failing.image, "env": variables});
        let partition: u32 = number.parse().unwrap();
        let patch = json!({"spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
            "template": {"spec": {"containers": [serve]}},
        }});
        failing.patch("strategic", &patch).ok();
        Some(failing)
    }

    fn patch(&self, kind: &str, patch: &Value) -> Said {
        let (kind, patch) = (format!("--type={kind}"), patch.to_string());
        kubectl(&["-n", RELEASE, "patch", &self.set, &kind, "-p", &patch], None)
    }

    /// Whether its pod is one of this build.
    fn runs(&self) -> bool {
        of_pod(&self.pod, ".spec.containers[0].image") == self.image
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let back = self.patch("json", &self.back);
        if std::thread::panicking() {
            println!("the product runs again: {}", back.success);
        } else {
            back.ok();
            all_ready();
        }
    }
}

/// What a pod says of itself; nothing where it is not there.
fn of_pod(pod: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    kubectl(&["-n", RELEASE, "get", "pod", pod, "-o", &path], None).stdout
}

fn address(pod: &str) -> String {
    of_pod(pod, ".status.podIP")
}

fn restarts(pod: &str) -> String {
    of_pod(pod, ".status.containerStatuses[0].restartCount")
}

fn is_ready(pod: &str) -> bool {
    of_pod(pod, ".status.conditions[?(@.type==\"Ready\")].status") == "True"
}

/// A command on the node, in a replica's folder; none where the node is not ours to enter.
fn in_folder(pod: &str, command: &str) -> Option<Said> {
    let process = process(pod)?;
    on_node(&format!("cd /proc/{process}/root{AUDIT_FOLDER} && {command}"))
}

/// No point is armed; none where the node is not ours to enter.
fn disarm(pod: &str) -> Option<()> {
    in_folder(pod, "rm -f failpoint-*")?.ok();
    Some(())
}

/// Names of all sealed records.
fn records() -> BTreeSet<String> {
    let path = "jsonpath={.items[*].metadata.name}";
    let said = kubectl(&["-n", RELEASE, "get", "sealedrecords", "-o", path], None).ok();
    said.split_whitespace().map(str::to_owned).collect()
}

/// Records of these that are still there.
fn left(these: &BTreeSet<String>) -> usize {
    records().intersection(these).count()
}

/// A vault, a client, a replica that is to die and one that is not.
struct Rig {
    tenant: Tenant,
    failing: Failing,
    other: String,
}

impl Rig {
    fn start(test: &'static str, environment: &[(&str, &str)]) -> Option<Self> {
        all_ready();
        let failing = Failing::run(&[environment, &[("STRONGROOM_FAILPOINTS", AUDIT_FOLDER)]].concat())?;
        let other = pods("serve").into_iter().find(|pod| *pod != failing.pod);
        all_ready();
        assert!(
            failing.runs(),
            "{} is not of the build with failpoints",
            failing.pod
        );
        let tenant = tenant(test);
        tenant.vault(&[
            "get", "list", "set", "delete", "recover", "purge", "backup", "restore",
        ]);
        tenant.pod("client", "app", None);
        let rig = Self {
            tenant,
            failing,
            other: other.expect("another replica"),
        };
        rig.ask("assert ask(ARMED, 'PUT', '/secrets/before', {'value': large('before')})[0] == 200");
        Some(rig)
    }

    /// A program that knows both replicas.
    #[track_caller]
    fn ask(&self, program: &str) -> String {
        let (armed, other) = (address(&self.failing.pod), address(&self.other));
        let whole = format!("ARMED, OTHER = {armed:?}, {other:?}\n{CLIENT}\n{program}");
        self.tenant.python("client", &whole).ok().trim().to_owned()
    }

    /// Both replicas show this of a secret: its newest version of all its versions, each of them whole. What was acknowledged
    /// before is there too.
    #[track_caller]
    fn both_show(&self, name: &str, expected: &str) {
        self.show("(OTHER, ARMED)", name, expected);
    }

    #[track_caller]
    fn show(&self, replicas: &str, name: &str, expected: &str) {
        let look = format!(
            "for replica in {replicas}:\n    assert see(replica, 'before') == 'before of before'\nuntil = time.monotonic() + 10\n\
             while set(seen := [see(replica, {name:?}) for replica in {replicas}]) != {{{expected:?}}} and time.monotonic() < until:\n    \
             time.sleep(0.2)\nprint(*seen, sep=', ')"
        );
        let seen = self.ask(&look);
        assert!(seen.split(", ").all(|seen| seen == expected), "{name}: {seen}");
    }

    /// The one replica dies at a point within this request, which is the arguments of `ask` in Python. Hands back the
    /// request's id.
    #[track_caller]
    fn dies(&self, point: &str, request: &str) -> String {
        let pod = &self.failing.pod;
        // A container that dies again is started again later and later; one of a new pod is at once.
        if restarts(pod) != "0" {
            kubectl(&["-n", RELEASE, "delete", "pod", pod, "--grace-period=1"], None).ok();
            eventually("a new pod", RESTART, || is_ready(pod).then_some(()));
        }
        disarm(pod).expect("a node");
        in_folder(pod, &format!("touch failpoint-{point}")).unwrap().ok();
        let id = self.ask(&format!(
            "id = str(uuid.uuid4())\nanswer = ask(ARMED, {request}, id=id)\nassert answer == (None, {{}}), answer\nprint(id)"
        ));
        println!("{point}: died within {}", request.get(..40).unwrap_or(request));
        id
    }

    /// It is there again, did die at that point and not at another, and the request's intent is on record without an outcome.
    #[track_caller]
    fn back(&self, point: &str, id: &str) {
        let pod = &self.failing.pod;
        eventually("it is started again", RESTART, || {
            (restarts(pod) == "1" && is_ready(pod)).then_some(())
        });
        let armed = in_folder(pod, "ls -d failpoint-* 2>/dev/null || true")
            .unwrap()
            .ok();
        assert_eq!(armed, "", "it died elsewhere than at {point}");
        let lines = in_folder(pod, &format!("grep -h {id} *.log")).unwrap().ok();
        let lines: Vec<&str> = lines.lines().collect();
        assert!(
            matches!(lines[..], [intent] if intent.contains(r#""stage":"Intent""#)),
            "on record: {lines:?}"
        );
    }

    /// What is sent again with the same id, as an SDK does, to another replica, as its Service does.
    #[track_caller]
    fn retry(&self, request: &str, id: &str, status: u16) {
        self.ask(&format!(
            "status, body = ask(OTHER, {request}, id={id:?})\nassert status == {status}, (status, body)"
        ));
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_change_that_is_killed_between_intent_and_outcome_is_done_or_not_done_and_its_retry_does_it_once() {
    let Some(rig) = Rig::start("a_change_that_is_killed_between_intent_and_outcome", &[]) else {
        return;
    };
    rig.ask(
        "for name in ('kept', 'leaves'):\n    assert ask(OTHER, 'PUT', f'/secrets/{name}', {'value': 'first'})[0] == 200",
    );
    let mut versions = vec!["first"];
    for (point, value, done) in [
        ("intent-recorded", "second", false),
        ("head-written", "third", true),
        ("effect-made", "fourth", true),
    ] {
        let shown = |newest: &str, versions: &[&str]| {
            let mut sorted = versions.to_vec();
            sorted.sort_unstable();
            format!("{newest} of {}", sorted.join(" "))
        };
        let before = shown(versions.last().unwrap(), &versions);
        versions.push(value);
        let after = shown(value, &versions);
        let request = format!("'PUT', '/secrets/kept', {{'value': {value:?}}}");
        let id = rig.dies(point, &request);
        let meanwhile = if done { &after } else { &before };
        rig.show("(OTHER,)", "kept", meanwhile);
        rig.back(point, &id);
        rig.both_show("kept", meanwhile);
        rig.retry(&request, &id, 200);
        rig.both_show("kept", &after);
    }
    let request = "'DELETE', '/secrets/leaves'";
    let id = rig.dies("head-written", request);
    rig.show("(OTHER,)", "leaves", "404 of none");
    rig.back("head-written", &id);
    rig.both_show("leaves", "404 of none");
    rig.retry(request, &id, 200);
    let brought_back = "status, body = ask(ARMED, 'POST', '/deletedsecrets/leaves/recover')\nassert status == 200, (status, body)";
    rig.ask(brought_back);
    rig.both_show("leaves", "first of first");
}

#[test]
#[ignore = "needs a cluster"]
fn a_change_that_is_killed_between_body_and_head_is_not_there_and_leaves_no_orphan() {
    let Some(rig) = Rig::start(
        "a_change_that_is_killed_between_body_and_head",
        &[("STRONGROOM_FAILPOINTS_COLLECT", COLLECTED)],
    ) else {
        return;
    };
    // One value, and the head that is to name it is not written.
    rig.ask("assert ask(OTHER, 'PUT', '/secrets/kept', {'value': large('first')})[0] == 200");
    let before = records();
    let request = "'PUT', '/secrets/kept', {'value': large('second')}";
    let id = rig.dies("parts-written", request);
    let value: BTreeSet<_> = records().difference(&before).cloned().collect();
    assert_eq!(value.len(), 1, "{value:?}");
    rig.show("(OTHER,)", "kept", "first of first");
    rig.back("parts-written", &id);
    rig.both_show("kept", "first of first");
    rig.retry(request, &id, 200);
    rig.both_show("kept", "second of first second");
    eventually("nothing of it is left", RESTART, || {
        (left(&value) == 0).then_some(())
    });
    rig.both_show("kept", "second of first second");

    // Some of many values: a secret of twelve versions that is restored.
    let words: Vec<String> = (10..22).map(|number| format!("v{number}")).collect();
    let whole = format!("v21 of {}", words.join(" "));
    rig.ask(
        "for n in range(10, 22):\n    assert ask(OTHER, 'PUT', '/secrets/many', {'value': large(f'v{n}')})[0] == 200\n\
         status, backup = ask(OTHER, 'POST', '/secrets/many/backup')\nassert status == 200\n\
         json.dump(backup, open('/tmp/backup', 'w'))\n\
         assert ask(OTHER, 'DELETE', '/secrets/many')[0] == 200\nassert ask(OTHER, 'DELETE', '/deletedsecrets/many')[0] == 204",
    );
    let before = records();
    let request = "'POST', '/secrets/restore', json.load(open('/tmp/backup'))";
    let id = rig.dies("part-written", request);
    let new = || records().difference(&before).cloned().collect::<BTreeSet<_>>();
    let mut values = new();
    assert!((1..12).contains(&values.len()), "{}", values.len());
    rig.show("(OTHER,)", "many", "404 of none");
    rig.back("part-written", &id);
    // What was still on its way to the API server when it died.
    values.extend(new());
    rig.both_show("many", "404 of none");
    rig.retry(request, &id, 200);
    rig.both_show("many", &whole);
    eventually("nothing of the first try is left", RESTART, || {
        (left(&values) == 0).then_some(())
    });
    rig.both_show("many", &whole);
}

/// The answers of each replica to who wants to see a secret, its versions, the deleted one, or to have it back.
const TRACES: &str = r#"
def traces(address):
    gone, listed, deleted, back = (ask(address, method, path) for method, path in [("GET", f"/secrets/{NAME}"),
        ("GET", f"/secrets/{NAME}/versions"), ("GET", f"/deletedsecrets/{NAME}"), ("POST", f"/deletedsecrets/{NAME}/recover")])
    return gone[0], len(listed[1].get("value", "?")), deleted[0], back[0]
until = time.monotonic() + 10
while set(seen := [traces(address) for address in ADDRESSES]) != {EXPECTED} and time.monotonic() < until:
    time.sleep(0.2)
assert set(seen) == {EXPECTED}, seen
"#;

#[test]
#[ignore = "needs a cluster"]
fn a_purge_that_is_killed_half_way_has_no_way_back_shows_nothing_and_the_next_one_ends_it() {
    let Some(rig) = Rig::start("a_purge_that_is_killed_half_way", &[]) else {
        return;
    };
    // Beside twelve values there is the head.
    let cases: [(&str, RangeInclusive<usize>); 3] = [
        ("purge-marked", 13..=13),
        ("part-removed", 5..=12),
        ("parts-removed", 1..=1),
    ];
    for (point, expected) in cases {
        let before = records();
        rig.ask(&format!(
            "for n in range(12):\n    assert ask(OTHER, 'PUT', '/secrets/{point}', {{'value': large(f'v{{n}}')}})[0] == 200\n\
             assert ask(OTHER, 'DELETE', '/secrets/{point}')[0] == 200"
        ));
        let made: BTreeSet<_> = records().difference(&before).cloned().collect();
        assert_eq!(made.len(), 13);
        let request = format!("'DELETE', '/deletedsecrets/{point}'");
        let traces = |addresses: &str, expected: &str| {
            rig.ask(&format!(
                "NAME, ADDRESSES, EXPECTED = {point:?}, {addresses}, {expected}\n{TRACES}"
            ))
        };
        let id = rig.dies(point, &request);
        traces("(OTHER,)", "(404, 0, 404, 409)");
        rig.back(point, &id);
        traces("(OTHER, ARMED)", "(404, 0, 404, 409)");
        let found = left(&made);
        assert!(expected.contains(&found), "{point}: {found} records are left");
        // Whoever asks next ends it: the replica that died, or another.
        let by = if point == "part-removed" { "ARMED" } else { "OTHER" };
        rig.ask(&format!(
            "status, body = ask({by}, {request})\nassert status == 204, (status, body)"
        ));
        assert_eq!(left(&made), 1, "the receipt");
        traces("(OTHER, ARMED)", "(404, 0, 404, 404)");
        rig.ask(&format!(
            "assert ask(ARMED, 'PUT', '/secrets/{point}', {{'value': 'anew'}})[0] == 200"
        ));
        rig.both_show(point, "anew of anew");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_replica_whose_clock_is_ten_minutes_off_is_not_ready_and_refuses_tokens() {
    all_ready();
    let tenant = tenant("a_replica_whose_clock_is_ten_minutes_off");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('watched', 'before')")
        .ok();
    // Behind: it would let tokens in whose time is over. One that is ahead shows certificates that are not valid yet.
    let Some(failing) = Failing::run(&[("STRONGROOM_FAILPOINTS_CLOCK", "-600")]) else {
        return;
    };
    let pod = failing.pod.clone();
    let said = eventually("it says why it is not ready", RESTART, || {
        let look = format!("curl -sS -m 5 http://{}:8080/readyz", address(&pod));
        let said = tenant.exec("client", &look).stdout;
        (failing.runs() && said.lines().count() == 1 && said.contains("clock")).then_some(said)
    });
    assert_eq!(
        said.trim(),
        "standing: this replica's clock differs from the API server's by more than 30 s"
    );
    let others: Vec<String> = pods("serve").into_iter().filter(|other| *other != pod).collect();
    let expected: BTreeSet<String> = others.iter().map(|other| address(other)).collect();
    eventually("the Service leads to the others alone", SOON, || {
        (endpoints() == expected).then_some(())
    });
    assert!(!is_ready(&pod));

    let straight = |program: &str| {
        let whole = format!("OFF = {:?}\n{CLIENT}\n{program}", address(&pod));
        tenant.python("client", &whole).ok()
    };
    let refused = "for _ in range(5):\n    for method, body in (('GET', None), ('PUT', {'value': 'after'})):\n        \
         status, body = ask(OFF, method, '/secrets/watched', body)\n        assert status == 503, (status, body)\n    time.sleep(1)\n\
         print(body['error']['message'])";
    let refused = straight(refused);
    println!("it says: {}", refused.trim());
    assert!(refused.contains("clock differs"), "{refused}");
    let by_the_service = "for _ in range(20):\n    own = SecretClient(url, ProjectedToken(), retry_total=0)\n    \
         assert own.get_secret('watched').value == 'before'\n    own.set_secret('other', 'x')";
    tenant.python("client", by_the_service).ok();
    assert!(!is_ready(&pod), "it does not take itself to be right");

    drop(failing);
    let served = "status, body = ask(OFF, 'GET', '/secrets/watched')\nassert (status, body.get('value')) == (200, 'before'), (status, body)";
    straight(served);
}

/// Addresses that the Service of all vaults leads to.
fn endpoints() -> BTreeSet<String> {
    let path = "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}";
    let service = "kubernetes.io/service-name=strongroom";
    let get = ["-n", RELEASE, "get", "endpointslices", "-l", service, "-o", path];
    let said = kubectl(&get, None).ok();
    said.split_whitespace().map(str::to_owned).collect()
}
