#!/usr/bin/env bash
# Makes OUT/node.tar, an image that `kind create cluster` runs as a node, without any registry:
#   node-image.sh OUT KIND_VERSION FILES ARCHIVER COPIER DEBIAN_ROOT KUBERNETES ETCD COREDNS HELPERS
# OUT/reference names it.
#
# The node is a small Debian with systemd, containerd and the kubelet, kind's own entrypoint and units (from
# kind's Go module), and the control plane's images, each of one layer, in containerd's store.

set -euo pipefail
out=$1 kind_version=$2 files=$3 archiver=$4 copier=$5 debian=$6 kubernetes=$7 etcd=$8 coredns=$9 helpers=${10}

# In namespaces of its own: whatever happens here, no mount and no process stays behind.
if [ "${STRONGROOM_INSIDE:-}" != yes ]; then
	STRONGROOM_INSIDE=yes exec unshare --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi

work=$out/work
root=$work/root
mkdir -p "$root"
tar -C "$root" --xattrs --xattrs-include='*' --numeric-owner -xf "$debian/root.tar"

echo "== kind's own files"
kind=$(cd / && go mod download -json "sigs.k8s.io/kind@$kind_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/images/base/files
(cd "$kind" && find etc kind usr -type f) | while read -r file; do
	mode=0644
	case $file in */bin/*) mode=0755 ;; esac
	install -D -m "$mode" "$kind/$file" "$root/$file"
done

echo "== systemd: only what a node needs"
find "$root"/{etc,lib}/systemd/system -path '*.wants/*' \
	\( -path '*/multi-user.target.wants/*' -o -path '*/local-fs.target.wants/*' -o -path '*/basic.target.wants/*' \
	-o -path '*/etc/systemd/system/*.wants/*' -o -name '*udev*' -o -name '*initctl*' \
	-o -name systemd-tmpfiles-setup.service \) -delete
echo 'ReadKMsg=no' >>"$root/etc/systemd/journald.conf"
ln -sf /lib/systemd/systemd "$root/sbin/init"
install -m 0644 "$files"/{no-way-out,volumes}.service "$root/etc/systemd/system/"
chroot "$root" systemctl enable containerd.service kubelet.service undo-mount-hacks.service \
	no-way-out.service volumes.service
chroot "$root" systemctl mask systemd-binfmt.service
rm -f "$root/etc/machine-id" "$root/etc/resolv.conf" "$root/etc/hostname"
touch "$root/etc/machine-id"

echo "== programs"
install -m 0755 "$kubernetes"/{kubeadm,kubelet,kubectl} "$root/usr/bin/"
install -m 0755 "$helpers"/{crictl,volumes} "$etcd"/{etcdctl,etcdutl} "$root/usr/local/bin/"
install -D -m 0755 "$files/no-way-out" "$root/usr/local/sbin/no-way-out"
for program in containerd ctr containerd-shim-runc-v2; do
	ln -s "/usr/bin/$program" "$root/usr/local/bin/$program"
done
version=$("$kubernetes/kubeadm" version -o short)
printf '%s' "$version" >"$root/kind/version"

echo "== network and storage"
mkdir -p "$root"/etc/cni/net.d "$root"/opt/cni "$root"/kind/manifests "$root"/etc/kubernetes/manifests
ln -s /usr/lib/cni "$root/opt/cni/bin"
install -m 0644 "$files/10-pods.conflist" "$root/etc/cni/net.d/"
install -m 0644 "$files"/default-{cni,storage}.yaml "$root/kind/manifests/"

echo "== containerd"
mapfile -t wanted < <("$kubernetes/kubeadm" config images list --kubernetes-version "$version")
pause=$(printf '%s\n' "${wanted[@]}" | grep '/pause:')
# Where CAP_SYS_RESOURCE is missing, containerd may not lower a sandbox's oom_score_adj, and runc may not
# raise its rlimits.
sed -i -e "s|sandbox_image = .*|sandbox_image = \"$pause\"|" \
	-e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root/etc/containerd/config.toml"
grep -q 'restrict_oom_score_adj = true' "$root/etc/containerd/config.toml"
chroot "$root" ctr oci spec |
	jq 'del(.process.rlimits) | .hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}]' \
		>"$root/etc/containerd/cri-base.json"

echo "== images of the control plane"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for image in "${wanted[@]}"; do
	stage=$work/image
	rm -rf "$stage" && mkdir -p "$stage"/{usr/local/bin,etc,tmp}
	chmod 1777 "$stage/tmp"
	options=()
	name=${image##*/} tag=${image##*:}
	name=${name%:*}
	case $name in
	kube-apiserver | kube-controller-manager | kube-scheduler)
		cp "$kubernetes/$name" "$stage/usr/local/bin/"
		;;
	kube-proxy)
		cp "$kubernetes/$name" "$stage/usr/local/bin/"
		"$copier" "$root" "$stage" /usr/sbin/xtables-nft-multi \
			$(cd "$root" && find usr/lib -path '*/xtables/*.so' | sed 's|^|/|')
		for program in iptables ip6tables; do
			for action in '' -save -restore; do ln -s xtables-nft-multi "$stage/usr/sbin/$program$action"; done
		done
		;;
	etcd)
		have=$("$etcd/etcd" --version | sed -n 's/^etcd Version: //p')
		if [ "${tag%-*}" != "$have" ]; then
			echo "kubeadm $version asks for etcd ${tag%-*}, but etcd $have was built: correct hack/cluster/versions.sh" >&2
			exit 1
		fi
		cp "$etcd"/{etcd,etcdctl,etcdutl} "$stage/usr/local/bin/"
		;;
	coredns)
		have=$("$coredns/coredns" -version | sed -n 's/^CoreDNS-//p')
		if [ "$tag" != "v$have" ]; then
			echo "kubeadm $version asks for CoreDNS $tag, but v$have was built: correct hack/cluster/versions.sh" >&2
			exit 1
		fi
		cp "$coredns/coredns" "$stage/"
		options+=(--entrypoint /coredns)
		;;
	pause)
		gcc -Os -Wall -static -o "$stage/pause" "$files/pause.c"
		strip "$stage/pause"
		options+=(--entrypoint /pause)
		;;
	*)
		echo "kubeadm $version asks for $image, which isn't built here" >&2
		exit 1
		;;
	esac
	"$archiver" "$stage" "$work/$name.tar" "$image" --env "PATH=$path" "${options[@]}"
done

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
chroot "$root" containerd >"$work/containerd.log" 2>&1 &
containerd=$!
for _ in $(seq 100); do
	[ -S "$root/run/containerd/containerd.sock" ] && chroot "$root" ctr version >/dev/null 2>&1 && break
	sleep 0.1
done
for archive in "$work"/*.tar; do
	chroot "$root" ctr --namespace k8s.io images import --label io.cri-containerd.pinned=pinned --no-unpack - <"$archive"
	rm "$archive"
done
kill "$containerd"
wait "$containerd" || true
umount "$root/run" "$root/proc" "$root"

echo "== the node's image"
# systemd goes on SIGRTMIN+3 and, told by `container`, knows that it isn't on a machine of its own.
"$archiver" "$root" "$out/node.tar" localhost/strongroom/node: --keep-owners --env container=docker \
	--env "PATH=$path" --stop-signal SIGRTMIN+3 --entrypoint /usr/local/bin/entrypoint /sbin/init >"$out/reference"
rm -rf "$work"
