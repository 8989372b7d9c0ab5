#!/usr/bin/env bash
# All checks and tests, those on the real cluster too. The cluster is built while Rust is.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$REPO/hack/lib/rust.sh"
need_rust
mkdir -p "$CACHE/logs"
step "the cluster is being made meanwhile (log: $CACHE/logs/cluster-up.log)"
"$REPO/hack/cluster.sh" up >"$CACHE/logs/cluster-up.log" 2>&1 &
cluster=$!
"$REPO/hack/check.sh"
wait "$cluster" || {
	tail -n 20 "$CACHE/logs/cluster-up.log" >&2
	fail "the cluster could not be made"
}
"$REPO/hack/e2e.sh"
printf '\nAll checks and tests passed.\n'
