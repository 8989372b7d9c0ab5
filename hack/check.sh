#!/usr/bin/env bash
# Format, lints, and every test that needs no cluster and no network.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$REPO/hack/lib/rust.sh"
need_rust
cd "$REPO"
step "cargo fmt --check"
cargo fmt --check || fail "'cargo fmt' has not been run"
step "cargo clippy"
cargo clippy --quiet --locked --all-targets -- -D warnings || fail "clippy finds fault"
step "cargo test"
cargo test --locked --quiet || fail "a test failed"
step "checks passed"
