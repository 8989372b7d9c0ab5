#!/usr/bin/env bash
# Copies programs and the shared libraries that they load, at the same paths, into another root:
#
#   copy-with-libraries.sh FROM_ROOT TO_ROOT FILE...
#
# A FILE is a path in FROM_ROOT, which is `/` or a whole system's root (then this needs root).

set -euo pipefail
from=$1 to=$2
shift 2

libraries() {
	local found
	if [ "$from" = / ]; then found=$(ldd "$1" 2>&1) || true; else found=$(chroot "$from" ldd "$1" 2>&1) || true; fi
	case $found in
	*'not found'*) printf '%s\n' "$found" >&2 && return 1 ;;
	esac
	printf '%s\n' "$found" | sed -n 's/^.*=> \(\/[^ ]*\) (.*$/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*$/\1/p'
}

for file; do
	printf '%s\n' "$file"
	libraries "$file"
done | sort -u | while read -r file; do
	mkdir -p "$to${file%/*}"
	cp -L --preserve=mode "${from%/}$file" "$to$file"
done
