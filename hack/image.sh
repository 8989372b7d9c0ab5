#!/usr/bin/env bash
# Makes the product's image, with no engine and no registry: image.sh [BINARY [NAME]]
# From BINARY, a built program; without one, it builds the program from this tree first. NAME is strongroom.
#
# Prints its reference, localhost/strongroom/NAME:TAG; the tag is a hash of the content. The archive is
# $CACHE/images/NAME-TAG.tar, where hack/load.sh finds it by the reference.

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HACK/lib/common.sh"

if [ $# = 0 ]; then
	source "$HACK/lib/rust.sh"
	need_rust
	build_image
	exit
fi
binary=$1 name=${2:-strongroom}
[ -x "$binary" ] || fail "$binary isn't there, or isn't a program"
binary=$(realpath "$binary")
authorities=/etc/ssl/certs/ca-certificates.crt
[ -f "$authorities" ] || fail "$authorities is missing: install the package ca-certificates"

mkdir -p "$CACHE/images"
work=$(mktemp -d "$CACHE/images/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{etc/ssl/certs,tmp,usr/local/bin}

if ldd "$binary" >/dev/null 2>&1; then
	"$HACK/lib/copy-with-libraries.sh" / "$work/libraries" "$binary"
	rm "$work/libraries$binary"
	find "$work/libraries" -type d -empty -delete
	cp -a "$work/libraries/." "$root/"
fi
install -m 0755 "$binary" "$root/usr/local/bin/strongroom"
# What a program built for tests has beside itself is large, and of no use there.
strip "$root/usr/local/bin/strongroom" || fail "strip failed: install the package binutils"
install -m 0644 "$authorities" "$root$authorities"
cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/:/sbin/nologin
nonroot:x:65532:65532:nonroot:/:/sbin/nologin
PASSWD
cat >"$root/etc/group" <<'GROUP'
root:x:0:
nonroot:x:65532:
GROUP
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
find "$root" -type d -exec chmod 0755 {} +
chmod 1777 "$root/tmp"

reference=$("$HACK/lib/image-archive.sh" "$root" "$work/archive" "localhost/strongroom/$name:" \
	--user 65532:65532 --env PATH=/usr/local/bin --entrypoint /usr/local/bin/strongroom)
mv "$work/archive" "$CACHE/images/$name-${reference##*:}.tar"
keep_newest 5 "$CACHE/images/$name"-????????????.tar
echo "$reference"
