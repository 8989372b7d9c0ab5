//! A client in a pod that goes on while kubectl reaches nobody, and what it saw; and ways to bring bad weather about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::e2e::harness::{PRELUDE, Said, Tenant, eventually, kubectl, on_node};

/// Reads a secret ten times a second and writes another four times a second, without a retry. Each attempt has a timeout
/// of 15 s and a place in time.
const PROGRAM: &str = r#"
import threading, http.client, ssl
began = time.monotonic()
def goes_on():
    return not os.path.exists("/tmp/weather.stop") and time.monotonic() < began + 180
context = ssl.create_default_context(cafile=ca)
host = url.removeprefix("https://")
seen = {"reads": [], "writes": []}
class Client:
    connection = None
    def ask(self, method, path, body=None):
        at = time.monotonic() - began
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(host, context=context, timeout=15)
            self.connection.request(method, path, body and json.dumps(body),
                {"Authorization": "Bearer " + token(), "Content-Type": "application/json"})
            response = self.connection.getresponse()
            return at, response.status, json.loads(response.read())
        except Exception as e:
            self.connection = None
            return at, type(e).__name__, {}
def reader():
    client = Client()
    while goes_on():
        at, status, body = client.ask("GET", "/secrets/watched?api-version=7.4")
        message = body.get("error", {}).get("message", "")
        seen["reads"].append({"at": at, "took": time.monotonic() - began - at, "status": str(status), "message": message})
        time.sleep(0.1)
def writer():
    client, n = Client(), 0
    while goes_on():
        n += 1
        at, status, body = client.ask("PUT", "/secrets/stream?api-version=7.4", {"value": str(n)})
        message = body.get("error", {}).get("message", "")
        version = body.get("id", "").rsplit("/", 1)[-1]
        seen["writes"].append({"at": at, "took": time.monotonic() - began - at, "status": str(status), "message": message,
            "n": n, "version": version})
        time.sleep(0.25)
threads = [threading.Thread(target=reader), threading.Thread(target=writer)]
[t.start() for t in threads]
open("/tmp/weather.began", "w").write("x")
[t.join() for t in threads]
open("/tmp/weather.part", "w").write(json.dumps(seen))
os.rename("/tmp/weather.part", "/tmp/weather.json")
"#;

/// Whatever was answered with 200 is there, in its order, once; whatever was not is there at most once, and whole.
const WHOLE: &str = r#"
import collections
def patiently(call):
    for _ in range(100):
        try:
            return call()
        except Exception as e:
            last = e
            time.sleep(0.2)
    raise last
versions = patiently(lambda: list(client.list_properties_of_secret_versions("stream")))
value = {p.version: int(patiently(lambda: client.get_secret("stream", p.version)).value) for p in versions}
counts = collections.Counter(value.values())
assert max(counts.values()) == 1, ("twice", [n for n in counts if counts[n] > 1])
acknowledged = [(w["n"], w["version"]) for w in seen["writes"] if w["status"] == "200"]
for n, version in acknowledged:
    assert value.get(version) == n, ("lost", n, version)
assert set(value.values()) <= {w["n"] for w in seen["writes"]}
latest = int(patiently(lambda: client.get_secret("stream")).value)
assert latest == max(value.values()) >= acknowledged[-1][0], ("order", latest)
print("acknowledged", len(acknowledged), "of", len(seen["writes"]), "versions", len(versions))
"#;

/// What one attempt of the client came to.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Attempt {
    /// When it began, in seconds since the client did.
    pub(super) at: f64,
    /// How long it took, in seconds.
    pub(super) took: f64,
    /// The HTTP status, or the exception's name.
    pub(super) status: String,
    /// What the error said.
    pub(super) message: String,
}

/// All that the client saw.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Seen {
    pub(super) reads: Vec<Attempt>,
    pub(super) writes: Vec<Attempt>,
}

