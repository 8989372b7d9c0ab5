//! From where a vault may be called: what callers are told, and how soon a change counts.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use strongroom::compile;
use strongroom::identity::{AccountRef, Phase, PodFacts};
use strongroom::model::{Kind, Labels, Namespace, Uid, VaultEntry};
use strongroom::roles::dev;
use strongroom::wire::{Action, EnsureVaultAction};

use super::client::Answer;
use super::matrix::rows;
use super::projection::{files, node, operator, project, refused};
use super::{Rig, claims, request};

/// Declares the Vault `demo` with this `network`, as the resource that it is or as one that was made anew.
fn declare(rig: &Rig, network: &str, anew: Option<&str>) -> VaultEntry {
    let yaml = format!(
        "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: demo, namespace: team}}\n\
         spec: {{softDelete: {{retentionDays: 7}}{network}}}\n"
    );
    let documents = compile::documents(&yaml).unwrap();
    let mut entry = compile::vault(&documents.vaults[0], &Uid::new("team")).unwrap();
    if let Some(uid) = anew {
        entry.uid = Uid::new(uid);
    }
    let declared = Arc::new(entry.clone());
    rig.dev.world.update(|world| {
        world.vaults.insert(declared.id.clone(), declared);
    });
    entry
}

/// As `operate` asks once a Vault is declared.
async fn ensure(rig: &Rig, entry: &VaultEntry) {
    let ask = Action::EnsureVault(EnsureVaultAction {
        vault: entry.id.clone(),
        resource_uid: entry.uid.clone(),
    });
    operator(rig).act(&ask).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_made_anew_and_says_nothing_stays_closed() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    ensure(&rig, &declare(&rig, ", network: {defaultAction: Deny}", None)).await;
    assert!(refused_by_firewall(&rig.get("a").await));
    // What is no longer said stays.
    let silent = declare(&rig, "", None);
    assert!(refused_by_firewall(&rig.get("a").await));
    ensure(&rig, &silent).await;
    assert!(refused_by_firewall(&rig.get("a").await));

    // Whoever may delete and make vaults, and no more, opens nothing by it: at first it is not ready.
    let id = silent.id.clone();
    rig.dev.world.update(|world| {
        world.vaults.remove(&id);
    });
    assert_eq!(rig.get("a").await.status, 404);
    let anew = declare(&rig, "", Some("made-anew"));
    let answer = rig.get("a").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let token = rig.token("stranger");
    let strangers = rig
        .ask("GET", "/secrets/a?api-version=7.4", Some(&token), "")
        .await;
    assert_eq!(strangers.status, 503, "{strangers:?}");
    ensure(&rig, &anew).await;
    for _ in 0..3 {
        assert!(
            refused_by_firewall(&rig.get("a").await),
            "its head keeps it closed"
        );
    }
    let bypass = declare(&rig, ", network: {bypass: Volumes}", Some("made-anew"));
    ensure(&rig, &bypass).await;
    assert!(refused_by_firewall(&rig.get("a").await));
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: a").await;
    assert_eq!(files(&mut stream).await, ["a=kept"]);

    // Who says that it is open opens it, for those who come after as well.
    let open = declare(&rig, ", network: {defaultAction: Allow}", Some("made-anew"));
    ensure(&rig, &open).await;
    assert_eq!(rig.get("a").await.json()["value"], "kept");
    let later = declare(&rig, "", Some("made-anew-again"));
    ensure(&rig, &later).await;
    assert_eq!(rig.get("a").await.json()["value"], "kept");
    rig.dev.stop().await;
}

