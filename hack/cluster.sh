#!/usr/bin/env bash
# The development cluster: kind, one node. See hack/README.md.
#
#   cluster.sh up            makes it, or finds it in a second; leaves a kubeconfig
#   cluster.sh kubeconfig    prints the kubeconfig's path, and nothing else
#   cluster.sh load FILE...  loads image archives into it (the same as hack/load.sh)
#   cluster.sh down          leaves nothing running or mounted; with CLEAN_CACHE=1 nothing at all

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HACK/lib/common.sh"
source "$HACK/cluster/versions.sh"
source "$HACK/cluster/engine.sh"

NAME=strongroom
NODE=$NAME-control-plane
CONFIG=$REPO/kind-config.yaml
KUBECONFIG=$CACHE/kubeconfig
export KUBECONFIG
# What hack/env.sh tells other scripts: written when the cluster is made.
STATE=$CACHE/cluster.env

# The published image for KIND_VERSION, as kind itself pins it.
PUBLISHED_NODE=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a

build() { echo "$HACK/cluster/build/$1"; }

# tools: kubectl, helm and kind in $CACHE/bin.
tools() {
	local kubectl clients
	need_go
	clients=$(piece clients "$(build go-commands.sh)" \
		"kind=sigs.k8s.io/kind@$KIND_VERSION" "helm=helm.sh/helm/v3/cmd/helm@$HELM_VERSION")
	kubectl=$(piece kubectl "$(build kubernetes.sh)" "$KUBERNETES_VERSION" kubectl)
	provide "$clients"/{kind,helm} "$kubectl/kubectl"
}

# provide FILE...: puts programs into $CACHE/bin, where hack/env.sh points the PATH to.
provide() {
	local file
	for file; do ln -sfn "$file" "$CACHE/bin/$(basename "$file")"; done
}

# node_image: prints the folder with an image of a node made here (node.tar, reference).
node_image() {
	local codename debian kubernetes etcd coredns helpers files=$HACK/cluster/node-image
	need_root "making the node image"
	codename=$(debian_codename "the node image (no engine can pull $PUBLISHED_NODE here)")
	need_packages mmdebstrap jq gcc libc6-dev binutils
	kubernetes=$(piece kubernetes "$(build kubernetes.sh)" "$KUBERNETES_VERSION" \
		kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubeadm kubelet kubectl)
	helpers=$(piece node-helpers "$(build kubernetes.sh)" "$KUBERNETES_VERSION" "$files/crictl" "$files/volumes")
	etcd=$(piece etcd "$(build go-commands.sh)" "etcd=go.etcd.io/etcd/server/v3@$ETCD_VERSION" \
		"etcdctl=go.etcd.io/etcd/etcdctl/v3@$ETCD_VERSION" "etcdutl=go.etcd.io/etcd/etcdutl/v3@$ETCD_VERSION")
	coredns=$(piece coredns "$(build go-commands.sh)" "coredns=github.com/coredns/coredns@$COREDNS_VERSION")
	debian=$(piece node-debian "$(build debian-root.sh)" "$codename" \
		systemd containerd runc containernetworking-plugins iptables nftables iproute2 ethtool socat conntrack \
		ebtables kmod util-linux mount procps jq ca-certificates bash)
	piece node-image "$(build node-image.sh)" "$KIND_VERSION" "$files" "$HACK/lib/image-archive.sh" \
		"$HACK/lib/copy-with-libraries.sh" "$debian" "$kubernetes" "$etcd" "$coredns" "$helpers"
}

# choose_engine: sets ENGINE, and IMAGE, the node image that the engine has.
choose_engine() {
	local folder private old
	IMAGE=$PUBLISHED_NODE
	# The private engine of an earlier run isn't the machine's own.
	[ "${DOCKER_HOST:-}" != "$PRIVATE_HOST" ] || unset DOCKER_HOST
	if ENGINE=$(own_engine); then
		[ "$ENGINE" != podman ] || export KIND_EXPERIMENTAL_PROVIDER=podman
		can_pull "$ENGINE" "$IMAGE" && return 0
		step "$ENGINE can't pull the published node image: making one"
	else
		ENGINE=docker
		need_root "starting a private container engine"
		need_packages iptables libseccomp2 libdevmapper1.02.1 libsystemd0
		private=$(piece private-engine "$(build private-engine.sh)" "$HACK/cluster/private-engine/runc-within-bounds")
		provide "$private/bin/docker"
		start_private_engine "$private"
	fi
	folder=$(node_image)
	IMAGE=$(cat "$folder/reference")
	if ! "$ENGINE" image inspect "$IMAGE" >/dev/null 2>&1; then
		step "loading the node image into $ENGINE"
		"$ENGINE" load -q -i "$folder/node.tar" >/dev/null
		# Earlier ones are of no more use; one that a container still has stays until the next time.
		for old in $("$ENGINE" image ls --format '{{.Repository}}:{{.Tag}}' localhost/strongroom/node); do
			[ "$old" = "$IMAGE" ] || "$ENGINE" image rm "$old" >/dev/null 2>&1 || true
		done
	fi
}

