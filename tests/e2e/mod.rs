//! On a real cluster, with Strongroom installed in it: `make e2e`. Without one these tests are not run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

pub(crate) mod harness;
mod one_by_one;
mod side_by_side;
mod slow;
