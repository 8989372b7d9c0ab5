//! The engine as a whole, over the memory store.

mod secrets;
pub(super) mod support;
