#!/usr/bin/env bash
# The tests on the real cluster: what users get, side by side, a namespace each; then what a part does with a real API server
# (how fresh it is, which no crowd of pods beside it may disturb); then, one by one, those that break things. An argument
# picks tests by a part of their name, those that take minutes too; the build with failpoints is made where it is picked, and so
# is what a downgrade goes back to: the last tag, or the commit that STRONGROOM_PREVIOUS names.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$REPO/hack/lib/rust.sh"
need_rust
# What was built for the tests that need no cluster is what is tested on one.
export STRONGROOM_PROFILE=dev
client=$("$REPO/hack/e2e-image.sh")
# At trace level, so that the search for leaked values sees all that could ever be logged. Each test has vaults of its own
# that go when it ends.
"$REPO/hack/deploy.sh" --set logLevel=trace --set vaultDeletionsPerHour=1000
"$REPO/hack/load.sh" "$client"
eval "$("$REPO/hack/env.sh")"
export STRONGROOM_E2E_IMAGE=$client
cd "$REPO"
if [ -n "${1:-}" ]; then
	picked=$(cargo test --quiet --locked --test integration -- --ignored --list "$1")
	if grep -q '^e2e::slow::failpoints::' <<<"$picked"; then
		STRONGROOM_FAILPOINT_IMAGE=$(build_failpoint_image)
		export STRONGROOM_FAILPOINT_IMAGE
		"$REPO/hack/load.sh" "$STRONGROOM_FAILPOINT_IMAGE"
	fi
	previous=${STRONGROOM_PREVIOUS:-$(git describe --tags --abbrev=0 2>/dev/null)} || true
	if grep -q '^e2e::slow::downgrade::' <<<"$picked" && [ -n "$previous" ]; then
		STRONGROOM_PREVIOUS_IMAGE=$(build_previous_image "$previous")
		STRONGROOM_PREVIOUS_CHART=$CACHE/previous/charts/strongroom
		export STRONGROOM_PREVIOUS_IMAGE STRONGROOM_PREVIOUS_CHART
		"$REPO/hack/load.sh" "$STRONGROOM_PREVIOUS_IMAGE"
	fi
fi
began=$(date +%s)
groups=(e2e::side_by_side cluster e2e::one_by_one e2e::slow)
slow=()
[ -n "${1:-}" ] || slow=(--skip slow::)
run_group() {
	local others=() other
	for other in "${groups[@]}"; do
		[ "$other" = "$1" ] || others+=(--skip "$other::")
	done
	cargo test --quiet --locked --test integration -- --ignored "${3:-$1::}" \
		"${others[@]}" "${slow[@]}" --test-threads "$2" --nocapture
}

for group in "${groups[@]}"; do
	[ "$group" != e2e::slow ] || [ -n "${1:-}" ] || continue
	step "tests on the cluster: $group"
	case $group in
	e2e::side_by_side) threads=4 ;;
	cluster) threads=3 ;;
	*) threads=1 ;;
	esac
	run_group "$group" "$threads" "${1:-}" || fail "a test on the cluster failed"
done
step "tests on the cluster passed in $(($(date +%s) - began)) s"
