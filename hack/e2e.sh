#!/usr/bin/env bash
# The tests on the real cluster: what users get, side by side, a namespace each; then, one by one, what a part does with
# a real API server (how fresh it is, which nothing beside it may disturb), and those that break things. An argument
# picks tests by a part of their name.

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
run_group() {
	cargo test --quiet --locked --test integration -- --ignored "$1::$3" \
		--skip cluster::slow:: --test-threads "$2" --nocapture
}

for group in e2e::side_by_side cluster e2e::one_by_one; do
	step "tests on the cluster: $group"
	threads=1
	[ "$group" != e2e::side_by_side ] || threads=3
	run_group "$group" "$threads" "${1:-}" || fail "a test on the cluster failed"
done
step "tests on the cluster passed in $(($(date +%s) - began)) s"
