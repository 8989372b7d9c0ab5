#!/usr/bin/env bash
# Builds Kubernetes' commands from its Go modules: kubernetes.sh OUT VERSION COMMAND...
# A COMMAND is one of k8s.io/kubernetes/cmd, or a folder with a main.go that uses Kubernetes' modules.
#
# k8s.io/kubernetes can't be built by `go install`: its go.mod takes the modules of its staging folder at
# v0.0.0 and replaces them by paths. An own go.mod replaces them by their published versions instead.

set -euo pipefail
out=$1 version=$2
shift 2
export GOWORK=off CGO_ENABLED=0

work=$out.module
rm -rf "$work" && mkdir "$work"
trap 'rm -rf "$work"' EXIT
cd "$work"
go mod init strongroom.local/kubernetes
go mod edit -require="k8s.io/kubernetes@$version"
go mod download "k8s.io/kubernetes@$version"
theirs=$(GOFLAGS=-mod=mod go list -m -f '{{.GoMod}}' "k8s.io/kubernetes@$version" 2>/dev/null ||
	echo "$(go env GOMODCACHE)/cache/download/k8s.io/kubernetes/@v/$version.mod")
while read -r module; do
	go mod edit -replace="$module=$module@v0.${version#v1.}"
done < <(awk '$1 ~ /^k8s\.io\// && $2 == "v0.0.0" { print $1 }' "$theirs")
go mod edit -go="$(awk '$1 == "go" { print $2 }' "$theirs")"
awk '$1 == "godebug" && $2 ~ /=/ { print $2 }' "$theirs" | while read -r setting; do go mod edit -godebug="$setting"; done

packages=()
{
	echo 'package wanted'
	for command; do
		case $command in
		/*)
			cp -r "$command" "./$(basename "$command")"
			packages+=("./$(basename "$command")")
			;;
		*)
			echo "import _ \"k8s.io/kubernetes/cmd/$command\""
			packages+=("k8s.io/kubernetes/cmd/$command")
			;;
		esac
	done
} >wanted.go
sed -i '1i //go:build wanted' wanted.go
go mod tidy

flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	minor=${version#v1.}
	flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
	flags+=" -X $package.gitTreeState=archive -X $package.buildDate=1970-01-01T00:00:00Z"
done
go build -trimpath -ldflags "$flags" -o "$out/" "${packages[@]}"
