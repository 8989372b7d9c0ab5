//! Access ends with what a token names.

use super::*;
use crate::model::{PodRef, ServiceAccountCaller};

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
