//! What takes minutes: `make e2e` leaves it out, `make e2e TEST=slow` runs it.
//!
//! Each outage of the API server ends the scheduler and the controller manager of the cluster, and the kubelet starts them again
//! later and later.

mod control_plane;
mod downgrade;
mod failpoints;
mod paused;
mod purge;
mod removal;
mod restored;
mod weather;
