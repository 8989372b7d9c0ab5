#!/usr/bin/env bash
# Builds the image, loads it into the cluster and installs or upgrades Strongroom there with Helm.
# What follows on the command line goes to `helm upgrade`, as --set audit.storage=emptyDir.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
source "$REPO/hack/lib/rust.sh"
need_rust
reference=$(build_image)
"$REPO/hack/cluster.sh" up
eval "$("$REPO/hack/env.sh")"
"$REPO/hack/load.sh" "$reference"
step "helm upgrade --install strongroom ($reference)"
helm upgrade --install strongroom "$REPO/charts/strongroom" --namespace strongroom-system --create-namespace \
	--set image.repository="${reference%:*}" --set image.tag="${reference##*:}" --wait --timeout 8m "$@" >/dev/null || {
	kubectl --namespace strongroom-system get pods >&2
	kubectl --namespace strongroom-system logs --all-containers --prefix --tail 5 \
		--selector app.kubernetes.io/name=strongroom >&2
	fail "Strongroom did not become ready; see the pods and their logs above"
}
# Helm counts a DaemonSet as ready that may have one node unavailable: on one node, always.
kubectl --namespace strongroom-system rollout status daemonset/strongroom-node --timeout=120s >/dev/null ||
	fail "the node plugin did not become ready: kubectl -n strongroom-system describe pods"
step "Strongroom runs in namespace strongroom-system"