# recipe: a hash of what the cluster's shape is made of.
recipe() { hash_of "$CONFIG" "$HACK"/cluster/{versions.sh,build,node-image}; }

# node_runs: the node's container is there and was not stopped.
node_runs() {
	[ -f "$STATE" ] || return 1
	source "$STATE"
	PATH=$CACHE/bin:$PATH
	[ "$("$STRONGROOM_ENGINE" inspect -f '{{.State.Running}}' "$NODE" 2>/dev/null)" = true ]
}

# is_up: the node runs, the API answers, and the node is Ready.
is_up() {
	[ -f "$STATE" ] && [ -f "$KUBECONFIG" ] || return 1
	source "$STATE"
	PATH=$CACHE/bin:$PATH
	[ "$(kubectl get node "$NODE" --request-timeout=3s \
		-o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]
}

# found: is_up, and says so.
found() {
	is_up || return 1
	[ "$STRONGROOM_RECIPE" = "$(recipe)" ] ||
		step "note: kind-config.yaml or the node's recipe changed since this cluster was made; 'make clean cluster' makes it anew"
	step "cluster $NAME is up"
}

up() {
	local _
	if found; then return 0; fi
	take_lock
	if node_runs; then
		step "the node runs, but isn't Ready: waiting for it"
		for _ in $(seq 40); do
			if found; then return 0; fi
			sleep 1
		done
	fi
	tools
	PATH=$CACHE/bin:$PATH
	choose_engine
	if kind get clusters -q 2>/dev/null | grep -qx "$NAME"; then
		step "removing what is left of an earlier cluster $NAME"
		kind delete cluster -q --name "$NAME" --kubeconfig "$KUBECONFIG"
	fi
	rm -f "$STATE" "$KUBECONFIG"
	step "creating cluster $NAME"
	kind create cluster -q --config "$CONFIG" --image "$IMAGE" --kubeconfig "$KUBECONFIG" --wait 120s 9>&- ||
		fail "kind could not create the cluster. Its node's log: kind export logs --name $NAME FOLDER (after eval \"\$(hack/env.sh)\"), with 'kind create cluster --retain'"
	{
		echo "export STRONGROOM_ENGINE=$ENGINE STRONGROOM_CLUSTER=$NAME STRONGROOM_NODE=$NODE STRONGROOM_RECIPE=$(recipe)"
		[ "${DOCKER_HOST:-}" != "$PRIVATE_HOST" ] || echo "export DOCKER_HOST=$PRIVATE_HOST"
		[ -z "${KIND_EXPERIMENTAL_PROVIDER:-}" ] || echo "export KIND_EXPERIMENTAL_PROVIDER=$KIND_EXPERIMENTAL_PROVIDER"
	} >"$STATE.new"
	mv "$STATE.new" "$STATE"
	step "waiting for CoreDNS"
	kubectl --namespace kube-system rollout status deployment/coredns --timeout=120s >/dev/null ||
		fail "CoreDNS isn't ready: kubectl -n kube-system get pods (after eval \"\$(hack/env.sh)\")"
	step "cluster $NAME is up; kubeconfig: $KUBECONFIG"
}

down() {
	take_lock
	[ ! -f "$STATE" ] || source "$STATE"
	PATH=$CACHE/bin:$PATH
	if command -v kind >/dev/null; then
		if private_engine_pid >/dev/null; then export DOCKER_HOST=$PRIVATE_HOST; fi
		if kind get clusters -q 2>/dev/null | grep -qx "$NAME"; then
			step "deleting cluster $NAME"
			kind delete cluster -q --name "$NAME" --kubeconfig "$KUBECONFIG"
		fi
	fi
	if [ -d "$PRIVATE_RUN" ]; then
		step "stopping the private container engine"
		stop_private_engine
	fi
	rm -f "$STATE" "$KUBECONFIG"
	if [ "${CLEAN_CACHE:-}" = 1 ]; then
		step "removing $CACHE"
		rm -rf --one-file-system "$CACHE"
	fi
}

case ${1:-} in
up) up ;;
down) down ;;
kubeconfig) echo "$KUBECONFIG" ;;
load) shift && exec "$HACK/load.sh" "$@" ;;
*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
