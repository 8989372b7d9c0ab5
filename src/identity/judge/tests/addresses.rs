//! From where a token may come.

use super::*;

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

/// Which of the world's pods calls, by the shop's token: its name, or why none.
fn calls(from: Option<&str>, check: PodAddressCheck, world: &Liveness) -> String {
    let account = crate::model::ServiceAccountCaller {
        namespace: Namespace::parse("shop").unwrap(),
        name: "shopper".into(),
        uid: Uid::new("uid-of-shopper"),
        pod: Some(crate::model::PodRef {
            name: "web".into(),
            uid: Uid::new("uid-of-web"),
            node: None,
        }),
        expires: UnixSeconds(NOW + 600),
        address: None,
    };
    match calling_pod(&account, from.map(ip), check, world) {
        CallingPod::Known(pod) => pod.name.to_string(),
        CallingPod::None => "none".to_owned(),
        CallingPod::NotYet => "not yet".to_owned(),
    }
}

#[test]
fn a_call_is_its_tokens_pods_only_from_that_pods_own_address() {
    use PodAddressCheck::{Enforce, Off, Report};
    for (from, found) in [
        (Some(POD), "web"),
        (Some("::ffff:10.0.0.7"), "web"),
        (Some(OTHER_POD), "none"),
        (Some(SHARED), "none"),
        (Some(NODE), "none"),
        (Some(NOBODYS), "none"),
        // Its own node asks for it.
        (None, "web"),
    ] {
        for check in [Enforce, Report] {
            assert_eq!(calls(from, check, &world()), found, "{from:?} {check:?}");
        }
        assert_eq!(calls(from, Off, &world()), "web", "{from:?}");
    }
}

#[test]
fn a_pod_that_is_not_known_whole_calls_in_a_moment() {
    let mut addressless = world();
    addressless.upsert_pod(pod("shop", "web", "shopper", &[]));
    assert_eq!(calls(Some(POD), PodAddressCheck::Report, &addressless), "not yet");
    assert_eq!(calls(None, PodAddressCheck::Report, &addressless), "web");
    let mut unseen = world();
    unseen.remove_pod(&Uid::new("uid-of-web"));
    for from in [Some(POD), None] {
        assert_eq!(calls(from, PodAddressCheck::Report, &unseen), "not yet");
    }
}

#[test]
fn a_pod_on_the_hosts_network_calls_from_its_nodes_address() {
    let mut world = world();
    let mut web = pod("shop", "web", "shopper", &[NODE]);
    web.host_network = true;
    world.upsert_pod(web);
    assert_eq!(calls(Some(NODE), PodAddressCheck::Report, &world), "web");
    assert_eq!(calls(Some(POD), PodAddressCheck::Report, &world), "none");
}
