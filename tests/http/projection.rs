//! The internal listener as `node` and `operate` use it, by the client that they use.

use std::time::{Duration, Instant};

use strongroom::client::{Client, ClientError, Projection, Settings, TokenSender, Trust};
use strongroom::dataplane::Limits;
use strongroom::identity::{AccountRef, Phase, PodFacts};
use strongroom::model::{
    Alphabet, Kind, Namespace, ObjectName, OwnedSecret, Owner, RootKeyCare, SecretBytes, Uid, VaultId,
    VaultName,
};
use strongroom::roles::dev;
use strongroom::wire::{
    Action, ActionReply, DeleteOwnedAction, EnsureGeneratedSecretAction, EnsureVaultAction, Open, ServeFrame,
    SummaryFrame,
};

use super::{Rig, claims};

const SOON: Duration = Duration::from_secs(5);

/// A client that shows this token.
fn client(rig: &Rig, token: &str) -> Client {
    let name = format!(
        "token-{}",
        token.len() + token.bytes().map(usize::from).sum::<usize>()
    );
    let token_file = rig.folder.path().join(name);
    std::fs::write(&token_file, token).unwrap();
    let trust = Trust::handed();
    trust.hand(rig.dev.trust_bundle.clone().into_bytes());
    let address = rig.dev.internal_address.unwrap();
    let url = format!("https://localhost:{}", address.port());
    Client::new(Settings {
        url,
        trust,
        token_file,
        connect_to: Some(address),
    })
    .unwrap()
}

pub(super) fn node(rig: &Rig) -> Client {
    client(rig, &rig.dev.own_token("strongroom-node").unwrap())
}

pub(super) fn operator(rig: &Rig) -> Client {
    client(rig, &rig.dev.own_token("strongroom-operate").unwrap())
}

fn open(token: String, objects: &str) -> Open {
    Open {
        volume: "csi-1".to_owned(),
        vault: "demo".to_owned(),
        objects: objects.to_owned(),
        token: SecretBytes::new(token.into_bytes()),
        mounted: false,
    }
}

pub(super) async fn project(client: &Client, token: String, objects: &str) -> (TokenSender, Projection) {
    client.project(open(token, objects)).await.unwrap()
}

async fn next(stream: &mut Projection) -> ServeFrame {
    tokio::time::timeout(SOON, stream.next())
        .await
        .expect("a frame in time")
        .unwrap()
        .expect("the stream goes on")
}

/// The files of the next frame, as `path=content`.
pub(super) async fn files(stream: &mut Projection) -> Vec<String> {
    match next(stream).await {
        ServeFrame::Files(plan) => plan
            .files()
            .iter()
            .map(|file| {
                format!(
                    "{}={}",
                    file.path.as_str(),
                    String::from_utf8_lossy(file.content.expose())
                )
            })
            .collect(),
        other => panic!("no files: {other:?}"),
    }
}

pub(super) async fn refused(stream: &mut Projection) -> (Kind, String) {
    match next(stream).await {
        ServeFrame::Refused(refused) => (refused.kind, refused.message),
        other => panic!("no refusal: {other:?}"),
    }
}

