#!/usr/bin/env bash
# Makes an image of one layer from a folder, with no engine and no registry:
#
#   image-archive.sh ROOT ARCHIVE REFERENCE [OPTION...]
#
# ARCHIVE is an OCI archive that `docker load` understands too. The same files give the same bytes.
# A REFERENCE that ends in `:` gets the content's hash as tag. Prints the reference.
#
#   --entrypoint WORD...   (last option) what the image runs
#   --env NAME=VALUE       may be given again
#   --user USER            the user that it runs as
#   --stop-signal SIGNAL   how an engine stops it
#   --keep-owners          files keep their owners; else all belong to root

set -euo pipefail

root=$1 archive=$2 reference=$3
shift 3
user='' stop_signal='' env=() entrypoint=() owners=(--owner=0 --group=0)
while [ $# -gt 0 ]; do
	case $1 in
	--entrypoint) shift && entrypoint=("$@") && break ;;
	--env) env+=("$2") && shift 2 ;;
	--user) user=$2 && shift 2 ;;
	--stop-signal) stop_signal=$2 && shift 2 ;;
	--keep-owners) owners=() && shift ;;
	*) echo "unknown option $1" >&2 && exit 1 ;;
	esac
done

# list WORD...: a JSON array of strings without quotes or backslashes in them.
list() {
	local separator='' word
	printf '['
	for word; do
		printf '%s"%s"' "$separator" "$word"
		separator=,
	done
	printf ']'
}
# The name of this machine's architecture in images: amd64, arm64.
architecture() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}
digest() { sha256sum "$1" | cut -d ' ' -f 1; }
size() { stat -c %s "$1"; }

work=$archive.making
rm -rf "$work"
mkdir -p "$work/blobs/sha256"
trap 'rm -rf "$work"' EXIT
cd "$work"

# blob FILE: moves FILE to its place by content and prints its digest.
blob() {
	local sum
	sum=$(digest "$1")
	mv "$1" "blobs/sha256/$sum"
	printf '%s' "$sum"
}

tar -C "$root" --format=posix --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include='*' \
	--sort=name --mtime=@0 --numeric-owner "${owners[@]}" -cf layer .
layer=$(blob layer)

cat >config <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$(architecture)","os":"linux","config":{"User":"$user","Env":$(list "${env[@]}"),"Entrypoint":$(list "${entrypoint[@]}"),"WorkingDir":"/","StopSignal":"$stop_signal"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}
JSON
config_size=$(size config)
config=$(blob config)
case $reference in *:) reference+=${config:0:12} ;; esac

cat >manifest <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$(size "blobs/sha256/$layer")}]}
JSON
manifest_size=$(size manifest)
manifest=$(blob manifest)

printf '{"imageLayoutVersion":"1.0.0"}' >oci-layout
cat >index.json <<JSON
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"annotations":{"io.containerd.image.name":"$reference","org.opencontainers.image.ref.name":"${reference##*:}"}}]}
JSON
cat >manifest.json <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$reference"],"Layers":["blobs/sha256/$layer"]}]
JSON

# The small files come first: a reader finds the reference without going through the layer.
tar --format=posix --pax-option=delete=atime,delete=ctime --mtime=@0 --owner=0 --group=0 --numeric-owner \
	-cf archive oci-layout index.json manifest.json \
	"blobs/sha256/$manifest" "blobs/sha256/$config" "blobs/sha256/$layer"
mv archive "$archive"
printf '%s\n' "$reference"
