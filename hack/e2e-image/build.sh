#!/usr/bin/env bash
# Adds the Python packages to a small Debian: build.sh OUT REQUIREMENTS PYTHON_VERSION DEBIAN ARCHIVER REFERENCE

set -euo pipefail
out=$1 requirements=$2 python=$3 debian=$4 archiver=$5 reference=$6
root=$out.root
rm -rf --one-file-system "$root" && mkdir "$root"
trap 'rm -rf --one-file-system "$root"' EXIT
tar -C "$root" --numeric-owner -xf "$debian/root.tar"

# This machine's pip, with its settings, fetches wheels for the image's Python.
platforms=()
for glibc in 2_17 2_28 2_34; do platforms+=(--platform "manylinux_${glibc}_$(uname -m)"); done
python3 -m pip install --no-input --no-compile --disable-pip-version-check --no-deps \
	--only-binary=:all: --python-version "$python" --implementation cp --abi "cp${python/./}" --abi abi3 --abi none \
	"${platforms[@]}" --platform any --platform "manylinux2014_$(uname -m)" \
	--target "$root/usr/local/lib/python$python/dist-packages" --requirement "$requirements"
chroot "$root" python3 -m compileall -q "/usr/local/lib/python$python/dist-packages"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/bin/sh' >>"$root/etc/passwd"
echo 'nonroot:x:65532:' >>"$root/etc/group"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"

"$archiver" "$root" "$out/image.tar" "$reference" --keep-owners --user 65532:65532 \
	--env PATH=/usr/local/bin:/usr/bin:/bin --env HOME=/tmp --env PYTHONUNBUFFERED=1 --entrypoint /bin/sh -c 'trap exit TERM; sleep infinity & wait'
