//! The Kubernetes face: custom resources are made true, and their status says how far they are.
//!
//! One file per kind, and each is four verbs: *gather* reads, *plan* decides (pure, tested as a table), *apply* does,
//! *report* writes status and events. Every step may be done again, so a process that dies anywhere is harmless.
//!
//! # Why it can't read a secret
//! It holds no key. What needs one it asks of `serve`, by a closed list of actions of which none returns a value; what it
//! writes in the cluster is on the list of the guard `strongroom-accounts`.

mod access_policy;
mod backoff;
mod concerns;
mod conditions;
mod context;
mod deleted_vaults;
mod error;
mod guards;
mod network_rule;
mod owned;
mod report;
mod run;
mod secret;
mod summaries;
mod trust_bundle;
mod vault;

pub use error::Error;
pub use run::{Leads, Settings, run};

/// Manager of the fields that we make true (services, ConfigMaps, finalizers).
const FIELD_MANAGER: &str = "strongroom-operate";
/// Manager of the fields of status: another than the one above, so that neither takes the other's away.
const STATUS_MANAGER: &str = "strongroom-operate-status";
/// On a `Secret` with `deletionPolicy: Delete`: its object is deleted before it goes.
const FINALIZER: &str = "strongroom.dev/delete";
