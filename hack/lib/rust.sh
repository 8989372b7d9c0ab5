# Shared by the scripts of hack/ that build Rust (bash); needs common.sh.

# need_rust: cargo and the toolchain of rust-toolchain.toml, and where its output goes: outside the tree, so
# that a clean clone finds the dependencies built.
need_rust() {
	need_packages gcc libc6-dev
	if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
		PATH=$HOME/.cargo/bin:$PATH
	fi
	if ! command -v cargo >/dev/null && [ "$(id -u)" = 0 ] && apt-cache show rustup >/dev/null 2>&1; then
		need_packages rustup
	fi
	command -v cargo >/dev/null || fail "Rust is needed: install rustup (https://rustup.rs), then run this again"
	export PATH CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
	(cd "$REPO" && cargo --version >/dev/null 2>&1) ||
		fail "cargo does not start with the toolchain of rust-toolchain.toml: try 'rustup toolchain install' in $REPO"
	forget_other_trees
}

# forget_other_trees: what was built of ours from another clone. cargo takes it for this one's where it is younger than the
# files here.
forget_other_trees() {
	local last=$CARGO_TARGET_DIR/tree
	[ "$(cat "$last" 2>/dev/null)" != "$REPO" ] || return 0
	forget_ours
	mkdir -p "$CARGO_TARGET_DIR"
	echo "$REPO" >"$last"
}

# forget_ours: has cargo build our own crate anew, whatever was built of it.
forget_ours() {
	rm -rf "$CARGO_TARGET_DIR"/*/.fingerprint/strongroom-*
}

# build_image: builds the product, makes its image, prints the image's reference. Cargo's profile is $STRONGROOM_PROFILE:
# `image`, unless that is `dev`, with which the tests were built already: then it is the program that they ran.
build_image() {
	step "building strongroom"
	(cd "$REPO" && build_program) || fail "cargo build failed"
	"$REPO/hack/image.sh" "$(program)"
}

# build_program [ARGUMENT...]: builds the program of the tree here by that profile. (For `dev` with the tests, whose dependencies
# have features of their own.)
build_program() {
	case ${STRONGROOM_PROFILE:=image} in
	dev) cargo test --quiet --locked --no-run --test integration "$@" ;;
	*) cargo build --quiet --locked --profile "$STRONGROOM_PROFILE" "$@" ;;
	esac
}

# program: where build_program leaves it.
program() {
	case ${STRONGROOM_PROFILE:=image} in
	dev) echo "$CARGO_TARGET_DIR/debug/strongroom" ;;
	*) echo "$CARGO_TARGET_DIR/$STRONGROOM_PROFILE/strongroom" ;;
	esac
}

# build_failpoint_image: the same of the build that dies where tests have it die. Only our own crate is compiled anew.
build_failpoint_image() {
	local binary
	step "building strongroom with failpoints"
	(cd "$REPO" && build_program --features failpoints) || fail "cargo build failed"
	# Out of the product's place, where nobody takes it for the product.
	binary=$(program)-failpoints
	mv -f "$(program)" "$binary"
	"$REPO/hack/image.sh" "$binary" strongroom-failpoints
}

# build_previous_image COMMIT: the product and the chart of an earlier commit, in a tree of its own; prints the image's reference.
# The chart is $CACHE/previous/charts/strongroom.
build_previous_image() {
	local tree=$CACHE/previous binary
	binary=$(program)-previous
	step "building strongroom as of $1"
	rm -rf "$tree"
	mkdir -p "$tree"
	git -C "$REPO" archive "$1" | tar -x -C "$tree" || fail "commit $1 is not there"
	# Its files are older than what was built of ours, which cargo would take for its own; and the other way round after it.
	forget_ours
	(cd "$tree" && build_program) || fail "cargo build of $1 failed"
	mv -f "$(program)" "$binary"
	forget_ours
	"$REPO/hack/image.sh" "$binary" strongroom-previous
}
