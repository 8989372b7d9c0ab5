//! One table: a token that is good, and what each single departure from it leads to.

use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::identity::AccountRef;
use crate::model::{Namespace, PodRef, ServiceAccountCaller, UnixSeconds};

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
fn access_ends_with_the_service_account_and_does_not_come_back_with_its_name() {
    let from = Shown::From(ip(POD));
    let with_account = |change: &dyn Fn(&mut Liveness)| {
        let mut world = world();
        change(&mut world);
        decide(
            &shop_token(),
            Purpose::Workload,
            from,
            PodAddressCheck::Enforce,
            &world,
        )
    };
    let (shopper, uid) = (account("shop", "shopper"), Uid::new("uid-of-shopper"));
    assert_eq!(
        with_account(&|world| world.remove_account(&shopper, &uid)),
        no(Rejection::AccountGone)
    );
    let anew = |world: &mut Liveness| world.upsert_account(shopper.clone(), Uid::new("another"));
    assert_eq!(with_account(&anew), no(Rejection::AccountGone));
    assert_eq!(
        with_account(&|world| world.replace_accounts([])),
        no(Rejection::AccountGone)
    );
    // Its deletion, told after it was made anew, is of the one before.
    let late = |world: &mut Liveness| world.remove_account(&shopper, &Uid::new("one before"));
    assert_eq!(with_account(&late), Ok(Address::Own));
    assert_eq!(
        sent(&with("/kubernetes.io/serviceaccount/uid", &json!("x"))),
        no(Rejection::AccountGone)
    );
}

