//! One table: a token that is good, and what each single departure from it leads to.

use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::identity::AccountRef;
use crate::model::{Labels, Namespace, UnixSeconds};

mod addresses;
mod alive;

const NOW: i64 = 1_700_000_000;
const POD: &str = "10.0.0.7";
const OTHER_POD: &str = "10.0.0.8";
const SHARED: &str = "10.0.0.9";
const NODE: &str = "192.168.1.1";
const NOBODYS: &str = "203.0.113.5";

fn now(wall: i64) -> Moment {
    Moment {
        wall: UnixSeconds(wall),
        nanos: 0,
        monotonic: Instant::now(),
    }
}

fn account(namespace: &str, name: &str) -> AccountRef {
    AccountRef {
        namespace: Namespace::parse(namespace).unwrap(),
        name: name.into(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(check: PodAddressCheck) -> Settings {
    Settings {
        issuers: vec!["https://issuer.one".into(), "https://issuer.two".into()],
        audience: "strongroom.dev".into(),
        internal_audience: "internal.strongroom.dev".into(),
        pod_address_check: check,
        operate_account: account("strongroom-system", "strongroom-operate"),
        node_account: account("strongroom-system", "strongroom-node"),
    }
}

fn pod(namespace: &str, name: &str, service_account: &str, addresses: &[&str]) -> PodFacts {
    PodFacts {
        labels: Labels::default(),
        namespace: Namespace::parse(namespace).unwrap(),
        name: name.into(),
        uid: Uid::new(&format!("uid-of-{name}")),
        service_account: service_account.into(),
        node: Some("node-1".into()),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        host_addresses: vec![ip(NODE)],
        host_network: false,
        phase: Phase::Running,
        deleting: false,
    }
}

/// Two pods of a shop, two that share an address, and a node's pod.
fn world() -> Liveness {
    let mut world = Liveness::default();
    world.upsert_pod(pod("shop", "web", "shopper", &[POD]));
    world.upsert_pod(pod("shop", "other", "shopper", &[OTHER_POD]));
    world.upsert_pod(pod("shop", "left", "shopper", &[SHARED]));
    world.upsert_pod(pod("shop", "right", "shopper", &[SHARED]));
    world.upsert_pod(pod(
        "strongroom-system",
        "driver",
        "strongroom-node",
        &["10.0.0.20"],
    ));
    world.upsert_pod(pod(
        "strongroom-system",
        "operate",
        "strongroom-operate",
        &["10.0.0.21"],
    ));
    world.upsert_account(account("shop", "shopper"), Uid::new("uid-of-shopper"));
    for name in ["strongroom-node", "strongroom-operate"] {
        world.upsert_account(
            account("strongroom-system", name),
            Uid::new(&format!("uid-of-{name}")),
        );
    }
    world
}

/// The claims of a pod's token, as the API server writes them.
fn token(namespace: &str, account: &str, pod: &str, audience: &str) -> Value {
    json!({
        "iss": "https://issuer.one",
        "aud": [audience],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 600, "jti": "b0c1",
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": format!("uid-of-{account}")},
            "pod": {"name": pod, "uid": format!("uid-of-{pod}")},
            "node": {"name": "node-1", "uid": "uid-of-node-1"},
        },
    })
}

fn shop_token() -> Value {
    token("shop", "shopper", "web", "strongroom.dev")
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = shop_token();
    change(&mut claims);
    claims
}

fn without(path: &str) -> Value {
    changed(|claims| {
        let (parent, last) = path.rsplit_once('/').unwrap();
        claims
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(last)
            .unwrap();
    })
}

fn with(path: &str, value: &Value) -> Value {
    changed(|claims| {
        let (parent, last) = path.rsplit_once('/').unwrap();
        claims.pointer_mut(parent).unwrap()[last] = value.clone();
    })
}

fn decide(
    claims: &Value,
    purpose: Purpose,
    shown: Shown<'_>,
    check: PodAddressCheck,
    world: &Liveness,
) -> Result<Address, Refused> {
    let claims = Claims::read(claims)?;
    judge(&claims, purpose, shown, &settings(check), world, now(NOW)).map(|judged| judged.address)
}

/// The shop's pod sends it, and addresses are enforced.
fn sent(claims: &Value) -> Result<Address, Refused> {
    let from = Shown::From(ip(POD));
    decide(
        claims,
        Purpose::Workload,
        from,
        PodAddressCheck::Enforce,
        &world(),
    )
}

const fn no(rejection: Rejection) -> Result<Address, Refused> {
    Err(Refused::Rejected(rejection))
}

#[test]
fn a_pods_own_token_from_its_own_address_is_good() {
    assert_eq!(sent(&shop_token()), Ok(Address::Own));
}

#[test]
fn a_token_without_a_claim_that_identity_rests_on_gives_nothing() {
    for path in [
        "/iss",
        "/sub",
        "/exp",
        "/kubernetes.io",
        "/kubernetes.io/namespace",
        "/kubernetes.io/serviceaccount",
        "/kubernetes.io/serviceaccount/name",
        "/kubernetes.io/serviceaccount/uid",
        "/kubernetes.io/pod/name",
        "/kubernetes.io/pod/uid",
        "/kubernetes.io/node/name",
    ] {
        assert_eq!(sent(&without(path)), no(Rejection::Claims), "without {path}");
        for empty in [json!(""), json!(null), json!({}), json!([]), json!(0.5)] {
            assert_eq!(
                sent(&with(path, &empty)),
                no(Rejection::Claims),
                "{path} = {empty}"
            );
        }
    }
    for nothing in [json!({}), json!(null), json!([]), json!("x"), json!(1)] {
        assert_eq!(sent(&nothing), no(Rejection::Claims), "{nothing}");
    }
    for path in ["/kubernetes.io/pod", "/kubernetes.io/node"] {
        for empty in [
            json!(null),
            json!({}),
            json!("web"),
            json!({"name": "", "uid": ""}),
        ] {
            assert_eq!(
                sent(&with(path, &empty)),
                no(Rejection::Claims),
                "{path} = {empty}"
            );
        }
    }
}

#[test]
fn claims_that_contradict_each_other_give_nothing() {
    for (path, value) in [
        ("/sub", json!("system:serviceaccount:shop:somebody")),
        ("/sub", json!("system:serviceaccount:other:shopper")),
        ("/sub", json!("system:serviceaccount:shop:shopper:more")),
        ("/sub", json!("SYSTEM:serviceaccount:shop:shopper")),
        ("/sub", json!("system:node:node-1")),
        ("/kubernetes.io/namespace", json!("other")),
        ("/kubernetes.io/namespace", json!("Shop")),
        ("/kubernetes.io/namespace", json!("shop ")),
        // Of a live pod, but not the one that it names.
        ("/kubernetes.io/pod/name", json!("other")),
        ("/exp", json!("1700000600")),
        ("/exp", json!(u64::MAX)),
        ("/nbf", json!("soon")),
        ("/nbf", json!(null)),
    ] {
        assert_eq!(
            sent(&with(path, &value)),
            no(Rejection::Claims),
            "{path} = {value}"
        );
    }
    // A pod of the same name and UID that runs as another account.
    let mut world = world();
    world.upsert_pod(pod("shop", "web", "somebody", &[POD]));
    let from = Shown::From(ip(POD));
    let decided = decide(
        &shop_token(),
        Purpose::Workload,
        from,
        PodAddressCheck::Off,
        &world,
    );
    assert_eq!(decided, no(Rejection::Claims));
}

#[test]
fn only_a_listed_issuer_is_believed() {
    assert_eq!(
        sent(&with("/iss", &json!("https://issuer.two"))),
        Ok(Address::Own)
    );
    for issuer in [
        "https://issuer.one/",
        "https://ISSUER.one",
        "https://issuer.three",
        "issuer.one",
        " https://issuer.one",
    ] {
        assert_eq!(
            sent(&with("/iss", &json!(issuer))),
            no(Rejection::WrongIssuer),
            "{issuer}"
        );
    }
}

#[test]
fn a_token_is_for_us_and_for_us_alone() {
    assert_eq!(sent(&with("/aud", &json!("strongroom.dev"))), Ok(Address::Own));
    for audience in [
        json!([]),
        json!(["strongroom.dev", "https://kubernetes.default.svc"]),
        json!(["strongroom.dev", "strongroom.dev"]),
        json!(["https://kubernetes.default.svc"]),
        json!("internal.strongroom.dev"),
        json!("strongroom.dev."),
        json!("STRONGROOM.dev"),
        json!("strongroom.dev "),
    ] {
        assert_eq!(
            sent(&with("/aud", &audience)),
            no(Rejection::WrongAudience),
            "{audience}"
        );
    }
    assert_eq!(sent(&without("/aud")), no(Rejection::WrongAudience));
    for malformed in [
        json!(null),
        json!(""),
        json!([""]),
        json!([["strongroom.dev"]]),
        json!(7),
    ] {
        assert_eq!(
            sent(&with("/aud", &malformed)),
            no(Rejection::Claims),
            "{malformed}"
        );
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_with_ten_seconds_to_either_side() {
    for (claim, at, expected) in [
        ("/exp", NOW + 1, Ok(Address::Own)),
        ("/exp", NOW, Ok(Address::Own)),
        ("/exp", NOW - 9, Ok(Address::Own)),
        ("/exp", NOW - 10, no(Rejection::Expired)),
        ("/exp", NOW - 11, no(Rejection::Expired)),
        ("/exp", 0, no(Rejection::Expired)),
        ("/exp", i64::MIN, no(Rejection::Expired)),
        ("/exp", i64::MAX, Ok(Address::Own)),
        ("/nbf", NOW, Ok(Address::Own)),
        ("/nbf", NOW + 10, Ok(Address::Own)),
        ("/nbf", NOW + 11, no(Rejection::NotYetValid)),
        ("/nbf", i64::MAX, no(Rejection::NotYetValid)),
        ("/nbf", i64::MIN, Ok(Address::Own)),
    ] {
        assert_eq!(sent(&with(claim, &json!(at))), expected, "{claim} = {at}");
    }
    assert_eq!(sent(&without("/nbf")), Ok(Address::Own));
}

#[test]
fn only_tokens_of_pods_and_unbound_ones_are_looked_at() {
    let only = |rest: Value| {
        changed(|claims| {
            let kubernetes = claims["kubernetes.io"].as_object_mut().unwrap();
            kubernetes.remove("pod");
            kubernetes.remove("node");
            for (key, value) in rest.as_object().unwrap() {
                kubernetes.insert(key.clone(), value.clone());
            }
        })
    };
    let reference = json!({"name": "x", "uid": "y"});
    // Without a pod: whether that is enough is policy's to say, so no address is looked at.
    assert_eq!(sent(&only(json!({}))), Ok(Address::NotChecked));
    assert_eq!(
        sent(&only(json!({"warnafter": 1_700_000_100}))),
        Ok(Address::NotChecked)
    );
    for bound in [
        json!({"secret": reference}),
        json!({"secret": {}}),
        json!({"secret": reference, "pod": {"name": "web", "uid": "uid-of-web"}}),
        json!({"node": reference}),
        json!({"lease": reference}),
    ] {
        assert_eq!(sent(&only(bound.clone())), no(Rejection::Binding), "{bound}");
    }
    // A node never speaks for a token without a pod.
    let driver = driver();
    let unbound = only(json!({}));
    let shown = Shown::By(&driver);
    let decided = decide(&unbound, Purpose::Workload, shown, PodAddressCheck::Off, &world());
    assert_eq!(decided, no(Rejection::Binding));
}

fn driver() -> NodeCaller {
    NodeCaller {
        node: "node-1".into(),
        pod: Uid::new("uid-of-driver"),
        expires: UnixSeconds(NOW + 600),
    }
}

#[test]
fn a_node_gets_what_its_own_pods_may_read_while_it_is_that_node() {
    let by = |driver: &NodeCaller, world: &Liveness| {
        decide(
            &shop_token(),
            Purpose::Workload,
            Shown::By(driver),
            PodAddressCheck::Enforce,
            world,
        )
    };
    let elsewhere = |name: &str, node: Option<&str>| {
        let mut facts = match name {
            "web" => pod("shop", "web", "shopper", &[POD]),
            _ => pod("strongroom-system", "driver", "strongroom-node", &["10.0.0.20"]),
        };
        facts.node = node.map(Into::into);
        let mut world = world();
        world.upsert_pod(facts);
        world
    };
    assert_eq!(by(&driver(), &world()), Ok(Address::NotChecked));
    assert_eq!(
        by(&driver(), &elsewhere("web", Some("node-2"))),
        no(Rejection::ForeignNode)
    );
    assert_eq!(by(&driver(), &elsewhere("web", None)), no(Rejection::ForeignNode));
    assert_eq!(
        by(&driver(), &elsewhere("driver", Some("node-2"))),
        no(Rejection::NodeCredentialEnded)
    );
    let expired = NodeCaller {
        expires: UnixSeconds(NOW - 10),
        ..driver()
    };
    assert_eq!(by(&expired, &world()), no(Rejection::NodeCredentialEnded));
    let mut gone = world();
    gone.remove_pod(&Uid::new("uid-of-driver"));
    assert_eq!(by(&driver(), &gone), no(Rejection::NodeCredentialEnded));
    // The token says another node than the pod's record.
    let moved = with("/kubernetes.io/node/name", &json!("node-2"));
    assert_eq!(sent(&moved), no(Rejection::ForeignNode));
    // Older clusters write none.
    assert_eq!(sent(&without("/kubernetes.io/node")), Ok(Address::Own));
}

#[test]
fn on_the_internal_listener_only_our_own_processes_are_somebody() {
    let internal = "internal.strongroom.dev";
    let driver = token("strongroom-system", "strongroom-node", "driver", internal);
    let operate = token("strongroom-system", "strongroom-operate", "operate", internal);
    let decide = |claims: &Value, purpose, from: &str| {
        decide(
            claims,
            purpose,
            Shown::From(ip(from)),
            PodAddressCheck::Enforce,
            &world(),
        )
    };
    assert_eq!(decide(&driver, Purpose::Node, "10.0.0.20"), Ok(Address::Own));
    assert_eq!(decide(&operate, Purpose::Operator, "10.0.0.21"), Ok(Address::Own));
    // Neither is the other, and neither token opens a vault.
    assert_eq!(
        decide(&driver, Purpose::Operator, "10.0.0.20"),
        no(Rejection::ForeignAccount)
    );
    assert_eq!(
        decide(&operate, Purpose::Node, "10.0.0.21"),
        no(Rejection::ForeignAccount)
    );
    assert_eq!(
        decide(&driver, Purpose::Workload, "10.0.0.20"),
        no(Rejection::WrongAudience)
    );
    // Stolen.
    assert_eq!(decide(&driver, Purpose::Node, POD), no(Rejection::ForeignAddress));
    // A workload, with its own audience and with ours.
    assert_eq!(
        decide(&shop_token(), Purpose::Node, POD),
        no(Rejection::WrongAudience)
    );
    let shop = token("shop", "shopper", "web", internal);
    assert_eq!(decide(&shop, Purpose::Node, POD), no(Rejection::ForeignAccount));
    // Minted by a person for our account.
    let mut minted = operate;
    minted["kubernetes.io"].as_object_mut().unwrap().remove("pod");
    minted["kubernetes.io"].as_object_mut().unwrap().remove("node");
    assert_eq!(
        decide(&minted, Purpose::Operator, "10.0.0.21"),
        no(Rejection::Binding)
    );
}
