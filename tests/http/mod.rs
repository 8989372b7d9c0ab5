//! The data plane from outside, without a cluster: a development vault in this process, real TLS, real tokens, a real
//! audit file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

mod abandoned;
mod backup;
mod canary;
mod client;
mod deleted;
mod hostile;
mod matrix;
mod network;
mod projection;
mod rates;
mod secrets;
mod shapes;

use std::path::PathBuf;

use serde_json::{Value, json};
use strongroom::crypto::{IssuerKey, SigningAlgorithm};
use strongroom::dataplane::Limits;
use strongroom::gate::Rates;
use strongroom::model::Clock;
use strongroom::roles::dev::{self, Dev, Options};
use strongroom::telemetry::clock;

use client::{Answer, Endpoint, Http1, request};

/// `reader` may get, `writer` everything, `stranger` nothing; each has a pod. `other` is a vault in which `keeper` alone
/// may do anything, `strict` one that is protected and gives out what is outside its dates.
const DOCUMENTS: &str = "
apiVersion: strongroom.dev/v1alpha1
kind: Vault
metadata: {name: demo, namespace: team}
spec: {softDelete: {retentionDays: 7}}
---
apiVersion: strongroom.dev/v1alpha1
kind: Vault
metadata: {name: other, namespace: team}
spec: {}
---
apiVersion: strongroom.dev/v1alpha1
kind: Vault
metadata: {name: strict, namespace: team}
spec: {purgeProtection: true, outsideValidity: Allow}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: strict-all, namespace: team}
spec:
  vaultRef: strict
  subjects: [{kind: ServiceAccount, name: writer}]
  permissions: {secrets: [all]}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: all, namespace: team}
spec:
  vaultRef: demo
  subjects: [{kind: ServiceAccount, name: writer}]
  permissions: {secrets: [all]}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: read, namespace: team}
spec:
  vaultRef: demo
  subjects: [{kind: ServiceAccount, name: reader}]
  permissions: {secrets: [get]}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: nothing-that-exists, namespace: team}
spec:
  vaultRef: unused
  subjects: [{kind: ServiceAccount, name: stranger}]
  permissions: {secrets: [all]}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: other-all, namespace: team}
spec:
  vaultRef: other
  subjects: [{kind: ServiceAccount, name: keeper}]
  permissions: {secrets: [all]}
";

/// A development vault, and where its files are.
struct Rig {
    dev: Dev,
    endpoint: Endpoint,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        Self::with(Limits::vaults()).await
    }

    async fn with(limits: Limits) -> Self {
        Self::with_both(limits, Limits::internal()).await
    }

    async fn with_both(limits: Limits, internal: Limits) -> Self {
        Self::with_all(limits, internal, Rates::NONE, clock::system()).await
    }

    async fn with_all(limits: Limits, internal: Limits, rates: Rates, clock: Clock) -> Self {
        strongroom::tls::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(Options {
            listen: ([127, 0, 0, 1], 0).into(),
            internal: Some((([127, 0, 0, 1], 0).into(), internal)),
            documents: DOCUMENTS.to_owned(),
            issuer: IssuerKey::generate(SigningAlgorithm::ES256).unwrap(),
            audit_dir: folder.path().join("audit"),
            limits,
            rates,
            clock,
        })
        .await
        .unwrap();
        let endpoint = Endpoint::new(dev.address, &dev.trust_bundle, &[b"http/1.1"]);
        Self {
            dev,
            endpoint,
            folder,
        }
    }

    fn host(&self) -> String {
        format!("demo.vault.localhost:{}", self.dev.address.port())
    }

    fn token(&self, account: &str) -> String {
        self.dev.token(account).unwrap()
    }

    async fn connect(&self) -> Http1 {
        self.endpoint.http1("demo.vault.localhost").await
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, target: &str, token: Option<&str>, body: &str) -> Answer {
        self.ask_in("demo", method, target, token, body).await
    }

    /// The same, of another vault.
    async fn ask_in(
        &self,
        vault: &str,
        method: &str,
        target: &str,
        token: Option<&str>,
        body: &str,
    ) -> Answer {
        let name = format!("{vault}.vault.localhost");
        let host = format!("{name}:{}", self.dev.address.port());
        let request = request(method, target, &host, token, body.as_bytes());
        self.endpoint.http1(&name).await.ask(&request).await.unwrap()
    }

    /// Sets a secret as `writer` and gives what was answered.
    async fn set(&self, name: &str, value: &str) -> Value {
        let body = json!({ "value": value }).to_string();
        let answer = self
            .ask(
                "PUT",
                &format!("/secrets/{name}?api-version=7.4"),
                Some(&self.token("writer")),
                &body,
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Deletes a secret as `writer` and gives what was answered.
    async fn delete(&self, name: &str) -> Value {
        let answer = self
            .ask(
                "DELETE",
                &format!("/secrets/{name}?api-version=7.4"),
                Some(&self.token("writer")),
                "",
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn get(&self, name: &str) -> Answer {
        self.ask(
            "GET",
            &format!("/secrets/{name}/?api-version=7.4"),
            Some(&self.token("reader")),
            "",
        )
        .await
    }

    /// The path of one of our URLs.
    fn path(&self, url: &Value) -> String {
        let (_, path) = url.as_str().unwrap().split_once(&self.host()).unwrap();
        path.to_owned()
    }

    fn audit_dir(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// Everything that the audit log says.
    fn audit(&self) -> String {
        let mut files: Vec<_> = std::fs::read_dir(self.audit_dir())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        // Room that was set aside is not text.
        files
            .iter()
            .map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).replace('\0', ""))
            .collect()
    }
}

/// The claims of an account's token, to be bent by a test.
fn claims(account: &str) -> Value {
    let now = clock::system().now().wall.0;
    json!({
        "iss": dev::ISSUER,
        "aud": [dev::AUDIENCE],
        "sub": format!("system:serviceaccount:team:{account}"),
        "iat": now, "nbf": now, "exp": now + 600,
        "kubernetes.io": {
            "namespace": "team",
            "node": {"name": dev::NODE},
            "pod": {"name": format!("{account}-0"), "uid": format!("pod/team/{account}")},
            "serviceaccount": {"name": account, "uid": format!("account/team/{account}")},
        },
    })
}

/// The token of a page's link to the next.
fn skip_token(page: &Value) -> &str {
    let (_, token) = page["nextLink"]
        .as_str()
        .unwrap()
        .split_once("skiptoken=")
        .unwrap();
    token.split('&').next().unwrap()
}