/// Puts `network` into the Vault `demo`, beside these rules.
fn restrict(rig: &Rig, network: &str, rules: &[&str]) {
    let mut yaml = format!(
        "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: demo, namespace: team}}\n\
         spec: {{softDelete: {{retentionDays: 7}}, network: {network}}}\n"
    );
    for (number, rule) in rules.iter().enumerate() {
        yaml.push_str(&format!(
            "---\napiVersion: strongroom.dev/v1alpha1\nkind: NetworkRule\nmetadata: {{name: r{number}, namespace: \
             team}}\nspec: {{vaultRef: demo, {rule}}}\n"
        ));
    }
    let documents = compile::documents(&yaml).unwrap();
    let entry = compile::vault(&documents.vaults[0], &Uid::new("team")).unwrap();
    let rules: Vec<_> = documents.rules.iter().collect();
    let compiled = compile::network_rules(&entry.id, &rules);
    rig.dev.world.update(|world| {
        world.network.set(entry.id.clone(), Arc::new(compiled.network));
        world.vaults.insert(entry.id.clone(), Arc::new(entry));
    });
}

const DENY: &str = "{defaultAction: Deny}";

fn refused_by_firewall(answer: &Answer) -> bool {
    (answer.status, answer.code().as_str()) == (403, "Forbidden/ForbiddenByFirewall")
}

