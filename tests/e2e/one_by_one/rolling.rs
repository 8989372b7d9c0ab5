//! An upgrade with another image and other values, under clients that retry as the SDKs do: among the values a domain of the
//! platform's own.

use super::{CHART, all_ready, helm};
use crate::e2e::harness::{PRELUDE, RELEASE, kubectl, on_node, tenant};

/// Four readers with the SDK's default options, of which two make a new connection each time.
const READERS: &str = r#"
import threading
failures, reads, slowest = [], [0] * 4, [0.0] * 4
def reader(i):
    own = SecretClient(url, ProjectedToken())
    while not os.path.exists("/tmp/stop"):
        began = time.monotonic()
        try:
            assert own.get_secret("watched").value == "before"
            reads[i] += 1
        except Exception as e:
            failures.append((type(e).__name__, str(e)[:300]))
        slowest[i] = max(slowest[i], time.monotonic() - began)
        if i % 2:
            own = SecretClient(url, ProjectedToken())
        time.sleep(0.02)
threads = [threading.Thread(target=reader, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print("reads", reads, "slowest", [round(s, 2) for s in slowest], "failures", failures[:5])
assert not failures and min(reads) > 50
"#;

/// The SDK with default options, under the platform's name and trusting its certificate alone. No DNS knows the name here, so
/// the pod is told where it is.
const OUTSIDE: &str = r#"
import socket, ssl
service, asked = socket.gethostbyname("strongroom.strongroom-system.svc"), socket.getaddrinfo
def told(host, *rest, **more):
    return asked(service if host.endswith(".example.com") else host, *rest, **more)
socket.getaddrinfo = told
open("/tmp/platform.pem", "w").write(CERTIFICATE)
os.environ["REQUESTS_CA_BUNDLE"] = "/tmp/platform.pem"
outside = SecretClient("https://demo.vaults.example.com", ProjectedToken())
made = outside.set_secret("outside", "in")
assert made.id.startswith("https://demo.vaults.example.com/secrets/outside/"), made.id
assert outside.get_secret("outside").value == "in"
assert "outside" in [p.name for p in outside.list_properties_of_secrets()]
os.environ["REQUESTS_CA_BUNDLE"] = ca
assert client.get_secret("outside").value == "in"
for stranger in ["demo.example.com", "x.demo.vaults.example.com"]:
    try:
        with socket.create_connection((service, 443)) as plain:
            ssl._create_unverified_context().wrap_socket(plain, server_hostname=stranger)
        raise SystemExit(stranger + " was served")
    except ssl.SSLError as e:
        print(stranger, e.reason)
"#;

/// The platform's certificate for its domain, in a Secret; hands back the certificate and the value that assigns the domain.
fn domain(namespace: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["*.vaults.example.com".to_owned()]).unwrap();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "vaults-example-com", "namespace": RELEASE},
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    kubectl(&["apply", "-f", "-"], Some(&secret.to_string())).ok();
    let assigned = serde_json::json!([
        {"domain": "vaults.example.com", "namespace": namespace, "tlsSecret": "vaults-example-com"}
    ]);
    (made.cert.pem(), format!("externalDomains={assigned}"))
}

#[test]
#[ignore = "needs a cluster"]
fn an_upgrade_with_another_image_and_other_values_fails_no_read_of_an_sdk() {
    all_ready();
    let tenant = tenant("an_upgrade_with_another_image");
    tenant.vault(&["get", "set", "list"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('watched', 'before')")
        .ok();
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployment = [
        "-n",
        "strongroom-system",
        "get",
        "deployment",
        "strongroom-operate",
        "-o",
        image,
    ];
    let image = kubectl(&deployment, None).ok();
    let (repository, _) = image.rsplit_once(':').unwrap();
    let tag = format!("ctr -n k8s.io images tag --force {image} {repository}:upgraded");
    let Some(tagged) = on_node(&tag) else { return };
    tagged.ok();
    let namespace = tenant.namespace.clone();
    let readers = std::thread::spawn(move || {
        let arguments = [
            "-n", &namespace, "exec", "-i", "client", "--", "python3", "-u", "-",
        ];
        kubectl(&arguments, Some(&format!("{PRELUDE}\n{READERS}")))
    });
    let (certificate, domains) = domain(&tenant.namespace);
    let upgrade = [
        "upgrade",
        "strongroom",
        CHART,
        "--reuse-values",
        "--wait",
        "--timeout",
        "3m",
        "--set",
        "image.tag=upgraded,stalenessBound=4m",
        "--set-json",
        &domains,
    ];
    let upgraded = helm(&upgrade, None);
    let running = kubectl(&deployment, None);
    let outside = tenant.python("client", &format!("CERTIFICATE = '''{certificate}'''\n{OUTSIDE}"));
    let back = helm(&["rollback", "strongroom", "--wait", "--timeout", "3m"], None);
    let _ = on_node(&format!("ctr -n k8s.io images rm {repository}:upgraded"));
    tenant.exec("client", "touch /tmp/stop").ok();
    let said = readers.join().unwrap().ok();
    println!("{}", said.trim());
    kubectl(&["-n", RELEASE, "delete", "secret", "vaults-example-com"], None);
    upgraded.ok();
    back.ok();
    println!("{}", outside.ok().trim());
    assert!(running.ok().ends_with(":upgraded"));
    all_ready();
}
