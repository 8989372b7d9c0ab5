//! What needs the API server: feeds into the world, sealed records in the cluster's own etcd, the root key, key
//! sets, look-ups of pods, the trust bundle, leadership, and the check of our clock.
//!
//! # Why
//! Everything here is a thin shell around decisions that are pure: what a feed does next and how fresh it is
//! (`position`), what an answer of the API server means (`api`), what declared resources amount to (`compile`). No request
//! waits for anything here but for what the gate's rules name: a change's own write, the confirmation of a refusal, and a
//! pod that the feed has not shown yet.

mod api;
mod clock_skew;
mod declared;
mod declared_vaults;
mod feed;
mod feeds;
mod high_water;
mod keys;
mod lease;
mod of_vaults;
mod pod_events;
mod pods;
mod position;
mod root_key;
mod sealed_records;
mod trust_bundle;
mod wire;
mod word;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

pub use api::{Api, ApiError, Reason, Refusal};
pub use clock_skew::{clock_off, watch_clock};
pub use declared_vaults::declared_vaults;
pub use feeds::{FeedsConfig, RecordSink, run_feeds};
pub use high_water::{HighWater, HighWaterError, keep_high_water, went_back};
pub use keys::{ClusterKeys, KeysError};
pub use lease::{Candidacy, contend};
pub use pod_events::tell_pods;
pub use pods::ClusterPods;
pub use root_key::{
    OpenStoreError, ROOT_KEY_FIELD, ROOT_KEY_SECRET, RootKeyError, RootKeyFound, RootKeySource, open_store,
    root_key, watch_root_key,
};
pub use sealed_records::KubernetesStore;
pub use trust_bundle::{Bundle, keep_trust_bundle, publish_trust_bundle};

/// A time up to `within`, so that replicas that were disturbed together do not act together. No secret depends on it.
fn jitter(within: Duration) -> Duration {
    let drawn = u32::try_from(RandomState::new().hash_one(0_u8) & 0xffff).unwrap_or(0);
    within.saturating_mul(drawn) / 0x1_0000
}
