//! From a credential to a [`Caller`](crate::model::Caller): signature, claims, and whether what they name still lives.
//!
//! # Why
//! - A token is verified here, against keys in memory, and judged by one pure function: nothing on the way of a request
//!   asks the API server, but for a pod that the feed has not shown yet.
//! - A signature says what was true when the token was made. So each use is bound to what lives now: the service account's
//!   UID and the pod's. What is remembered of a token is its signature's verdict alone, never that.
//! - Nothing falls back: an empty or missing claim is a refusal.

mod claims;
mod facts;
mod judge;
mod liveness;
mod memory;
mod rejection;
mod self_test;
mod settings;
mod sources;
mod verify;

pub use facts::{AccountRef, Phase, PodFacts};
pub use judge::CallingPod;
pub use liveness::{AddressOwner, Liveness};
pub use memory::ConnectionMemory;
pub use rejection::Rejection;
pub use settings::{PodAddressCheck, Settings};
pub use sources::{KeySets, PodLookup, Unavailable};
pub use verify::{Identity, Proof};
