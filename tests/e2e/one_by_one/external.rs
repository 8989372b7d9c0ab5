//! Vaults under a domain of the platform's own.

use super::{CHART, all_ready, helm};
use crate::e2e::harness::{RELEASE, kubectl, tenant};

/// The SDK with default options, under the platform's name and trusting its certificate alone. No DNS knows the name here, so
/// the pod is told where it is.
const CLIENT: &str = r#"
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
assert [p.name for p in outside.list_properties_of_secrets()] == ["outside"]
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

/// Takes away what the platform brought, whatever happened.
struct Brought;

impl Drop for Brought {
    fn drop(&mut self) {
        helm(&["rollback", "strongroom", "--wait", "--timeout", "3m"], None);
        kubectl(&["-n", RELEASE, "delete", "secret", "vaults-example-com"], None);
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_vault_answers_an_sdk_under_a_domain_of_the_platforms_and_with_its_certificate() {
    all_ready();
    let tenant = tenant("a_vault_answers_under_a_domain");
    tenant.vault(&["get", "set", "list"]);
    tenant.pod("client", "app", None);
    let certificate = rcgen::generate_simple_self_signed(vec!["*.vaults.example.com".to_owned()]).unwrap();
    let (chain, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "vaults-example-com", "namespace": RELEASE},
        "stringData": {"tls.crt": chain, "tls.key": key},
    });
    kubectl(&["apply", "-f", "-"], Some(&secret.to_string())).ok();
    let _brought = Brought;
    let domains = format!(
        "externalDomains=[{{\"domain\": \"vaults.example.com\", \"namespace\": \"{}\", \"tlsSecret\": \"vaults-example-com\"}}]",
        tenant.namespace
    );
    let upgrade = [
        "upgrade",
        "strongroom",
        CHART,
        "--reuse-values",
        "--wait",
        "--timeout",
        "3m",
        "--set-json",
        &domains,
    ];
    helm(&upgrade, None).ok();
    let said = tenant.python("client", &format!("CERTIFICATE = '''{chain}'''\n{CLIENT}"));
    println!("{}", said.ok().trim());
}
