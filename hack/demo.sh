#!/usr/bin/env bash
# From a bare machine to a pod that reads its secret from a vault, and sees the next version at once.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
step "the cluster, the image and Strongroom in it"
client=$("$REPO/hack/e2e-image.sh")
"$REPO/hack/deploy.sh"
"$REPO/hack/load.sh" "$client"
eval "$("$REPO/hack/env.sh")"

demo() { kubectl --namespace strongroom-demo "$@"; }

step "a vault, a policy, a generated secret, a pod that reads it and one that may only set it"
demo delete pod reader writer --ignore-not-found --wait >/dev/null 2>&1 || true
# The first apply of a namespace's vault may come before the operator's trust bundle: the pods wait for it.
sed "s|CLIENT_IMAGE|$client|" "$REPO/hack/demo/demo.yaml" | kubectl apply -f - >/dev/null
demo wait --for=condition=Ready --timeout=60s vaults.strongroom.dev/demo vaultsecrets.strongroom.dev/db-password >/dev/null ||
	fail "the vault did not become ready: kubectl -n strongroom-demo describe vaults.strongroom.dev demo"
demo wait --for=condition=Ready --timeout=90s pod/reader pod/writer >/dev/null || {
	demo get events >&2
	fail "the pods did not start; their events are above"
}
step "the reader says:"
demo logs reader --tail=1 | cut -d' ' -f2- >&2
step "the writer sets a new version with the Azure SDK for Python"
written=$(demo exec -i writer -- python3 - <"$REPO/hack/demo/set.py")
value=${written#* }
for _ in $(seq 50); do
	seen=$(demo logs reader --tail=1)
	[ "${seen##* }" != "$value" ] || break
	sleep 0.1
done
[ "${seen##* }" = "$value" ] || fail "the reader's file did not change: $seen"
step "the reader says:"
printf '%s\n' "${seen#* }" >&2
awk -v answered="${written%% *}" -v seen="${seen%% *}" 'BEGIN {
	ms = (seen - answered) * 1000
	if (ms < 0) ms = 0
	printf "\nThe new version was in the running pod'\''s file %.0f ms after the write was answered.\n", ms
}'
echo "Look around: eval \"\$(hack/env.sh)\"; kubectl -n strongroom-demo get strongroom; kubectl -n strongroom-system get pods"
