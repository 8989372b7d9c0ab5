# Shared by the scripts of hack/ (bash): where things are, how a step is told, and the cache.

set -euo pipefail
shopt -s inherit_errexit

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${STRONGROOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strongroom}
: "${STRONGROOM_STARTED:=$(date +%s)}"
export STRONGROOM_STARTED
mkdir -p "$CACHE/logs"

# All that is said goes to standard error; standard output is for what another script reads.
step() { printf '[%3ds] %s\n' "$(($(date +%s) - STRONGROOM_STARTED))" "$*" >&2; }
fail() {
	printf '\n%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || fail "$1 needs root. Run it as root, or start Docker or Podman with access to a registry."
}

APT_UPDATED=
apt_update() {
	[ -z "$APT_UPDATED" ] || return 0
	step "apt-get update"
	DEBIAN_FRONTEND=noninteractive apt-get update -q >"$CACHE/logs/apt.log" 2>&1 ||
		fail "apt-get update failed; see $CACHE/logs/apt.log"
	APT_UPDATED=yes
}

# need_packages PACKAGE...: has Debian's packages installed; does nothing for those that are.
need_packages() {
	local package missing=()
	for package; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "install ${missing[*]} first (there is no apt-get on this machine to do it)"
	[ "$(id -u)" = 0 ] || fail "install these packages first, or run this as root: ${missing[*]}"
	apt_update
	step "apt-get install ${missing[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
		>"$CACHE/logs/apt.log" 2>&1 || fail "apt-get install ${missing[*]} failed; see $CACHE/logs/apt.log"
}

# need_go: a Go that can build Kubernetes and etcd.
need_go() {
	local minimum=1.24 package
	go_is_recent() {
		command -v go >/dev/null &&
			[ "$(printf '%s\n' "$minimum" "$(cd / && go env GOVERSION | sed 's/^go//')" | sort -V | head -n 1)" = "$minimum" ]
	}
	go_is_recent && return 0
	package=golang-$minimum-go
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt_update
		if apt-cache show "$package" >/dev/null 2>&1; then
			need_packages "$package"
			PATH=/usr/lib/go-$minimum/bin:$PATH
			export PATH
		fi
	fi
	go_is_recent || fail "Go $minimum or newer is needed to build the cluster's tools. Install it" \
		"(Debian has $package in its backports; or use Go's own download) and put it on the PATH."
}

# debian_codename WHAT: this machine's Debian, of which WHAT is made.
debian_codename() {
	local VERSION_CODENAME='' ID=''
	[ ! -f /etc/os-release ] || source /etc/os-release
	[ "$ID" = debian ] || fail "$1 is made from Debian's packages, on a Debian machine, and this is none."
	echo "$VERSION_CODENAME"
}

# The lock lets one build run at a time; file descriptor 9 must not pass on to what keeps running (9>&-).
take_lock() {
	mkdir -p "$CACHE"/{pieces,images,logs,tmp,bin}
	exec 9>"$CACHE/lock"
	if ! flock -n 9; then
		step "waiting for another run that uses $CACHE"
		flock 9
	fi
	# Nobody else is building now, so whatever is half made was left by a run that was interrupted.
	rm -rf --one-file-system "${CACHE:?}/tmp"
	mkdir "$CACHE/tmp"
}

# hash_of INPUT...: twelve hex digits. An input is a word, or a file or folder that counts by its content.
# A path in the cache counts by its name: that holds a hash already.
hash_of() {
	local input
	for input; do
		case $input in
		"$CACHE"/*) printf 'cached %s\n' "${input##*/}" ;;
		/*)
			if [ -d "$input" ]; then
				(cd "$input" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
			elif [ -f "$input" ]; then
				sha256sum <"$input"
			else
				printf 'word %s\n' "$input"
			fi
			;;
		*) printf 'word %s\n' "$input" ;;
		esac
	done | sha256sum | cut -c 1-12
}

# piece NAME BUILDER INPUT...: prints the folder that `BUILDER FOLDER INPUT...` fills, and runs it only
# where no earlier run did with the same builder and inputs. Call it under the lock.
piece() {
	local name=$1 builder=$2 folder half log began
	shift 2
	folder=$CACHE/pieces/$name-$(hash_of "$builder" "$@")
	if [ ! -d "$folder" ]; then
		half=$CACHE/tmp/$name
		log=$CACHE/logs/$name.log
		mkdir -p "$half"
		began=$(date +%s)
		step "building $name (log: $log)"
		if ! "$builder" "$half" "$@" 9>&- >"$log" 2>&1; then
			tail -n 15 "$log" >&2
			fail "building $name failed; the whole log is $log. What was built before it is kept: run the same again once the cause is gone."
		fi
		mv -T "$half" "$folder"
		step "built $name in $(($(date +%s) - began)) s"
		keep_newest 2 "$CACHE/pieces/$name"-????????????
	fi
	printf '%s\n' "$folder"
}

# keep_newest COUNT PATH...: removes all but the newest.
keep_newest() {
	local count=$1
	shift
	ls -dt "$@" | tail -n "+$((count + 1))" | while read -r old; do rm -rf --one-file-system "$old"; done
}