#[test]
fn access_ends_when_the_pod_is_gone_replaced_or_ended_and_not_while_it_terminates() {
    let from = Shown::From(ip(POD));
    let with_pod = |change: &dyn Fn(&mut PodFacts)| {
        let (mut world, mut web) = (world(), pod("shop", "web", "shopper", &[POD]));
        change(&mut web);
        world.upsert_pod(web);
        decide(
            &shop_token(),
            Purpose::Workload,
            from,
            PodAddressCheck::Enforce,
            &world,
        )
    };
    assert_eq!(with_pod(&|web| web.deleting = true), Ok(Address::Own));
    assert_eq!(with_pod(&|web| web.phase = Phase::Pending), Ok(Address::Own));
    assert_eq!(
        with_pod(&|web| web.phase = Phase::Terminal),
        no(Rejection::PodEnded)
    );
    // Of the same name and another UID: the one that the token names is to be asked for, and is gone.
    assert_eq!(
        with_pod(&|web| web.uid = Uid::new("another")),
        Err(Refused::PodUnknown)
    );
    let mut gone = world();
    gone.remove_pod(&Uid::new("uid-of-web"));
    let decided = decide(
        &shop_token(),
        Purpose::Workload,
        from,
        PodAddressCheck::Enforce,
        &gone,
    );
    assert_eq!(decided, Err(Refused::PodUnknown));
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

#[test]
fn a_token_of_another_pods_address_is_refused_as_far_as_the_platform_says() {
    use PodAddressCheck::{Enforce, Off, Report};
    let (own, unconfirmed, skipped) = (
        Ok(Address::Own),
        Ok(Address::Unconfirmed),
        Ok(Address::NotChecked),
    );
    let foreign = no(Rejection::ForeignAddress);
    // (address, with Enforce, with Report)
    for (from, enforce, report) in [
        (POD, own, own),
        ("::ffff:10.0.0.7", own, own),
        (OTHER_POD, foreign, foreign),
        ("::ffff:10.0.0.8", foreign, foreign),
        // Two pods say that it is theirs: it matches nobody.
        (SHARED, foreign, unconfirmed),
        (NODE, foreign, unconfirmed),
        (NOBODYS, foreign, unconfirmed),
        ("::1", foreign, unconfirmed),
    ] {
        for (check, expected) in [(Enforce, enforce), (Report, report), (Off, skipped)] {
            let shown = Shown::From(ip(from));
            let decided = decide(&shop_token(), Purpose::Workload, shown, check, &world());
            assert_eq!(decided, expected, "{from} {check:?}");
        }
    }
    // Not even the two who share it.
    let left = token("shop", "shopper", "left", "strongroom.dev");
    let shared = Shown::From(ip(SHARED));
    assert_eq!(
        decide(&left, Purpose::Workload, shared, Enforce, &world()),
        foreign
    );
    assert_eq!(
        decide(&left, Purpose::Workload, shared, Report, &world()),
        unconfirmed
    );
}

#[test]
fn a_pod_on_the_hosts_network_sends_from_its_nodes_address() {
    use PodAddressCheck::{Enforce, Report};
    let mut world = world();
    let mut web = pod("shop", "web", "shopper", &[NODE]);
    web.host_network = true;
    web.host_addresses.push(ip("fd00::1"));
    world.upsert_pod(web);
    let mut neighbour = pod("shop", "neighbour", "shopper", &[NODE]);
    neighbour.host_network = true;
    world.upsert_pod(neighbour);
    for (from, check, expected) in [
        (NODE, Enforce, Ok(Address::Own)),
        ("::ffff:192.168.1.1", Enforce, Ok(Address::Own)),
        ("fd00::1", Enforce, Ok(Address::Own)),
        (POD, Enforce, no(Rejection::ForeignAddress)),
        (OTHER_POD, Report, no(Rejection::ForeignAddress)),
        (NOBODYS, Report, Ok(Address::Unconfirmed)),
    ] {
        let decided = decide(
            &shop_token(),
            Purpose::Workload,
            Shown::From(ip(from)),
            check,
            &world,
        );
        assert_eq!(decided, expected, "{from} {check:?}");
    }
}

#[test]
fn a_pod_whose_address_is_not_told_yet_is_asked_to_try_again() {
    use PodAddressCheck::{Enforce, Report};
    let mut world = world();
    world.upsert_pod(pod("shop", "web", "shopper", &[]));
    for (from, check, expected) in [
        (NOBODYS, Enforce, no(Rejection::Unavailable)),
        (OTHER_POD, Enforce, no(Rejection::Unavailable)),
        (OTHER_POD, Report, no(Rejection::Unavailable)),
        (NOBODYS, Report, Ok(Address::Unconfirmed)),
    ] {
        let decided = decide(
            &shop_token(),
            Purpose::Workload,
            Shown::From(ip(from)),
            check,
            &world,
        );
        assert_eq!(decided, expected, "{from} {check:?}");
    }
}

#[test]
fn an_address_follows_the_pods_that_live() {
    let mut world = world();
    assert_eq!(
        world.owner(ip(OTHER_POD)),
        AddressOwner::Pod(&Uid::new("uid-of-other"))
    );
    // One that has ended keeps its object, and its address goes to the next.
    let mut ended = pod("shop", "other", "shopper", &[OTHER_POD]);
    ended.phase = Phase::Terminal;
    world.upsert_pod(ended);
    assert_eq!(world.owner(ip(OTHER_POD)), AddressOwner::Nobody);
    world.upsert_pod(pod("shop", "web", "shopper", &[OTHER_POD]));
    assert_eq!(
        world.owner(ip(OTHER_POD)),
        AddressOwner::Pod(&Uid::new("uid-of-web"))
    );
    assert_eq!(world.owner(ip(POD)), AddressOwner::Nobody);
    // Of two, the one that stays owns it again.
    world.remove_pod(&Uid::new("uid-of-left"));
    assert_eq!(
        world.owner(ip(SHARED)),
        AddressOwner::Pod(&Uid::new("uid-of-right"))
    );
    // A pod made anew pushes out the one before, whose deletion was never seen.
    let mut anew = pod("shop", "right", "shopper", &["10.0.0.30"]);
    anew.uid = Uid::new("anew");
    world.upsert_pod(anew);
    assert_eq!(world.pod(&Uid::new("uid-of-right")), None);
    assert_eq!(world.owner(ip(SHARED)), AddressOwner::Nobody);
    // And a late word of that deletion takes nothing from the new one.
    world.remove_pod(&Uid::new("uid-of-right"));
    assert!(world.pod(&Uid::new("anew")).is_some());
    let before = world.clone();
    world.replace_pods([pod("shop", "web", "shopper", &[POD])]);
    assert_eq!(
        (world.pods(), world.owner(ip(OTHER_POD))),
        (1, AddressOwner::Nobody)
    );
    assert!(world.account(&account("shop", "shopper")).is_some());
    assert!(
        before.pod(&Uid::new("anew")).is_some(),
        "who holds the world before sees it whole"
    );
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

#[test]
fn who_was_admitted_is_looked_at_again_when_the_world_changed() {
    let caller = ServiceAccountCaller {
        namespace: Namespace::parse("shop").unwrap(),
        name: "shopper".into(),
        uid: Uid::new("uid-of-shopper"),
        pod: Some(PodRef {
            name: "web".into(),
            uid: Uid::new("uid-of-web"),
            node: Some("node-1".into()),
        }),
        expires: UnixSeconds(NOW + 600),
        address: None,
    };
    let changed = |change: &dyn Fn(&mut Liveness), wall| {
        let mut world = world();
        change(&mut world);
        still_lives(&caller, &world, now(wall))
    };
    let rejected = |rejection| Err(Refused::Rejected(rejection));
    assert_eq!(changed(&|_| {}, NOW), Ok(()));
    assert_eq!(changed(&|_| {}, NOW + 609), Ok(()));
    assert_eq!(changed(&|_| {}, NOW + 610), rejected(Rejection::Expired));
    assert_eq!(
        changed(&|world| world.replace_accounts([]), NOW),
        rejected(Rejection::AccountGone)
    );
    let gone = |world: &mut Liveness| world.remove_pod(&Uid::new("uid-of-web"));
    assert_eq!(changed(&gone, NOW), Err(Refused::PodUnknown));
    let ended = |world: &mut Liveness| {
        let mut web = pod("shop", "web", "shopper", &[POD]);
        web.phase = Phase::Terminal;
        world.upsert_pod(web);
    };
    assert_eq!(changed(&ended, NOW), rejected(Rejection::PodEnded));
}
