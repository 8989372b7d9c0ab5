//! What every test on the cluster needs: a namespace of its own, kubectl, and a pod to run a client in.
//!
//! Tests use kubectl as their user does. They know a kubeconfig (KUBECONFIG), an image for clients
//! (STRONGROOM_E2E_IMAGE), where they need the node itself, its container (STRONGROOM_NODE), and where they have a process die
//! at a point, the image of a build that does (STRONGROOM_FAILPOINT_IMAGE).

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The namespace that Strongroom is installed in.
pub(crate) const RELEASE: &str = "strongroom-system";

/// A namespace of a test's own. It goes when the test ends, also by a panic.
pub(crate) struct Tenant {
    pub(crate) namespace: String,
    test: &'static str,
    began: Instant,
}

/// Takes a namespace for a test; its name tells which test it was.
pub(crate) fn tenant(test: &'static str) -> Tenant {
    let nanos = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .subsec_nanos();
    let short: String = test.chars().filter(char::is_ascii_lowercase).take(20).collect();
    let namespace = format!("e2e-{short}-{nanos:08x}");
    kubectl(&["create", "namespace", &namespace], None).ok();
    Tenant {
        namespace,
        test,
        began: Instant::now(),
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        println!("{}: {:.1} s", self.test, took.as_secs_f64());
        if std::thread::panicking() {
            self.tell_what_is_there();
        } else if took > Duration::from_secs(60) {
            println!("SLOW: {} took more than 60 s", self.test);
        }
        let _ = kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], None);
    }
}

/// What a command printed.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Its standard output, where it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.success, "failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it said, where it failed.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.success, "succeeded, and should not have: {}", self.stdout);
        self.stderr
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs kubectl, with `input` on its standard input.
pub(crate) fn kubectl(arguments: &[&str], input: Option<&str>) -> Said {
    run("kubectl", arguments, input)
}

/// Runs a program, with `input` on its standard input.
pub(crate) fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Said {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start ({error}); run these tests by `make e2e`"));
    if let Some(input) = input {
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap().into()
}

/// A command in the node's container: none, and said loudly, where the node is not ours to enter.
pub(crate) fn on_node(command: &str) -> Option<Said> {
    let (Ok(engine), Ok(node)) = (
        std::env::var("STRONGROOM_ENGINE"),
        std::env::var("STRONGROOM_NODE"),
    ) else {
        println!("SKIPPED: this needs the node's own container, and there is none on this cluster");
        return None;
    };
    Some(run(&engine, &["exec", &node, "sh", "-c", command], None))
}

/// The image of clients.
pub(crate) fn client_image() -> String {
    std::env::var("STRONGROOM_E2E_IMAGE")
        .expect("STRONGROOM_E2E_IMAGE is not set; run these tests by `make e2e`")
}

/// Asks again until `look` gives something, at most for `limit`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        #[allow(
            clippy::disallowed_methods,
            reason = "a test that waits for a cluster has nothing else to wait on"
        )]
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Tenant {
    /// kubectl in this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Said {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(arguments);
        kubectl(&all, None)
    }

    /// Applies manifests in this namespace.
    pub(crate) fn apply(&self, yaml: &str) -> Said {
        kubectl(&["--namespace", &self.namespace, "apply", "-f", "-"], Some(yaml))
    }

    /// A vault `demo` that is ready, with a policy that gives service account `app` these permissions.
    #[track_caller]
    pub(crate) fn vault(&self, permissions: &[&str]) {
        let mut yaml = String::from(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo}\nspec: {}\n---\n\
             apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app}\n",
        );
        yaml.push_str(&policy("app", "app", permissions));
        self.apply(&yaml).ok();
        self.ready("vaults.strongroom.dev/demo");
        self.ready("accesspolicies.strongroom.dev/app");
    }

    /// Waits for condition Ready.
    #[track_caller]
    pub(crate) fn ready(&self, resource: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", "--timeout=30s", resource])
            .ok();
    }

    /// A pod of the client image that sleeps, with a token for Strongroom, and the vault's volume if objects are given.
    #[track_caller]
    pub(crate) fn pod(&self, name: &str, account: &str, objects: Option<&str>) {
        self.apply(&pod(name, account, objects)).ok();
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=45s",
            &format!("pod/{name}"),
        ])
        .ok();
    }

    /// A shell command in a pod.
    pub(crate) fn exec(&self, pod: &str, command: &str) -> Said {
        self.kubectl(&["exec", pod, "--", "sh", "-c", command])
    }

    /// A Python program in a pod. It finds `client` (a SecretClient for vault `demo`), `token()`, `url` and `ca` there.
    pub(crate) fn python(&self, pod: &str, program: &str) -> Said {
        let whole = format!("{PRELUDE}\n{program}");
        let arguments = [
            "--namespace",
            &self.namespace,
            "exec",
            "-i",
            pod,
            "--",
            "python3",
            "-u",
            "-",
        ];
        kubectl(&arguments, Some(&whole))
    }

    fn tell_what_is_there(&self) {
        for what in [
            &["get", "pods", "-o", "wide"][..],
            &["get", "strongroom", "-o", "yaml"],
            &["get", "events"],
        ] {
            let said = self.kubectl(what);
            println!(
                "{}: kubectl {}\n{}{}",
                self.test,
                what.join(" "),
                said.stdout,
                said.stderr
            );
        }
        let arguments = [
            "-n",
            RELEASE,
            "logs",
            "--all-containers",
            "--prefix",
            "--tail=8",
            "-l",
            "app.kubernetes.io/name=strongroom",
        ];
        println!("{}: logs\n{}", self.test, kubectl(&arguments, None).stdout);
    }
}

