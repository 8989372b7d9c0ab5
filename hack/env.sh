#!/usr/bin/env bash
# What a script needs to use the cluster, as shell text:
#
#   eval "$(hack/env.sh)"
#
# PATH (kubectl, helm, kind and, with the private engine, docker), KUBECONFIG and, while the cluster is up:
# STRONGROOM_CLUSTER, STRONGROOM_NODE (the node's container), STRONGROOM_ENGINE (docker or podman), and
# DOCKER_HOST or KIND_EXPERIMENTAL_PROVIDER where the engine needs one.

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

printf 'export PATH=%q:"$PATH" KUBECONFIG=%q\n' "$CACHE/bin" "$CACHE/kubeconfig"
if [ -f "$CACHE/cluster.env" ]; then cat "$CACHE/cluster.env"; fi
