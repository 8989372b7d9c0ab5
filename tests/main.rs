//! Tests through the outside of the product, in one binary.

mod generated;
mod rooms;
