//! The REST face: listeners, routes, what is said on the wire, errors, streams.
//!
//! Two listeners, one accept loop ([`listener`]). The vaults' ([`vaults`]) speaks Azure Key Vault; the internal one
//! ([`internal`]) speaks `wire` with `node` and `operate`. Both take what they are asked to the gate and nowhere else.
//! There is no web framework: one route table, one table of errors, bounded buffers.

mod body;
mod events;
mod fault;
mod head;
mod host;
mod hub;
mod intake;
mod internal;
mod limits;
mod listener;
mod projection;
mod pulse;
mod reply;
mod route;
mod summaries;
mod vaults;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

pub use internal::{Internal, serve_internal};
pub use limits::Limits;
pub use route::{Action, ROUTES, Row, Segment};
pub use vaults::{Vaults, serve_vaults};

/// A random part of `most`, so that what begins together does not end together.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1_000;
    most.mul_f64(f64::from(u32::try_from(random).unwrap_or_default()) / 1_000.0)
}
