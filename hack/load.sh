#!/usr/bin/env bash
# Loads images into the cluster's node, each only if the node hasn't got it:
#
#   load.sh ARCHIVE_OR_REFERENCE...
#
# A reference is what hack/image.sh and hack/e2e-image.sh print.

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HACK/lib/common.sh"
[ -f "$CACHE/cluster.env" ] || fail "there is no cluster: run 'make cluster' first"
eval "$("$HACK/env.sh")"

present=$("$STRONGROOM_ENGINE" exec "$STRONGROOM_NODE" ctr --namespace k8s.io images ls -q) ||
	fail "the node $STRONGROOM_NODE doesn't answer: run 'make cluster'"
for image; do
	if [ -f "$image" ]; then
		archive=$image
		reference=$(tar --occurrence=1 -xOf "$archive" index.json |
			sed -n 's/.*"io.containerd.image.name":"\([^"]*\)".*/\1/p') || true
	else
		reference=$image
		archive=$CACHE/images/$(basename "${image/:/-}").tar
		[ -f "$archive" ] || fail "no archive of $image: $archive is missing"
	fi
	if [ -n "$reference" ] && grep -qxF "$reference" <<<"$present"; then
		step "$reference is in the cluster"
	else
		kind load image-archive -q --name "$STRONGROOM_CLUSTER" "$archive"
		step "loaded ${reference:-$archive}"
	fi
done
