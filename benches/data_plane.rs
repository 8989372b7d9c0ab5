//! GetSecret through the full gate beside the bare handler.
fn main() {}
