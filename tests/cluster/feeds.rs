//! The feeds: they show what was written, prove how fresh they are, and heal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom::cluster::{Api, FeedsConfig, RecordSink, run_feeds};
use strongroom::identity::AccountRef;
use strongroom::model::{Namespace, VaultId, VaultName};
use strongroom::store::{Record, RecordName, SealedStore, Stamp, StoreError, StoreEvent};
use strongroom::telemetry::Metrics;
use strongroom::world::{Feed, Shared, Standing};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::proxy::{Cable, Proxy};
use super::{metrics, record_name, release, serve_api, serve_config, spread, store, unique};
use crate::e2e::harness::{Tenant, eventually, policy, tenant};

/// Keeps what the feed tells.
struct Recorder(mpsc::UnboundedSender<(Instant, StoreEvent)>);

impl RecordSink for Recorder {
    fn replace_all(&self, records: Vec<Record>, _: u64) {
        for record in records {
            let _ = self.0.send((Instant::now(), StoreEvent::Put(record)));
        }
    }

    fn apply(&self, event: &StoreEvent) {
        let _ = self.0.send((Instant::now(), event.clone()));
    }
}

pub(super) struct Followed {
    pub(super) world: Arc<Shared>,
    metrics: Arc<Metrics>,
    told: mpsc::UnboundedReceiver<(Instant, StoreEvent)>,
    running: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub(super) async fn follow(api: Api, bound: Duration) -> Followed {
    let world = Arc::new(Shared::new(Standing::new(Instant::now(), bound)));
    let (sender, told) = mpsc::unbounded_channel();
    let metrics = metrics();
    let config = FeedsConfig {
        api,
        release_namespace: release(),
        staleness_bound: bound,
        metrics: Arc::clone(&metrics),
    };
    let running = tokio::spawn(run_feeds(config, Arc::clone(&world), Arc::new(Recorder(sender))));
    let began = Instant::now();
    while let Err(out) = world.standing.check(Instant::now()) {
        assert!(began.elapsed() < Duration::from_secs(10), "{out}");
        sleep(Duration::from_millis(5)).await;
    }
    println!("all six lists were read in {:?}", began.elapsed());
    Followed {
        world,
        metrics,
        told,
        running,
    }
}

impl Followed {
    /// When the feed told of this state of this record.
    async fn saw(&mut self, name: &RecordName, stamp: &Stamp) -> Instant {
        let look = async {
            loop {
                let (at, event) = self.told.recv().await.unwrap();
                if matches!(&event, StoreEvent::Put(record) if record.name == *name && record.stamp == *stamp)
                {
                    return at;
                }
            }
        };
        timeout(Duration::from_secs(30), look)
            .await
            .expect("the feed never told")
    }

    /// How often a feed has read a complete list.
    pub(super) fn lists(&self, feed: Feed) -> u64 {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let start = format!("strongroom_feed_lists_total{{feed=\"{}\"}} ", feed.as_str());
        let count = text.lines().find_map(|line| line.strip_prefix(&start));
        count.expect("lists are counted").parse().unwrap()
    }

