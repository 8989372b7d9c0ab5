#!/usr/bin/env bash
# The tests on the real cluster: what users get, side by side, a namespace each; then what a part does with a real
# API server; then, one by one, those that break things. An argument picks tests by a part of their name.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$REPO/hack/lib/rust.sh"
need_rust
client=$("$REPO/hack/e2e-image.sh")
# At trace level, so that the search for leaked values sees all that could ever be logged.
"$REPO/hack/deploy.sh" --set logLevel=trace
"$REPO/hack/load.sh" "$client"
eval "$("$REPO/hack/env.sh")"
export STRONGROOM_E2E_IMAGE=$client
cd "$REPO"
began=$(date +%s)
for group in e2e::side_by_side cluster e2e::one_by_one; do
	step "tests on the cluster: $group"
	threads=6
	[ "$group" != e2e::one_by_one ] || threads=1
	cargo test --quiet --locked --test integration -- --ignored "$group::${1:-}" \
		--skip cluster::slow:: --test-threads "$threads" --nocapture || fail "a test on the cluster failed"
done
step "tests on the cluster passed in $(($(date +%s) - began)) s"