/// A client under way, in pod `client`.
pub(super) struct Weather<'a> {
    tenant: &'a Tenant,
    began: Instant,
}

impl<'a> Weather<'a> {
    /// A vault with what is read and written, a pod that has the volume too, and the client.
    #[track_caller]
    pub(super) fn begin(tenant: &'a Tenant) -> Self {
        tenant.vault(&["get", "list", "set"]);
        tenant.pod("client", "app", None);
        tenant
            .python("client", "client.set_secret('watched', 'before')")
            .ok();
        tenant.pod("reader", "app", Some("- secret: watched"));
        let program = format!("{PRELUDE}\n{PROGRAM}");
        let write = [
            "-n",
            &tenant.namespace,
            "exec",
            "-i",
            "client",
            "--",
            "sh",
            "-c",
            "cat >/tmp/weather.py",
        ];
        kubectl(&write, Some(&program)).ok();
        tenant
            .exec(
                "client",
                "setsid nohup python3 /tmp/weather.py </dev/null >/tmp/weather.log 2>&1 & while [ ! -e /tmp/weather.began ]; do sleep 0.1; done",
            )
            .ok();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        Self { tenant, began }
    }

    /// Seconds since the client began.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Ends the client after so many seconds of good weather. Nothing acknowledged is lost, nothing is there twice, the
    /// mounted file stayed.
    #[track_caller]
    pub(super) fn end_after(self, seconds: u64) -> Seen {
        std::thread::sleep(Duration::from_secs(seconds));
        self.tenant.exec("client", "touch /tmp/weather.stop").ok();
        let limit = Duration::from_secs(30);
        let json = eventually("the client's end", limit, || {
            let said = self.tenant.exec(
                "client",
                "cat /tmp/weather.json || { cat /tmp/weather.log >&2; false; }",
            );
            said.success.then_some(said.stdout)
        });
        let whole = format!("seen = json.loads(r'''{json}''')\n{WHOLE}");
        println!("{}", self.tenant.python("client", &whole).ok().trim());
        assert_eq!(self.tenant.exec("reader", "cat /secrets/watched").ok(), "before");
        serde_json::from_str(&json).unwrap()
    }
}

/// How often each status came among these.
pub(super) fn tally<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> BTreeMap<&'a str, usize> {
    let mut tally = BTreeMap::new();
    for attempt in attempts {
        *tally.entry(attempt.status.as_str()).or_default() += 1;
    }
    tally
}

/// Those that began in this time: some did.
#[track_caller]
pub(super) fn between(attempts: &[Attempt], from: f64, to: f64) -> Vec<&Attempt> {
    let found: Vec<_> = attempts
        .iter()
        .filter(|attempt| attempt.at >= from && attempt.at < to)
        .collect();
    assert!(!found.is_empty(), "nothing was tried from {from:.1} to {to:.1}");
    found
}

/// A part of the control plane that is away until this is dropped.
pub(super) struct Away(&'static str);

impl Away {
    /// Takes a static pod away; none where the node is not ours to enter.
    pub(super) fn take(part: &'static str) -> Option<Self> {
        let said = on_node(&format!(
            "mkdir -p /etc/kubernetes/away && mv /etc/kubernetes/manifests/{part}.yaml /etc/kubernetes/away/ && pkill -KILL -x {part}"
        ))?;
        // Before it is known whether that went well: half of it is to be undone too.
        let away = Self(part);
        said.ok();
        Some(away)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let part = self.0;
        let _ = on_node(&format!(
            "mv /etc/kubernetes/away/{part}.yaml /etc/kubernetes/manifests/"
        ));
        control_plane_answers();
    }
}

/// Waits until the API server is ready, etcd included.
pub(super) fn control_plane_answers() {
    let until = Instant::now() + Duration::from_secs(90);
    while !ready_again().success && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn ready_again() -> Said {
    kubectl(&["get", "--raw", "/readyz", "--request-timeout=3s"], None)
}