    /// The oldest that any feed was during this time.
    async fn oldest_within(&self, time: Duration) -> Duration {
        let (began, mut oldest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < time {
            for feed in Feed::ALL {
                oldest = oldest.max(self.world.standing.age(feed, Instant::now()).unwrap());
            }
            sleep(Duration::from_millis(50)).await;
        }
        oldest
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_feed_shows_own_writes_within_milliseconds() {
    let api = serve_api().await;
    let store = store(&api);
    let mut followed = follow(api, Duration::from_secs(300)).await;
    let name = record_name(&unique("lag"));
    let mut stamp = store.create(&name, Bytes::from(vec![0; 2048])).await.unwrap();
    followed.saw(&name, &stamp).await;
    let mut lags = Vec::new();
    for n in 1..=100 {
        stamp = store
            .update(&name, &stamp, Bytes::from(vec![n; 2048]))
            .await
            .unwrap();
        let answered = Instant::now();
        let told = followed.saw(&name, &stamp).await;
        lags.push(told.saturating_duration_since(answered));
    }
    let (median, worst) = spread(lags);
    println!("from the answered write to the feed: median {median:?}, worst of 100 {worst:?}");
    assert!(worst < Duration::from_secs(1));
    store.delete(&name, &stamp).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn idle_feeds_prove_that_they_are_fresh_within_the_shortest_bound() {
    idle(10, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn idle_feeds_prove_that_they_are_fresh_long_before_the_usual_bound() {
    idle(300, 30).await;
}

/// With this bound, no feed is ever older than that; all in seconds.
async fn idle(bound: u64, limit: u64) {
    let followed = follow(serve_api().await, Duration::from_secs(bound)).await;
    let oldest = followed.oldest_within(Duration::from_secs(25)).await;
    println!("bound {bound} s: the oldest that any of seven idle feeds became in 25 s: {oldest:.1?}");
    assert!(oldest < Duration::from_secs(limit));
    for feed in Feed::ALL {
        assert_eq!(followed.lists(feed), 1, "no feed had to read all anew");
    }
}

pub(super) fn in_world<T>(
    followed: &Followed,
    what: &str,
    look: impl Fn(&strongroom::world::World) -> Option<T>,
) -> T {
    let began = Instant::now();
    let found = eventually(what, Duration::from_secs(10), || look(&followed.world.load()));
    println!("{what}: {:?} after kubectl returned", began.elapsed());
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn vaults_policies_pods_and_accounts_appear_in_the_world_and_go() {
    let followed = follow(serve_api().await, Duration::from_secs(300)).await;
    let tenant: Tenant = tenant("the_world");
    let namespace = Namespace::parse(&tenant.namespace).unwrap();
    let vault = VaultId {
        namespace: namespace.clone(),
        name: VaultName::parse("demo").unwrap(),
    };
    let account = AccountRef {
        namespace: namespace.clone(),
        name: Arc::from("app"),
    };
    tenant
        .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo}\nspec: {}\n")
        .ok();
    in_world(&followed, "the vault is there", |w| w.vaults.get(&vault).cloned());
    tenant.apply(&policy("p", "app", &["get"])).ok();
    in_world(&followed, "its policy is compiled", |w| {
        w.policy.vault(&vault).cloned()
    });
    tenant.kubectl(&["create", "serviceaccount", "app"]).ok();
    in_world(&followed, "the account is there", |w| {
        w.liveness.account(&account).cloned()
    });
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: {namespace}}}\nspec:\n  serviceAccountName: app\n  \
         nodeName: nowhere\n  containers: [{{name: c, image: none}}]\n"
    );
    tenant.apply(&pod).ok();
    let uid = tenant
        .kubectl(&["get", "pod", "p", "-o", "jsonpath={.metadata.uid}"])
        .ok();
    let uid = strongroom::model::Uid::new(&uid);
    let facts = in_world(&followed, "the pod is there", |w| w.liveness.pod(&uid).cloned());
    assert_eq!(
        (&*facts.service_account, facts.node.as_deref()),
        ("app", Some("nowhere"))
    );
    tenant
        .kubectl(&["delete", "pod", "p", "--force", "--grace-period=0"])
        .ok();
    in_world(&followed, "the pod is gone", |w| {
        w.liveness.pod(&uid).is_none().then_some(())
    });
    tenant.kubectl(&["delete", "accesspolicy", "p"]).ok();
    in_world(&followed, "its policy is gone", |w| {
        w.policy.vault(&vault).is_none().then_some(())
    });
    tenant.kubectl(&["delete", "vault", "demo"]).ok();
    in_world(&followed, "the vault is gone", |w| {
        (!w.vaults.contains_key(&vault)).then_some(())
    });
    tenant.kubectl(&["delete", "serviceaccount", "app"]).ok();
    in_world(&followed, "the account is gone", |w| {
        w.liveness.account(&account).is_none().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_cut_cable_makes_feeds_stale_by_the_bound_and_they_heal_when_it_is_whole() {
    let bound = Duration::from_secs(10);
    let config = serve_config().await;
    let proxy = Proxy::before(&config).await;
    let mut followed = follow(Api::connect(&proxy.through(config)).unwrap(), bound).await;
    let store = store(&serve_api().await);
    for cable in [Cable::Hole, Cable::Unplugged] {
        proxy.is(cable);
        let cut = Instant::now();
        let name = record_name(&unique("cut"));
        let stamp = store
            .create(&name, Bytes::from_static(b"meanwhile"))
            .await
            .unwrap();
        while followed.world.standing.check(Instant::now()).is_ok() {
            assert!(
                cut.elapsed() < bound + Duration::from_secs(1),
                "stale data counted as fresh"
            );
            sleep(Duration::from_millis(10)).await;
        }
        println!("cut: refused after {:.1?}", cut.elapsed());
        sleep(Duration::from_secs(3)).await;
        proxy.is(Cable::Whole);
        let whole = Instant::now();
        let told = followed.saw(&name, &stamp).await;
        while followed.world.standing.check(Instant::now()).is_err() {
            assert!(
                whole.elapsed() < Duration::from_secs(20),
                "the feeds did not heal"
            );
            sleep(Duration::from_millis(10)).await;
        }
        println!(
            "whole again: the record came after {:.1?}, all feeds were fresh after {:.1?}",
            told.saturating_duration_since(whole),
            whole.elapsed()
        );
        store.delete(&name, &stamp).await.unwrap();
    }
    for feed in Feed::ALL {
        assert_eq!(followed.lists(feed), 1, "a short cut needs no list");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_slow_api_server_slows_writes_and_one_that_is_too_slow_is_as_good_as_away() {
    const BOUND: Duration = Duration::from_secs(15);
    let account = serve_config().await;
    let proxy = Proxy::before(&account).await;
    let through = Api::connect(&proxy.through(account)).unwrap();
    let (slow, direct) = (store(&through), store(&serve_api().await));
    let followed = follow(through, BOUND).await;

    // What follows another answer at once comes with it: the lists come first.
    let calm = || sleep(Duration::from_millis(500));
    proxy.is(Cable::Slow);
    calm().await;
    let name = record_name(&unique("slow"));
    let began = Instant::now();
    let made = slow.create(&name, Bytes::from_static(b"one")).await.unwrap();
    let took = began.elapsed();
    let oldest = followed.oldest_within(Duration::from_secs(12)).await;
    println!("answers 1.5 s late: a write took {took:?}, what the feeds know was {oldest:?} old at most");
    assert!(
        took > Duration::from_secs(1) && oldest < BOUND,
        "{took:?} {oldest:?}"
    );

    proxy.is(Cable::TooSlow);
    calm().await;
    let began = Instant::now();
    let unanswered = slow.update(&name, &made, Bytes::from_static(b"two")).await;
    println!(
        "answers 7 s late: a write was given up after {:?}",
        began.elapsed()
    );
    assert_eq!(unanswered, Err(StoreError::Unknown));
    assert!(began.elapsed() < Duration::from_secs(6));
    let began = Instant::now();
    while followed.world.standing.check(Instant::now()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(25), "reads go on for ever");
        sleep(Duration::from_millis(50)).await;
    }
    println!("reads were refused {:?} later", began.elapsed());

    proxy.is(Cable::Whole);
    let began = Instant::now();
    while let Err(out) = followed.world.standing.check(Instant::now()) {
        assert!(began.elapsed() < Duration::from_secs(20), "{out}");
        sleep(Duration::from_millis(50)).await;
    }
    println!(
        "reads went on {:?} after the API server was quick again",
        began.elapsed()
    );
    let found = direct.get(&name).await.unwrap().unwrap();
    assert!(
        [&b"one"[..], b"two"].contains(&&found.envelope[..]),
        "one or the other, and whole"
    );
    direct.delete(&name, &found.stamp).await.unwrap();
}
