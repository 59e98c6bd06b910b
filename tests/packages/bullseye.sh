#!/usr/bin/env bash
# bullseye.sh: the debs on the oldest glibc that they are for (2.31), in a container: they install
# and all that they bring loads, for amd64, and for arm64 under qemu. No jobs run: bullseye's own
# Slurm is 20.11, which slurmk8s does not support, and apt refuses the packages beside it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
cd "$top"
: "${VERSION:?make test-packages sets it}" "${SLURM_RELEASES:?make test-packages sets it}"

container=$CLUSTER-packages-bullseye
built=build/test/packages
libraries=usr/lib/slurmk8s
fail() { echo "not ok - bullseye: line ${BASH_LINENO[0]}: $*"; exit 1; }
root() { docker exec --workdir /packages "$container" "$@"; }

# A bullseye with Lua for both machines, and qemu to run programs for arm64. Its apt has the
# lists of packages, so that it can judge dependencies.
image() {
	local base tag definition
	base=$(tests/cluster/base-image.sh bullseye)
	definition="FROM $base
		RUN dpkg --add-architecture arm64 && apt-get update && apt-get install -y --no-install-recommends \
			qemu-user-static libc6:arm64 liblua5.1-0 liblua5.4-0 liblua5.1-0:arm64 liblua5.4-0:arm64 && apt-get clean"
	tag=slurmk8s-bullseye:$(hash_of - <<<"$definition")
	has_image "$tag" || docker build --force-rm --tag "$tag" - <<<"$definition" >"$state/bullseye-image.log" 2>&1 ||
		die "cannot make an image of bullseye. Look at: $state/bullseye-image.log"
	echo "$tag"
}

# loader COMPILER NAME
loader() {
	packaging/chroot.sh "$1" -std=gnu11 -Wall -Wextra -Werror -O2 -rdynamic -o "$built/$2" tests/packages/load/load.c \
		spank/test/fake_spank.c goffi/shim/loader.c -ldl
}

# loads MACHINE DIRECTORY COMMAND...: what is installed below DIRECTORY runs and loads, on a machine
# that COMMAND is the start of a command for.
loads() {
	local machine=$1 directory=$2 release liblua plugins said
	shift 2
	root mkdir -p "/plugins/$machine"
	[ "$(root "$@" "$directory/usr/bin/slurmk8s" --version)" = "slurmk8s $VERSION" ] || fail "$machine: slurmk8s --version"
	for liblua in liblua5.1.so.0 liblua5.4.so.0; do
		for release in $SLURM_RELEASES; do
			root dpkg-deb --extract "$machine/slurmk8s-client_$VERSION+slurm$release-1_$machine.deb" "/plugins/$machine/$release"
			plugins="/plugins/$machine/$release/$libraries"
			said=$(root "$@" "/built/load-$machine" "$directory/$libraries/libslurmk8s.so" "$directory/$libraries/slurmk8s_lua.so" \
				"$liblua" "$plugins/slurmk8s_spank.so" "$plugins/slurmk8s_nodes_spank.so" \
				"$plugins/slurmk8s_noepilog_spank.so" 2>&1) || fail "$machine: $said"
			[[ $said = *"plugin for Slurm $release"*"library $VERSION: MESSAGE="* ]] || fail "$machine: $said"
		done
	done
	echo "ok - bullseye: $machine: the program runs, library, Lua module and plugins load"
}

started=$(image)
mkdir -p "$built"
loader gcc load-amd64
loader aarch64-linux-gnu-gcc load-arm64
docker rm --force "$container" >/dev/null 2>&1 || true
docker run --detach --init --name "$container" --network none --volume "$top/build/packages:/packages:ro" \
	--volume "$top/$built:/built:ro" "$started" sleep infinity >/dev/null
trap 'docker rm --force "$container" >/dev/null 2>&1' EXIT

for package in "slurmk8s-controller_$VERSION-1" "slurmk8s-client_$VERSION+slurm${SLURM_RELEASES%% *}-1"; do
	! said=$(root apt-get install --simulate "./amd64/slurmk8s_$VERSION-1_amd64.deb" "./amd64/${package}_amd64.deb" 2>&1) ||
		fail "apt installs $package beside Slurm 20.11"
	grep -qE '^ slurmk8s-.* : (Pre)?Depends: slurm[a-z-]* \(>= 2[2-9]\.' <<<"$said" || fail "not because of Slurm 20.11: $said"
done
echo "ok - bullseye: apt refuses the packages beside its Slurm 20.11"

root sh -c "apt-get install --yes ./amd64/slurmk8s_${VERSION}-1_amd64.deb && dpkg --install --force-depends amd64/slurmk8s-controller_${VERSION}-1_amd64.deb" >/dev/null 2>&1 ||
	fail "slurmk8s does not install"
loads amd64 ""
root sh -c "dpkg-deb --extract arm64/slurmk8s_${VERSION}-1_arm64.deb /arm64 && dpkg-deb --extract arm64/slurmk8s-controller_${VERSION}-1_arm64.deb /arm64"
loads arm64 /arm64 qemu-aarch64-static