#[tokio::test(flavor = "multi_thread")]
async fn from_outside_every_rule_no_route_is_open_whoever_asks() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    restrict(
        &rig,
        DENY,
        &["cidrs: [203.0.113.0/24], pods: [{podSelector: {matchLabels: {app: none}}}]"],
    );
    for (action, method, target, body) in rows() {
        for caller in ["writer", "reader", "stranger"] {
            let answer = rig.ask(method, target, Some(&rig.token(caller)), body).await;
            assert!(refused_by_firewall(&answer), "{action:?}, {caller}: {answer:?}");
        }
        let answer = rig.ask(method, target, None, body).await;
        assert_eq!(answer.status, 401, "{action:?}: an SDK is challenged first");
        assert!(answer.header("www-authenticate").is_some(), "{action:?}");
    }
    restrict(&rig, "{defaultAction: Allow}", &[]);
    assert_eq!(rig.get("a").await.json()["value"], "kept");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_is_azures_and_tells_no_rule_and_is_on_record() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    restrict(
        &rig,
        DENY,
        &["cidrs: [203.0.113.0/24], pods: [{podSelector: {matchLabels: {app: none}}}]"],
    );
    let answer = rig.get("a").await;
    assert!(refused_by_firewall(&answer));
    assert_eq!(
        answer.json()["error"]["message"],
        "Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1\r\nCaller: \
         system:serviceaccount:team:reader\r\nVault: demo;location=team"
    );
    restrict(&rig, DENY, &["cidrs: [127.0.0.0/8]"]);
    assert_eq!(rig.get("a").await.status, 200);
    let stranger = rig.token("stranger");
    rig.ask("GET", "/secrets/a?api-version=7.4", Some(&stranger), "")
        .await;
    let audit = rig.audit();
    rig.dev.stop().await;
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["operationName"] == "SecretGet")
        .collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["resultDescription"].as_str().unwrap_or("").to_owned(),
                line["properties"]["httpStatusCode"].clone(),
                line["properties"]["isAddressAuthorized"].clone(),
                line["callerIpAddress"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (
                "NotReachable".to_owned(),
                json!(403),
                json!(false),
                json!("127.0.0.1")
            ),
            (String::new(), json!(200), json!(true), json!("127.0.0.1")),
            (
                "NoPermission".to_owned(),
                json!(403),
                json!(true),
                json!("127.0.0.1")
            ),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_a_pods_labels_let_in_and_nothing_more_than_policies_say() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    let own = "matchLabels: {kubernetes.io/metadata.name: team}";
    // (rule, whether the reader's pod gets in, whether the writer's does)
    for (rule, reader, writer) in [
        ("cidrs: [127.0.0.1]", true, true),
        ("cidrs: ['::ffff:127.0.0.0/104']", true, true),
        ("cidrs: ['::1', 10.0.0.0/8]", false, false),
        ("pods: [{podSelector: {}}]", true, true),
        ("pods: [{podSelector: {matchLabels: {app: reader}}}]", true, false),
        (
            "pods: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [reader]}]}}]",
            false,
            true,
        ),
        (&format!("pods: [{{namespaceSelector: {{{own}}}}}]"), true, true),
        (
            "pods: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]",
            false,
            false,
        ),
    ] {
        restrict(&rig, DENY, &[rule]);
        let status = async |account: &str| {
            let token = rig.token(account);
            let answer = rig
                .ask("GET", "/secrets/a?api-version=7.4", Some(&token), "")
                .await;
            if answer.status != 200 {
                assert!(refused_by_firewall(&answer), "{rule}: {answer:?}");
            }
            answer.status == 200
        };
        assert_eq!(
            (status("reader").await, status("writer").await),
            (reader, writer),
            "{rule}"
        );
    }
    restrict(&rig, DENY, &["cidrs: [127.0.0.1]"]);
    let stranger = rig.token("stranger");
    let answer = rig
        .ask("GET", "/secrets/a?api-version=7.4", Some(&stranger), "")
        .await;
    assert_eq!(
        answer.code(),
        "Forbidden/ForbiddenByPolicy",
        "to reach is not to be allowed"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_rules_counts_at_once_on_an_open_connection() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    let token = rig.token("reader");
    let get = request(
        "GET",
        "/secrets/a?api-version=7.4",
        &rig.host(),
        Some(&token),
        b"",
    );
    let mut connection = rig.connect().await;
    assert_eq!(connection.ask(&get).await.unwrap().status, 200);
    for (rules, status) in [
        (&[][..], 403),
        (&["cidrs: [127.0.0.1]"], 200),
        (&["cidrs: [127.0.0.2]"], 403),
        (&["cidrs: [127.0.0.2]", "pods: [{podSelector: {}}]"], 200),
    ] {
        restrict(&rig, DENY, rules);
        assert_eq!(connection.ask(&get).await.unwrap().status, status, "{rules:?}");
    }
    rig.dev.stop().await;
}

/// Lets a pod `<account>-0` of another namespace live at this address, and gives its token.
fn foreigner(rig: &Rig, account: &str, address: Option<IpAddr>) -> String {
    let namespace = Namespace::parse("elsewhere").unwrap();
    let pod = format!("{account}-0");
    let uids = [
        format!("account/elsewhere/{account}"),
        format!("pod/elsewhere/{account}"),
    ];
    rig.dev.world.update(|world| {
        let reference = AccountRef {
            namespace: namespace.clone(),
            name: account.into(),
        };
        world.liveness.upsert_account(reference, Uid::new(&uids[0]));
        world.liveness.upsert_pod(PodFacts {
            namespace: namespace.clone(),
            name: pod.as_str().into(),
            uid: Uid::new(&uids[1]),
            service_account: account.into(),
            labels: [("app", account)].into_iter().collect(),
            node: Some(dev::NODE.into()),
            addresses: address.into_iter().collect(),
            host_addresses: vec![IpAddr::from([127, 0, 0, 1])],
            host_network: address.is_some(),
            phase: Phase::Running,
            deleting: false,
        });
        world.network.label_namespace(namespace, Labels::default());
    });
    let mut claims = claims(account);
    claims["sub"] = json!(format!("system:serviceaccount:elsewhere:{account}"));
    claims["kubernetes.io"] = json!({
        "namespace": "elsewhere",
        "pod": {"name": pod, "uid": uids[1]},
        "serviceaccount": {"name": account, "uid": uids[0]},
    });
    rig.dev.issuer.sign(&claims).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreigner_cannot_tell_a_vault_that_is_closed_to_him_from_one_that_is_not_there() {
    let rig = Rig::start().await;
    restrict(&rig, DENY, &["cidrs: [203.0.113.0/24]"]);
    let token = foreigner(&rig, "mallory", Some(IpAddr::from([127, 0, 0, 1])));
    for (_, method, target, body) in rows() {
        let ask = async |vault: &str| {
            let host = format!("{vault}.vault.localhost:{}", rig.dev.address.port());
            let mut connection = rig.endpoint.http1(&format!("{vault}.vault.localhost")).await;
            let request = request(method, target, &host, Some(&token), body.as_bytes());
            let answer = connection.ask(&request).await.unwrap();
            let text = String::from_utf8(answer.body.clone()).unwrap();
            (answer.status, answer.code(), text.replace(vault, "it"))
        };
        let (closed, open, missing) = (ask("demo").await, ask("other").await, ask("missing").await);
        assert_eq!(closed, missing, "{method} {target}");
        assert_eq!(open, missing, "{method} {target}");
        assert_eq!(missing.1, "Forbidden/ForbiddenByPolicy");
    }
    let audit = rig.audit();
    rig.dev.stop().await;
    let told = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .any(|line| line["vault"] == "demo" && line["properties"]["isAddressAuthorized"] == false);
    assert!(told, "the auditor can tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_feed_has_not_shown_whole_is_asked_to_try_again() {
    let rig = Rig::start().await;
    rig.set("a", "kept").await;
    restrict(&rig, DENY, &["pods: [{podSelector: {}}]"]);
    // Its namespace is not known yet, as in the first moment of a namespace.
    rig.dev.world.update(|world| {
        world.network.forget_namespace(&Namespace::parse("team").unwrap());
    });
    let answer = rig.get("a").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    restrict(&rig, DENY, &["cidrs: [203.0.113.0/24]"]);
    assert!(
        refused_by_firewall(&rig.get("a").await),
        "knowing more would not help"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_judged_by_its_pod_and_follows_the_rules() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    restrict(
        &rig,
        DENY,
        &["pods: [{podSelector: {matchLabels: {app: writer}}}]"],
    );
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    let (kind, message) = refused(&mut stream).await;
    assert_eq!(kind, Kind::Denied);
    assert!(
        message.contains("Client address is not authorized") && message.contains("Vault: demo;location=team"),
        "{message}"
    );
    restrict(
        &rig,
        DENY,
        &["pods: [{podSelector: {matchLabels: {app: reader}}}]"],
    );
    assert_eq!(files(&mut stream).await, ["one=1"]);
    restrict(&rig, DENY, &[]);
    assert_eq!(refused(&mut stream).await.0, Kind::Denied);
    restrict(&rig, "{defaultAction: Deny, bypass: Volumes}", &[]);
    assert_eq!(files(&mut stream).await, ["one=1"]);
    assert!(
        refused_by_firewall(&rig.get("one").await),
        "a call of its own needs a rule"
    );
    // The pod's own address, which is this machine's.
    restrict(&rig, DENY, &["cidrs: [127.0.0.1]"]);
    let (_tokens, mut other) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut other).await, ["one=1"]);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_processes_are_no_callers_of_the_network() {
    // `dev` makes the vaults' heads and generated values as `operate`; a vault that lets nobody in must still come to be.
    strongroom::tls::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let dev = dev::Dev::start(dev::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        internal: None,
        documents: "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo, namespace: team}\n\
                    spec: {network: {defaultAction: Deny}}\n---\napiVersion: strongroom.dev/v1alpha1\nkind: Secret\n\
                    metadata: {name: made, namespace: team}\nspec: {vaultRef: demo, generate: {}}\n"
            .to_owned(),
        issuer: strongroom::crypto::IssuerKey::generate(strongroom::crypto::SigningAlgorithm::ES256).unwrap(),
        audit_dir: folder.path().join("audit"),
        limits: strongroom::dataplane::Limits::vaults(),
        rates: strongroom::gate::Rates::NONE,
        clock: strongroom::telemetry::clock::system(),
    })
    .await
    .unwrap();
    let summaries = dev.engine.summaries(strongroom::model::UnixSeconds(0));
    assert_eq!(summaries.iter().map(|it| it.secrets).collect::<Vec<_>>(), [1]);
    dev.stop().await;
}
