#!/usr/bin/env bash
# Builds commands from public Go modules: go-commands.sh OUT NAME=PACKAGE@VERSION...
# Each gets a go.mod of its own: `go install` refuses modules with replace directives, as etcd's.

set -euo pipefail
out=$1
shift
export GOWORK=off CGO_ENABLED=0

work=$out.module
trap 'rm -rf "$work"' EXIT
for command; do
	name=${command%%=*} package=${command#*=}
	version=${package#*@} package=${package%@*}
	rm -rf "$work" && mkdir "$work"
	cd "$work"
	go mod init strongroom.local/tool
	go get "$package@$version"
	flags="-s -w"
	[ "$name" != helm ] || flags+=" -X helm.sh/helm/v3/internal/version.version=$version"
	go build -trimpath -ldflags "$flags" -o "$out/$name" "$package"
done
