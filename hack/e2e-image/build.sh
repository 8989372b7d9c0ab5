#!/usr/bin/env bash
# Adds the Python packages to a small Debian: build.sh OUT REQUIREMENTS DEBIAN ARCHIVER REFERENCE

set -euo pipefail
out=$1 requirements=$2 debian=$3 archiver=$4 reference=$5
root=$out.root
rm -rf --one-file-system "$root" && mkdir "$root"
trap 'rm -rf --one-file-system "$root"' EXIT
tar -C "$root" --numeric-owner -xf "$debian/root.tar"

python=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# This machine's pip, with its settings, fetches wheels for the image's Python.
platforms=()
for glibc in 2_17 2_28 2_34; do platforms+=(--platform "manylinux_${glibc}_$(uname -m)"); done
python3 -m pip install --no-input --no-compile --disable-pip-version-check --no-deps \
	--only-binary=:all: --python-version "$python" --implementation cp --abi "cp${python/./}" --abi abi3 --abi none \
	"${platforms[@]}" --platform any --platform "manylinux2014_$(uname -m)" \
	--target "$root/usr/local/lib/python$python/dist-packages" --requirement "$requirements"
# The image's files have no time of their own, by which Python would tell whether its compiled files are stale.
chroot "$root" python3 -m compileall -q -f --invalidation-mode unchecked-hash \
	"/usr/lib/python$python" /usr/lib/python3 "/usr/local/lib/python$python/dist-packages"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/bin/sh' >>"$root/etc/passwd"
echo 'nonroot:x:65532:' >>"$root/etc/group"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"

"$archiver" "$root" "$out/image.tar" "$reference" --keep-owners --user 65532:65532 \
	--env PATH=/usr/local/bin:/usr/bin:/bin --env HOME=/tmp --env PYTHONUNBUFFERED=1 --entrypoint /bin/sh -c 'trap exit TERM; sleep infinity & wait'