pub(crate) const PRELUDE: &str = r#"
import os, sys, time, json
from azure.core.credentials import AccessToken
from azure.keyvault.secrets import SecretClient
namespace = os.environ["NAMESPACE"]
ca = "/etc/strongroom/ca.crt"
os.environ["REQUESTS_CA_BUNDLE"] = ca
url = f"https://demo.{namespace}.svc"
def token():
    return open("/var/run/secrets/strongroom/token").read()
class ProjectedToken:
    def get_token(self, *scopes, **kwargs):
        return AccessToken(token(), int(time.time()) + 300)
client = SecretClient(url, ProjectedToken())
"#;

/// An AccessPolicy on vault `demo`, as a YAML document.
pub(crate) fn policy(name: &str, account: &str, permissions: &[&str]) -> String {
    format!(
        "---\napiVersion: strongroom.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}}}\nspec:\n  vaultRef: demo\n  \
         subjects:\n  - {{kind: ServiceAccount, name: {account}}}\n  permissions:\n    secrets: [{}]\n",
        permissions.join(", ")
    )
}

/// A client's pod, as a YAML document.
pub(crate) fn pod(name: &str, account: &str, objects: Option<&str>) -> String {
    let image = client_image();
    let mut yaml = format!(
        r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  serviceAccountName: {account}
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000}}
  containers:
  - name: client
    image: {image}
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
    env:
    - {{name: NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
    volumeMounts:
    - {{name: token, mountPath: /var/run/secrets/strongroom}}
    - {{name: ca, mountPath: /etc/strongroom}}
"#
    );
    if objects.is_some() {
        yaml.push_str("    - {name: vault, mountPath: /secrets, readOnly: true}\n");
    }
    yaml.push_str(
        "  volumes:\n  - name: token\n    projected:\n      sources:\n      - serviceAccountToken: {path: token, audience: strongroom.dev, expirationSeconds: 600}\n  \
         - name: ca\n    configMap: {name: strongroom-ca}\n",
    );
    if let Some(objects) = objects {
        yaml.push_str(
            "  - name: vault\n    csi:\n      driver: csi.strongroom.dev\n      readOnly: true\n      volumeAttributes:\n        vault: demo\n        objects: |\n",
        );
        for line in objects.lines() {
            let _ = writeln!(yaml, "          {line}");
        }
    }
    yaml
}
