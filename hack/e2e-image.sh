#!/usr/bin/env bash
# Makes the image that end-to-end tests run as a client: Python with the official Azure SDK.
#
# Prints its reference, localhost/strongroom/e2e:TAG; the archive is in $CACHE/images, where hack/load.sh
# finds it by the reference. The packages are those of hack/e2e-image/requirements.txt.

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HACK/lib/common.sh"

codename=$(debian_codename "the e2e image")
tag=$(hash_of "$HACK/e2e-image" "$HACK/lib/image-archive.sh" "$HACK/cluster/build/debian-root.sh" "$codename")
reference=localhost/strongroom/e2e:$tag
archive=$CACHE/images/e2e-$tag.tar
if [ ! -f "$archive" ]; then
	take_lock
	need_root "making the e2e image"
	need_packages mmdebstrap
	python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
	debian=$(piece e2e-debian "$HACK/cluster/build/debian-root.sh" "$codename" \
		python3 ca-certificates curl openssl)
	image=$(piece e2e-image "$HACK/e2e-image/build.sh" "$HACK/e2e-image/requirements.txt" "$debian" \
		"$HACK/lib/image-archive.sh" "$reference")
	ln -f "$image/image.tar" "$archive"
	keep_newest 2 "$CACHE"/images/e2e-*.tar
fi
echo "$reference"
