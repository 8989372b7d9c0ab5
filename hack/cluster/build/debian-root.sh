#!/usr/bin/env bash
# Makes OUT/root.tar, a small Debian system with some packages: debian-root.sh OUT CODENAME PACKAGE...
# It comes from the mirrors that this machine's apt uses, with the signatures checked.

set -euo pipefail
out=$1 codename=$2
shift 2
IFS=,
packages=$*
unset IFS

apt-get update -q
sources=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
	awk -v codename="$codename" '$1 == "Debian" && $3 == "main" && ($2 == codename || $2 ~ "^" codename "-(updates|security)$") {
		print "deb", $4, $2, $3 }' | sort -u)
if [ -z "$sources" ]; then
	echo "this machine's apt has no Debian $codename: add its mirror to /etc/apt/sources.list" >&2
	exit 1
fi

# In namespaces of its own: an interrupted run leaves no mount and no process behind.
export TMPDIR=$out.unpacked
mkdir -p "$TMPDIR"
trap 'rm -rf --one-file-system "$TMPDIR"' EXIT
printf '%s\n' "$sources" | unshare --mount --pid --fork --kill-child --mount-proc mmdebstrap --mode=root --variant=minbase --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	"$codename" "$out/root.tar" -
