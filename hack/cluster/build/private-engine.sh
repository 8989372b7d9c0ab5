#!/usr/bin/env bash
# Unpacks Debian's container engine, without installing it: nothing is enabled or started.
#   private-engine.sh OUT RUNTIME_WRAPPER

set -euo pipefail
out=$1 wrapper=$2
work=$out.packages
rm -rf "$work" && mkdir "$work"
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get update -q
apt-get download docker.io containerd runc
for package in *.deb; do dpkg -x "$package" unpacked; done

mkdir "$out/bin"
for program in docker dockerd docker-proxy containerd containerd-shim-runc-v2 ctr runc; do
	cp "$(find unpacked/usr/bin unpacked/usr/sbin -type f -name "$program")" "$out/bin/"
done
install -m 0755 "$wrapper" "$out/bin/runc-within-bounds"
for program in "$out"/bin/{dockerd,runc}; do
	if ldd "$program" | grep 'not found'; then exit 1; fi
done
