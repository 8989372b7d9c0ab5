//! Tests through the outside of the product, in one binary.

mod chart;
mod cluster;
mod docs;
mod e2e;
mod failpoints;
mod generated;
mod generated_protocol;
mod http;
mod rooms;
mod root_key;
mod samples;
