//! Tests that share the cluster: each in a namespace of its own.

mod guards;
mod liveness;
mod operator;
mod projection;
mod refusals;
mod rules;
mod samples;
mod secrets;
