# The container engine that runs the node: the machine's own Docker or Podman where one works, else a
# private dockerd made of Debian's packages. Sourced by cluster.sh.

# Sockets and pids of the private engine; its images and containers are in the cache.
PRIVATE_RUN=/run/strongroom
PRIVATE_DATA=$CACHE/engine
PRIVATE_HOST=unix://$PRIVATE_RUN/docker.sock

# own_engine: prints docker or podman if the machine has one that works.
# (Written to kind's documentation; the machine on which the private engine was tried has no other.)
own_engine() {
	local engine
	for engine in docker podman; do
		if command -v "$engine" >/dev/null && timeout 10 "$engine" info >/dev/null 2>&1; then
			echo "$engine"
			return 0
		fi
	done
	return 1
}

# can_pull ENGINE IMAGE: IMAGE is NAME:TAG@DIGEST.
can_pull() {
	local engine=$1 image=$2
	# Podman takes short names by a transport that knows them, and either a tag or a digest.
	[ "$engine" = docker ] || image=docker://${image%%:*}@${image#*@}
	"$engine" image inspect "${image#docker://}" >/dev/null 2>&1 && return 0
	step "asking $engine for $image"
	timeout 600 "$engine" pull -q "$image" >/dev/null 2>&1
}

private_engine_pid() {
	local pid
	pid=$(cat "$PRIVATE_RUN/docker.pid" 2>/dev/null) || return 1
	# A pid may be another process's by now.
	[ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)")" = dockerd ] || return 1
	echo "$pid"
}

# start_private_engine FOLDER: FOLDER/bin holds dockerd and its companions.
start_private_engine() {
	local bin=$1/bin log=$CACHE/logs/engine.log _
	export DOCKER_HOST=$PRIVATE_HOST
	if private_engine_pid >/dev/null && timeout 10 "$bin/docker" info >/dev/null 2>&1; then return 0; fi
	stop_private_engine
	step "starting a private container engine (log: $log)"
	mkdir -p "$PRIVATE_RUN" "$PRIVATE_DATA"
	echo "{\"deprecated-key-path\": \"$PRIVATE_DATA/key.json\"}" >"$PRIVATE_RUN/daemon.json"
	# No chain of iptables and no sysctl of this machine is touched: the node needs no way out, and this
	# machine reaches it by its bridge. (Inside the node's own network, iptables is used.)
	PATH=$bin:$PATH:/usr/sbin:/sbin setsid dockerd --config-file "$PRIVATE_RUN/daemon.json" \
		--host "$PRIVATE_HOST" --pidfile "$PRIVATE_RUN/docker.pid" \
		--data-root "$PRIVATE_DATA" --exec-root "$PRIVATE_RUN/exec" \
		--bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
		--oom-score-adjust 0 --add-runtime "strongroom=$bin/runc-within-bounds" --default-runtime strongroom \
		</dev/null >"$log" 2>&1 9>&- &
	for _ in $(seq 100); do
		timeout 10 "$bin/docker" info >/dev/null 2>&1 && return 0
		sleep 0.2
	done
	tail -n 15 "$log" >&2
	fail "the private container engine did not start; the whole log is $log"
}

# stop_private_engine: leaves no process, mount, bridge or cgroup of it.
stop_private_engine() {
	local pid mount bridge _
	if pid=$(private_engine_pid); then
		for bridge in $(DOCKER_HOST=$PRIVATE_HOST timeout 30 "$CACHE/bin/docker" network ls -q -f driver=bridge 2>/dev/null); do
			DOCKER_HOST=$PRIVATE_HOST timeout 30 "$CACHE/bin/docker" network rm "$bridge" >/dev/null 2>&1 || true
		done
		kill "$pid"
		for _ in $(seq 150); do
			[ -d "/proc/$pid" ] || break
			sleep 0.1
		done
		if [ -d "/proc/$pid" ]; then kill -9 "$pid"; fi
	fi
	if pid=$(cat "$PRIVATE_RUN/exec/containerd/containerd.pid" 2>/dev/null) &&
		[ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)")" = containerd ]; then
		kill -9 "$pid"
	fi
	# Deepest first. The engine mounts its own folder on itself, too.
	awk -v a="$PRIVATE_RUN/" -v b="$PRIVATE_DATA/" 'index($5 "/", a) == 1 || index($5 "/", b) == 1 { print $5 }' /proc/self/mountinfo |
		sort -r | while read -r mount; do umount -l "$mount"; done
	rm -rf --one-file-system "$PRIVATE_RUN"
	# What an engine makes wherever its own folders are: only what is empty is removed.
	for mount in /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker; do rmdir "$mount" 2>/dev/null || true; done
	find /run/containerd /run/docker -depth -type d -empty -delete 2>/dev/null || true
}
