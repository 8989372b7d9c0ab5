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
run_group() {
	cargo test --quiet --locked --test integration -- --ignored "$1::$3" \
		--skip cluster::slow:: --test-threads "$2" --nocapture
}

for group in e2e::side_by_side cluster e2e::one_by_one; do
	step "tests on the cluster: $group"
	threads=3
	[ "$group" != e2e::one_by_one ] || threads=1
	# A machine that starves the API server fails what is right: once more, loudly, before it counts as a failure.
	run_group "$group" "$threads" "${1:-}" || {
		step "A TEST FAILED (see above). The group $group is tried a second and last time, one by one."
		sleep 15
		run_group "$group" 1 "${1:-}" || fail "a test on the cluster failed twice"
	}
done
step "tests on the cluster passed in $(($(date +%s) - began)) s"
