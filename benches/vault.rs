//! The server under test: a development vault with so many secrets.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use serde_json::json;
use strongroom::crypto::{IssuerKey, SigningAlgorithm};
use strongroom::dataplane::Limits;
use strongroom::gate::{Rates, Request};
use strongroom::model::{AttributesChange, ObjectName, Operation, SecretBytes, SetSecret, Tags};
use strongroom::roles::dev::{Dev, Options};
use strongroom::telemetry::clock;

use crate::load::secret_name;

const DOCUMENTS: &str = "
apiVersion: strongroom.dev/v1alpha1
kind: Vault
metadata: {name: demo, namespace: dev}
spec: {}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: developer, namespace: dev}
spec:
  vaultRef: demo
  subjects: [{kind: ServiceAccount, name: developer}]
  permissions: {secrets: [get, set]}
";

/// Serves until its parent goes.
pub(crate) async fn serve(folder: &Path, secrets: usize) {
    let dev = Dev::start(Options {
        listen: ([127, 0, 0, 1], 0).into(),
        internal: None,
        documents: DOCUMENTS.to_owned(),
        issuer: IssuerKey::generate(SigningAlgorithm::RS256).unwrap(),
        audit_dir: folder.join("audit"),
        limits: Limits::vaults(),
        // Counted, and never reached.
        rates: Rates {
            address: u32::MAX,
            caller: u32::MAX,
            vault: u32::MAX,
            vault_creates: u32::MAX,
        },
        clock: clock::system(),
    })
    .await
    .unwrap();
    let token = dev.token("developer").unwrap();
    let connection = dev.gate.connection([127, 0, 0, 1].into());
    let admitted = dev.gate.admit(&connection, Some(&token)).await.unwrap();
    let vault = &dev.vaults[0];
    futures::stream::iter(0..secrets)
        .for_each_concurrent(64, |number| {
            let operation = Operation::SetSecret(SetSecret {
                name: ObjectName::parse(&secret_name(number)).unwrap(),
                value: SecretBytes::new(
                    format!("a value of a usual length, number {number:05}").into_bytes(),
                ),
                content_type: None,
                tags: Tags::new(),
                attributes: AttributesChange::default(),
            });
            let request = Request::new(vault.id.clone(), operation);
            let (gate, admitted) = (Arc::clone(&dev.gate), admitted.clone());
            async move { drop(gate.perform(admitted, request).await.unwrap()) }
        })
        .await;
    let ready = json!({
        "address": dev.address.to_string(),
        "trustBundle": dev.trust_bundle,
        "host": dev.host(vault),
        "token": token,
    });
    tell(folder, &ready.to_string()).await;
}

/// Says that the server is ready, and waits until its parent goes.
pub(crate) async fn tell(folder: &Path, ready: &str) {
    let unfinished = folder.join("ready.part");
    std::fs::write(&unfinished, ready).unwrap();
    std::fs::rename(&unfinished, folder.join("ready.json")).unwrap();
    // The parent's end of the pipe closes when it goes, however it goes.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await
        .unwrap()
        .unwrap();
    std::process::exit(0);
}
