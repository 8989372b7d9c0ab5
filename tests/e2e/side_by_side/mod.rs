//! Tests that share the cluster: each in a namespace of its own.

mod guards;
mod hostile;
pub(in crate::e2e) mod lifecycle;
mod liveness;
mod network;
mod operator;
mod projection;
mod refusals;
mod rules;
mod samples;
mod secrets;
