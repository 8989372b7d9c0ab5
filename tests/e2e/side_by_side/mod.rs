//! Tests that share the cluster: each in a namespace of its own.

mod liveness;
mod projection;
mod refusals;
mod samples;
mod secrets;
