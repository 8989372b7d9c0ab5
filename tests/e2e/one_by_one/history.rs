//! What eight clients saw of two replicas while something was done to Strongroom, held against what may have happened.

use std::time::Duration;

use super::{SETTLE, all_ready, pods};
use crate::e2e::harness::{PRELUDE, RELEASE, eventually, kubectl, tenant};

/// Four clients of each replica, without retries. On each of two secrets two of them write and six read; on a third one client sets, deletes
/// and purges, and all others ask for it. Every operation is noted with its begin and end, and then judged:
///
/// - no acknowledged write is lost, and none is there twice;
/// - what one replica answers never goes back: a version read, or written, there is the oldest that a later read may see;
/// - a refusal (404) tells of a moment between its begin and its end at which the secret was not there;
/// - a read through the other replica may be late by the time that a watch takes: that is measured, and bounded.
const CLIENTS: &str = r#"
import threading, socket, ssl, collections, http.client
started = time.monotonic()
until = started + seconds
context = ssl.create_default_context(cafile=ca)
host = url.removeprefix("https://")
class Replica(http.client.HTTPSConnection):
    def __init__(self, address):
        super().__init__(host, context=context, timeout=10)
        self.address = address
    def connect(self):
        raw = socket.create_connection((self.address, 8443), 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(raw, server_hostname=host)
Op = collections.namedtuple("Op", "client replica verb name sent begin end status version value")
history, failures = [], collections.Counter()
class Client:
    def __init__(self, number):
        self.number, self.replica, self.connection = number, number % 2, None
    def do(self, verb, method, path, name, body=None, value=None):
        begin, status, version, found = time.monotonic(), None, None, None
        try:
            if self.connection is None:
                self.connection = Replica(addresses[self.replica])
            self.connection.request(method, f"{path}?api-version=7.4", body and json.dumps(body),
                {"Authorization": "Bearer " + token(), "Content-Type": "application/json"})
            answer = self.connection.getresponse()
            text = answer.read()
            status = answer.status
            if status == 200:
                told = json.loads(text)
                version, found = told["id"].rsplit("/", 1)[1], told.get("value")
        except Exception as e:
            failures[type(e).__name__] += 1
            self.connection = None
            time.sleep(0.02)
        op = Op(self.number, self.replica, verb, name, value, begin, time.monotonic(), status, version, found)
        history.append(op)
        if status not in (None, 200, 204, 404, 409):
            failures[f"{status} {json.loads(text)['error']['message'][:120]}"] += 1
            time.sleep(0.02)
        return op
    def get(self, name):
        return self.do("get", "GET", f"/secrets/{name}/", name)
    def set(self, name, value):
        return self.do("set", "PUT", f"/secrets/{name}", name, {"value": value}, value)
shared = ["one", "two"]
def works(number):
    client, n = Client(number), 0
    while time.monotonic() < until:
        n += 1
        if number < 4:
            client.set(shared[number // 2], f"{number}-{n}")
            time.sleep(0.01)
        client.get(shared[n % 2])
        if number != 7:
            client.get("comes-and-goes")
            continue
        # One life of a name: each step until it is known to be done.
        for verb, method, path in [("set", "PUT", "/secrets/"), ("delete", "DELETE", "/secrets/"), ("purge", "DELETE", "/deletedsecrets/")]:
            body = {"value": str(n)} if verb == "set" else None
            while client.do(verb, method, f"{path}comes-and-goes", "comes-and-goes", body, str(n)).status not in (200, 204, 404, 409):
                if time.monotonic() > until + 20:
                    return
            time.sleep(0.03)
threads = [threading.Thread(target=works, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
print("asking", flush=True)
[thread.join() for thread in threads]

def patiently(call):
    for _ in range(100):
        try:
            return call()
        except Exception as e:
            last = e
            time.sleep(0.2)
    raise last
stale = []
for name in shared:
    # The order in which versions were made is the order of their list: newest last by creation, and within a second by
    # what the writers themselves know.
    there = {p.version: patiently(lambda: client.get_secret(name, p.version)).value
             for p in patiently(lambda: list(client.list_properties_of_secret_versions(name)))}
    values = collections.Counter(there.values())
    assert max(values.values()) == 1, ("twice", [v for v, n in values.items() if n > 1])
    sets = [op for op in history if op.verb == "set" and op.name == name]
    done = [op for op in sets if op.status == 200]
    for op in done:
        assert there.get(op.version) == op.sent, ("lost", op)
    unknown = {op.sent for op in sets if op.status is None or op.status >= 500}
    assert set(there.values()) <= {op.sent for op in done} | unknown, "a version that nobody wrote"
    when = {}
    for op in sets:
        version = next((v for v, value in there.items() if value == op.sent), None)
        if version is not None:
            # A write whose answer was lost may have been done until it was next seen.
            when[version] = (op.begin, op.end if op.status == 200 else float("inf"))
    reads = [op for op in history if op.verb == "get" and op.name == name and op.status == 200]
    for op in reads:
        assert there.get(op.version) == op.value, ("a value that is not this version's", op)
    # A refusal of what was there all along is a lie.
    first = min(op.end for op in done)
    for op in history:
        if op.verb == "get" and op.name == name and op.status == 404:
            assert op.begin < first, ("not found", op)
    # Writes are atomic and ordered: version b came after a for certain if b began after a had ended.
    surely_after = lambda b, a: when[b][0] > when[a][1]
    for replica in (0, 1):
        seen = sorted([op for op in reads + done if op.replica == replica], key=lambda op: op.end)
        newest = []   # by end: (end, version whose write began last among those seen by then)
        ends, best = [], []
        for op in seen:
            last = op.version if not best or when[op.version][0] > when[best[-1]][0] else best[-1]
            ends.append(op.end); best.append(last)
        import bisect
        for op in reads:
            if op.replica != replica:
                continue
            at = bisect.bisect_left(ends, op.begin) - 1
            if at >= 0:
                assert not surely_after(best[at], op.version), ("one replica went back", op, best[at])
    everywhere = sorted(done, key=lambda op: op.end)
    ends = [op.end for op in everywhere]
    for op in reads:
        # The oldest write that had ended before the read began, and is surely newer than what it saw.
        at = bisect.bisect_left(ends, op.begin)
        newer = [w.end for w in everywhere[max(0, at - 200):at] if surely_after(w.version, op.version)]
        stale.append(op.begin - min(newer) if newer else 0.0)
# When the name that comes and goes was surely there: from the end of a set to the begin of the deletion after it.
steps = sorted([op for op in history if op.client == 7 and op.name == "comes-and-goes" and op.verb != "get"], key=lambda op: op.begin)
lives, end_of_set = [], None
for op in steps:
    if op.verb == "set" and op.status == 200 and end_of_set is None:
        end_of_set = op.end
    elif op.verb == "delete" and end_of_set is not None:
        lives.append((end_of_set, op.begin)); end_of_set = None
refusals = [op for op in history if op.name == "comes-and-goes" and op.verb == "get" and op.status == 404]
for op in refusals:
    assert not any(a <= op.begin and op.end <= b for a, b in lives), ("refused while it was there", op)
# And surely gone: from the end of a deletion to the begin of the next set.
gone, end_of_delete = [], None
for op in steps:
    if op.verb == "delete" and op.status == 200:
        end_of_delete = op.end
    elif op.verb == "set" and end_of_delete is not None:
        gone.append((end_of_delete, op.begin)); end_of_delete = None
ghosts = []
for op in history:
    if op.name == "comes-and-goes" and op.verb == "get" and op.status == 200:
        for a, b in gone:
            if a <= op.begin and op.end <= b:
                ghosts.append(op.begin - a)
                assert op.replica != 1 or op.begin - a <= 0, ("its own replica showed it after it was gone", op)
assert max(stale + ghosts) <= bound, ("late by", max(stale), max(ghosts, default=0))
rate = lambda verb, second: sum(1 for op in history if op.verb == verb and op.status == 200 and int(op.end - started) == second)
for verb in ("set", "get"):
    print(verb, "a second:", [rate(verb, second) for second in range(seconds)])
late = sorted(s for s in stale if s > 0)
part = lambda p: 1000 * sorted(stale)[min(len(stale) - 1, int(p * len(stale)))]
print(f"{len(history)} operations, {len(done)} last acknowledged, {len(lives)} lives, {len(refusals)} refusals, failures {dict(failures)}")
print(f"reads that were late: {len(late)} of {len(stale)}; ms late: p50 {part(.5):.1f}, p99 {part(.99):.1f}, worst {1000 * max(stale):.1f}; after a deletion {len(ghosts)}, worst {1000 * max(ghosts, default=0):.1f}")
assert len(lives) > 5 and len(refusals) > 20 and len(stale) > 500, "too little happened to judge"
print("one history")
"#;

/// Has them ask for so many seconds, and reads through the other replica be `late` at most, while `trouble` is made, which says whether it could be; before and after that a running pod
/// holds a secret in a file.
pub(in crate::e2e) fn is_one_while(
    test: &'static str,
    seconds: u64,
    late: Duration,
    trouble: impl FnOnce(&[String]) -> bool,
) {
    all_ready();
    let tenant = tenant(test);
    tenant.vault(&["get", "list", "set", "delete", "purge"]);
    tenant.pod("clients", "app", None);
    tenant
        .python("clients", "client.set_secret('watched', 'before')")
        .ok();
    tenant.pod("reader", "app", Some("- secret: watched"));
    let replicas = pods("serve");
    assert_eq!(replicas.len(), 2, "{replicas:?}");
    let address = |pod: &String| {
        let path = "jsonpath={.status.podIP}";
        kubectl(&["-n", RELEASE, "get", "pod", pod, "-o", path], None).ok()
    };
    let addresses: Vec<String> = replicas.iter().map(address).collect();
    let namespace = tenant.namespace.clone();
    let program = format!(
        "{PRELUDE}\naddresses, seconds, bound = {addresses:?}, {seconds}, {}\n{CLIENTS}",
        late.as_secs()
    );
    let clients = std::thread::spawn(move || {
        let exec = [
            "-n", &namespace, "exec", "-i", "clients", "--", "python3", "-u", "-",
        ];
        kubectl(&exec, Some(&program))
    });
    std::thread::sleep(Duration::from_secs(6));
    if trouble(&replicas) {
        assert_eq!(
            tenant.exec("reader", "cat /secrets/watched").ok(),
            "before",
            "mounted files stay"
        );
    }
    let said = clients.join().unwrap();
    println!("{test}: {}", said.stdout);
    assert!(said.ok().contains("one history"));
    tenant
        .python("clients", "client.set_secret('watched', 'after')")
        .ok();
    eventually("the mounted file is current again", SETTLE, || {
        (tenant.exec("reader", "cat /secrets/watched").ok() == "after").then_some(())
    });
    all_ready();
}