async fn is_silent(stream: &mut Projection) -> bool {
    tokio::time::timeout(Duration::from_millis(600), stream.next())
        .await
        .is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_gets_its_files_and_each_new_version_within_a_second() {
    let rig = Rig::start().await;
    let first = rig.set("one", "1").await;
    rig.set("two", "2").await;
    let pinned = first["id"].as_str().unwrap().rsplit('/').next().unwrap();
    let objects = format!(
        "- secret: one\n- secret: TWO\n  path: sub/two\n- secret: one\n  version: {pinned}\n  path: pinned\n"
    );
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), &objects).await;
    let ServeFrame::Files(plan) = next(&mut stream).await else {
        panic!("no files")
    };
    assert_eq!(plan.trust_bundle(), rig.dev.trust_bundle.as_bytes());
    assert!(is_silent(&mut stream).await);

    let mut waits = Vec::new();
    for number in 0..20 {
        rig.set("one", &format!("new-{number}")).await;
        let written = Instant::now();
        assert_eq!(
            files(&mut stream).await,
            [format!("one=new-{number}"), "sub/two=2".into(), "pinned=1".into()]
        );
        waits.push(written.elapsed());
    }
    waits.sort();
    println!(
        "from the write's answer to the frame: median {:?}, worst {:?}",
        waits[10], waits[19]
    );
    assert!(waits[19] < Duration::from_secs(1));
    rig.set("unrelated", "x").await;
    assert!(
        is_silent(&mut stream).await,
        "what it did not ask for does not wake it"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_counted() {
    let rig = Rig::start().await;
    let streams = || {
        let text = String::from_utf8(rig.dev.metrics.text().unwrap()).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("strongroom_streams "));
        line.unwrap().parse::<u8>().unwrap()
    };
    let client = node(&rig);
    let mut one = project(&client, rig.token("reader"), "- secret: one").await;
    let mut two = project(&client, rig.token("stranger"), "- secret: one").await;
    next(&mut one.1).await;
    next(&mut two.1).await;
    assert_eq!(streams(), 2);
    drop(one);
    let until = Instant::now() + SOON;
    while streams() != 1 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_writes_ends_in_the_last_one() {
    let rig = Rig::start().await;
    rig.set("one", "0").await;
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=0"]);
    for number in 1..=100 {
        rig.set("one", &number.to_string()).await;
    }
    let mut frames = 1;
    while files(&mut stream).await != ["one=100"] {
        frames += 1;
    }
    assert!(frames <= 100);
    assert!(is_silent(&mut stream).await);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_and_gets_the_files_once_they_may() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("stranger"), "- secret: one").await;
    let (kind, message) = refused(&mut stream).await;
    assert_eq!(kind, Kind::Denied);
    for part in ["system:serviceaccount:team:stranger", "get", "'demo'"] {
        assert!(message.contains(part), "{message}");
    }
    // As others' access changes, it is not told again.
    rig.dev.world.update(|_| {});
    assert!(is_silent(&mut stream).await);
    // What a policy gives the vault's writer, the stranger now has too.
    let vault = rig.dev.vaults[0].id.clone();
    let generous =
        strongroom::compile::documents(&super::DOCUMENTS.replace("name: writer", "name: stranger")).unwrap();
    let policies: Vec<_> = generous.policies.iter().collect();
    let before = rig.dev.world.load().policy.vault(&vault).cloned().unwrap();
    let compiled = strongroom::compile::policies(&vault, &policies);
    rig.dev
        .world
        .update(|world| world.policy.set(vault.clone(), compiled.policy.into()));
    assert_eq!(files(&mut stream).await, ["one=1"]);
    // And no more.
    rig.dev.world.update(|world| world.policy.set(vault, before));
    assert_eq!(refused(&mut stream).await.0, Kind::Denied);
    rig.set("one", "2").await;
    assert!(is_silent(&mut stream).await);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_told_why_the_files_that_it_has_are_no_longer_renewed() {
    let mut rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let (_tokens, mut stranger) = project(&client, rig.token("stranger"), "- secret: one").await;
    assert_eq!(refused(&mut stranger).await.0, Kind::Denied);
    assert!(
        rig.dev.refused_volumes.try_recv().is_err(),
        "a pod without files hears it from its kubelet"
    );
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=1"]);
    let vault = rig.dev.vaults[0].id.clone();
    rig.dev
        .world
        .update(|world| world.policy.set(vault, std::sync::Arc::default()));
    let (kind, message) = refused(&mut stream).await;
    let told = tokio::time::timeout(SOON, rig.dev.refused_volumes.recv()).await;
    let told = told.unwrap().unwrap();
    assert_eq!((told.kind, &told.message), (kind, &message));
    assert_eq!(
        (told.namespace.as_str(), &*told.pod.name, told.pod.uid.as_str()),
        ("team", "reader-0", "pod/team/reader")
    );
    rig.dev.world.update(|_| {});
    assert!(is_silent(&mut stream).await);
    assert!(rig.dev.refused_volumes.try_recv().is_err(), "told once");

    // A stream that is opened anew for a volume that is mounted.
    let mounted = Open {
        mounted: true,
        ..open(rig.token("reader"), "- secret: one")
    };
    let (_tokens, mut stream) = client.project(mounted).await.unwrap();
    assert_eq!(refused(&mut stream).await.0, Kind::Denied);
    let told = tokio::time::timeout(SOON, rig.dev.refused_volumes.recv()).await;
    assert_eq!(told.unwrap().unwrap().message, message);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_yet_comes_when_it_is() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one\n- secret: later").await;
    let (kind, message) = refused(&mut stream).await;
    assert_eq!(kind, Kind::NotFound);
    assert!(message.contains("later"), "{message}");
    rig.set("later", "now").await;
    assert_eq!(files(&mut stream).await, ["one=1", "later=now"]);
    let writer = rig.token("writer");
    rig.ask(
        "PATCH",
        "/secrets/later?api-version=7.4",
        Some(&writer),
        r#"{"attributes":{"enabled":false}}"#,
    )
    .await;
    let (kind, message) = refused(&mut stream).await;
    assert_eq!(kind, Kind::Denied);
    assert!(message.contains("later"), "the message says which: {message}");
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_asks_for_nonsense_hears_it_at_once() {
    let rig = Rig::start().await;
    let client = node(&rig);
    for (vault, objects) in [
        ("demo", "- secret: ../x"),
        ("demo", "{"),
        ("No Vault", "- secret: a"),
        ("demo", ""),
    ] {
        let (_tokens, mut stream) = client
            .project(Open {
                vault: vault.to_owned(),
                ..open(rig.token("reader"), objects)
            })
            .await
            .unwrap();
        assert_eq!(refused(&mut stream).await.0, Kind::Invalid);
    }
    let (_tokens, mut stream) = client
        .project(Open {
            vault: "missing".to_owned(),
            ..open(rig.token("reader"), "- secret: a")
        })
        .await
        .unwrap();
    assert_eq!(refused(&mut stream).await.0, Kind::NotFound);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_nothing_after_its_pod_is_gone() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=1"]);
    let reader = Uid::new("pod/team/reader");
    rig.dev.world.update(|world| {
        let mut pod = PodFacts::clone(world.liveness.pod(&reader).unwrap());
        pod.deleting = true;
        world.liveness.upsert_pod(pod);
    });
    assert!(matches!(next(&mut stream).await, ServeFrame::PodEnding));
    rig.set("one", "2").await;
    assert_eq!(
        files(&mut stream).await,
        ["one=2"],
        "it runs still, and keeps its access"
    );
    rig.dev.world.update(|world| world.liveness.remove_pod(&reader));
    rig.set("one", "3").await;
    assert_eq!(refused(&mut stream).await.0, Kind::Unauthenticated);
    assert!(is_silent(&mut stream).await);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_younger_token_takes_over_in_place_and_another_pods_does_not() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let with = |account: &str, seconds: i64| {
        let mut claims = claims(account);
        claims["exp"] = (strongroom::telemetry::clock::system().now().wall.0 + seconds).into();
        rig.dev.issuer.sign(&claims).unwrap()
    };
    let (tokens, mut stream) = project(&client, with("reader", 2), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=1"]);
    tokens
        .send(SecretBytes::new(with("reader", 600).into_bytes()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.set("one", "2").await;
    assert_eq!(
        files(&mut stream).await,
        ["one=2"],
        "the stream outlives its first token"
    );
    tokens
        .send(SecretBytes::new(with("writer", 600).into_bytes()))
        .await
        .unwrap();
    assert!(
        matches!(tokio::time::timeout(SOON, stream.next()).await, Ok(Ok(None))),
        "another pod's token ends it"
    );

    let (_tokens, mut stream) = project(&client, with("reader", 2), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=2"]);
    assert!(
        matches!(tokio::time::timeout(SOON, stream.next()).await, Ok(Ok(None))),
        "it ends with its token"
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_nothing_for_pods_of_other_nodes() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let reader = Uid::new("pod/team/reader");
    rig.dev.world.update(|world| {
        let mut pod = PodFacts::clone(world.liveness.pod(&reader).unwrap());
        pod.node = Some("elsewhere".into());
        world.liveness.upsert_pod(pod);
    });
    let mut claims = claims("reader");
    claims["kubernetes.io"].as_object_mut().unwrap().remove("node");
    let token = rig.dev.issuer.sign(&claims).unwrap();
    let (_tokens, mut stream) = project(&node(&rig), token, "- secret: one").await;
    assert_eq!(refused(&mut stream).await.0, Kind::Unauthenticated);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_our_processes_is_held_to_its_own_list() {
    let rig = Rig::start().await;
    let ensure = Action::EnsureVault(EnsureVaultAction {
        vault: rig.dev.vaults[0].id.clone(),
        resource_uid: rig.dev.vaults[0].uid.clone(),
    });
    let kind = |result: Result<(), ClientError>| result.unwrap_err().kind();
    for token in [
        rig.token("writer"),
        rig.dev.own_token("strongroom-node").unwrap(),
        "nonsense".to_owned(),
        String::new(),
    ] {
        let client = client(&rig, &token);
        assert_eq!(kind(client.act(&ensure).await.map(|_| ())), Kind::Unauthenticated);
        assert_eq!(kind(client.summaries().await.map(|_| ())), Kind::Unauthenticated);
    }
    for token in [
        rig.token("writer"),
        rig.dev.own_token("strongroom-operate").unwrap(),
        String::new(),
    ] {
        let opened = client(&rig, &token)
            .project(open(rig.token("reader"), "- secret: one"))
            .await;
        assert_eq!(kind(opened.map(|_| ())), Kind::Unauthenticated);
    }
    let other = Action::EnsureVault(EnsureVaultAction {
        vault: rig.dev.vaults[0].id.clone(),
        resource_uid: Uid::new("another resource"),
    });
    assert_eq!(kind(operator(&rig).act(&other).await.map(|_| ())), Kind::Denied);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_actions_make_and_delete_what_is_theirs() {
    let rig = Rig::start().await;
    let client = operator(&rig);
    let vault = rig.dev.vaults[0].id.clone();
    let owner = Owner {
        namespace: Namespace::parse("team").unwrap(),
        namespace_uid: Uid::new("team"),
        resource: "generated".to_owned(),
    };
    let name = ObjectName::parse("generated").unwrap();
    let ensure = Action::EnsureGeneratedSecret(EnsureGeneratedSecretAction {
        vault: vault.clone(),
        name: name.clone(),
        length: 40,
        alphabet: Alphabet::Hex,
        content_type: None,
        owner: owner.clone(),
    });
    let made = client.act(&ensure).await.unwrap();
    let ActionReply::Owned(OwnedSecret::Live { .. }) = &made else {
        panic!("{made:?}")
    };
    assert_eq!(client.act(&ensure).await.unwrap(), made, "asked twice, made once");
    assert_eq!(
        rig.get("generated").await.json()["value"].as_str().unwrap().len(),
        40
    );

    rig.set("by-hand", "x").await;
    let delete = |name: &str| {
        Action::DeleteOwned(DeleteOwnedAction {
            vault: vault.clone(),
            name: ObjectName::parse(name).unwrap(),
            owner: owner.clone(),
        })
    };
    assert_eq!(
        client.act(&delete("by-hand")).await.unwrap(),
        ActionReply::Owned(OwnedSecret::Foreign)
    );
    assert_eq!(
        client.act(&delete("generated")).await.unwrap(),
        ActionReply::Owned(OwnedSecret::Deleted)
    );
    assert_eq!(rig.get("generated").await.status, 404);
    assert_eq!(rig.get("by-hand").await.status, 200);
    assert_eq!(
        client.act(&ensure).await.unwrap(),
        ActionReply::Owned(OwnedSecret::Deleted),
        "it is not made again"
    );
    let nowhere = Action::EnsureVault(EnsureVaultAction {
        vault: VaultId {
            namespace: Namespace::parse("team").unwrap(),
            name: VaultName::parse("missing").unwrap(),
        },
        resource_uid: Uid::new("x"),
    });
    assert_eq!(client.act(&nowhere).await.unwrap_err().kind(), Kind::NotFound);
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_tell_every_vault_and_then_what_changes() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let mut stream = operator(&rig).summaries().await.unwrap();
    let (mut counts, mut cared) = (Vec::new(), None);
    loop {
        match tokio::time::timeout(SOON, stream.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            SummaryFrame::Vault(summary) => {
                counts.push((summary.vault.to_string(), summary.secrets));
                cared = summary.root_key;
            }
            SummaryFrame::Complete => break,
            SummaryFrame::Ping => {}
        }
    }
    counts.sort();
    assert_eq!(
        counts,
        [("team/demo", 1), ("team/other", 0), ("team/strict", 0)]
            .map(|(vault, secrets)| (vault.to_owned(), secrets))
    );
    assert_eq!(
        cared,
        Some(RootKeyCare::Escrowed),
        "how the root key is cared for"
    );
    rig.dev.root_key.send_replace(Some(RootKeyCare::Missing));
    for number in 0..10 {
        rig.set(&format!("more-{number}"), "x").await;
    }
    let mut told = Vec::new();
    let started = Instant::now();
    while told.last() != Some(&11) {
        match tokio::time::timeout(Duration::from_secs(8), stream.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            // Only this one changes but for the key.
            SummaryFrame::Vault(summary) => {
                if summary.vault.name.as_str() == "demo" {
                    told.push(summary.secrets);
                }
                cared = summary.root_key;
            }
            SummaryFrame::Complete | SummaryFrame::Ping => {}
        }
    }
    assert_eq!(cared, Some(RootKeyCare::Missing));
    assert!(
        told.len() <= 3,
        "not for each change: {told:?} in {:?}",
        started.elapsed()
    );
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_volumes_share_one_connection_and_all_hear_of_a_change() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let opened = (0..300).map(|_| project(&client, rig.token("reader"), "- secret: one"));
    let mut streams = futures::future::join_all(opened).await;
    for (_, stream) in &mut streams {
        assert_eq!(files(stream).await, ["one=1"]);
    }
    rig.set("one", "2").await;
    let written = Instant::now();
    for (_, stream) in &mut streams {
        assert_eq!(files(stream).await, ["one=2"]);
    }
    println!("300 volumes heard of a change after {:?}", written.elapsed());
    assert!(written.elapsed() < SOON);
    let metrics = String::from_utf8(rig.dev.metrics.text().unwrap()).unwrap();
    assert!(
        metrics.contains("strongroom_connections{listener=\"internal\"} 1\n"),
        "{metrics}"
    );
    rig.dev.stop().await;
    for (_, mut stream) in streams {
        let end = tokio::time::timeout(SOON, stream.next())
            .await
            .expect("a stopping server ends its streams");
        assert!(!matches!(end, Ok(Some(ServeFrame::Files(_)))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_for_its_trust_bundle_and_trusts_nobody_else() {
    let rig = Rig::start().await;
    let other = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (ca, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    let address = rig.dev.internal_address.unwrap();
    let client = Client::new(Settings {
        url: format!("https://localhost:{}", address.port()),
        trust: Trust::file(ca.clone()),
        token_file: token.clone(),
        connect_to: Some(address),
    })
    .unwrap();
    let ensure = Action::EnsureVault(EnsureVaultAction {
        vault: rig.dev.vaults[0].id.clone(),
        resource_uid: rig.dev.vaults[0].uid.clone(),
    });
    let no_bundle = client.act(&ensure).await.unwrap_err();
    assert!(no_bundle.to_string().contains("ca.crt"), "{no_bundle}");
    std::fs::write(&ca, &other.dev.trust_bundle).unwrap();
    let stranger = client.act(&ensure).await.unwrap_err();
    assert!(
        stranger.to_string().contains("no trusted connection"),
        "{stranger}"
    );
    std::fs::write(&ca, &rig.dev.trust_bundle).unwrap();
    let no_token = client.act(&ensure).await.unwrap_err();
    assert!(matches!(no_token, ClientError::Token(_)), "{no_token}");
    std::fs::write(&token, rig.dev.own_token("strongroom-operate").unwrap()).unwrap();
    assert_eq!(client.act(&ensure).await.unwrap(), ActionReply::VaultReady);

    // The server goes; another takes its place under the same address.
    rig.dev.stop().await;
    assert_eq!(client.act(&ensure).await.unwrap_err().kind(), Kind::Unavailable);
    other.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_processs_own_end_ends_its_streams() {
    let rig = Rig::start().await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=1"]);
    rig.dev.world.update(|world| {
        let account = AccountRef {
            namespace: Namespace::parse(dev::RELEASE_NAMESPACE).unwrap(),
            name: "strongroom-node".into(),
        };
        assert!(world.liveness.account(&account).is_some());
        let uid = Uid::new(&format!("pod/{}/strongroom-node", dev::RELEASE_NAMESPACE));
        let mut pod = PodFacts::clone(world.liveness.pod(&uid).unwrap());
        pod.phase = Phase::Terminal;
        world.liveness.upsert_pod(pod);
    });
    rig.set("one", "2").await;
    match tokio::time::timeout(SOON, stream.next()).await.unwrap() {
        Ok(Some(ServeFrame::Unavailable(_)) | None) | Err(_) => {}
        Ok(Some(other)) => panic!("{other:?}"),
    }
    rig.dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_some_age_is_left_for_another_and_its_streams_with_it() {
    let aging = Limits {
        age: Some(Duration::from_secs(2)),
        ..Limits::internal()
    };
    let rig = Rig::with_both(Limits::vaults(), aging).await;
    rig.set("one", "1").await;
    let client = node(&rig);
    let opened = Instant::now();
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(files(&mut stream).await, ["one=1"]);
    let end = tokio::time::timeout(Duration::from_secs(15), stream.next()).await;
    assert!(matches!(end, Ok(Ok(None))), "it ends cleanly: {end:?}");
    assert!(opened.elapsed() >= Duration::from_secs(2));
    let (_tokens, mut stream) = project(&client, rig.token("reader"), "- secret: one").await;
    assert_eq!(
        files(&mut stream).await,
        ["one=1"],
        "the next stream is on another connection"
    );
    rig.dev.stop().await;
}
