#!/usr/bin/env bash
# chroot.sh COMMAND...: runs COMMAND at the top of this repository in a Debian bullseye that has
# this machine's Go, and C compilers for amd64 and arm64. What they link needs no newer glibc
# than 2.31, the one of SLES 15 and Ubuntu 20.04. Go's modules must have been downloaded before.
#
# chroot.sh --make: makes that Debian as root, once (3 minutes), or prints why it cannot, in one
# line, and returns 1. It is kept, like Go's build cache, in $SLURMK8S_CACHE (~/.cache/slurmk8s).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
cache=${SLURMK8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slurmk8s}/packaging
log=$cache/bullseye.log
packages="make gcc libc6-dev liblua5.1-0-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
gocache=$cache/go-build
mkdir -p "$gocache"

install_debootstrap() {
	{ apt-get update && apt-get install -y --no-install-recommends debootstrap; } >"$log" 2>&1
}

# why_not: prints what this machine lacks, if anything.
why_not() {
	if [ "$(id -u)" != 0 ]; then
		echo "not root"
	elif [ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ]; then
		echo "not Debian on amd64"
	elif ! unshare --mount true 2>/dev/null; then
		echo "mounting is not permitted"
	elif ! command -v debootstrap >/dev/null && ! install_debootstrap; then
		echo "apt cannot install debootstrap, see $log"
	fi
}

# within ROOT COMMAND...: a shell of its own has the mounts, which end with it.
within() {
	# shellcheck disable=SC2016 # for the shell in there
	unshare --mount sh -ec '
		root=$1
		shift
		mount --rbind /dev "$root/dev"
		mount --bind /proc "$root/proc"
		for directory in $BIND; do
			from=${directory%%:*} to=$root${directory##*:}
			mkdir -p "$to"
			mount --bind "$from" "$to"
		done
		exec chroot "$root" "$@"' sh "$@"
}

make_root() {
	find "$cache" -mindepth 1 -maxdepth 1 -name 'bullseye-*' -exec rm -rf {} +
	"$here/debootstrap.sh" bullseye "$root.new" &&
		BIND='' within "$root.new" sh -ec "
			apt-get update
			DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
			apt-get clean
			# For another machine it would name paths, of which the Lua module uses none.
			cp /usr/include/x86_64-linux-gnu/lua5.1-deb-multiarch.h /usr/aarch64-linux-gnu/include/" &&
		mv "$root.new" "$root"
}

# Another recipe makes another directory.
root=$cache/bullseye-$({ declare -f make_root; echo "$packages"; cat "$here/debootstrap.sh"; } | sha256sum | cut -c1-12)

if [ "${1:-}" = --make ]; then
	exec {lock}>"$cache/lock"
	flock "$lock"
	[ ! -d "$root" ] || exit 0
	reason=$(why_not)
	if [ -z "$reason" ]; then
		echo "making a Debian bullseye to build in: once, about 3 minutes" >&2
		make_root >"$log" 2>&1 || reason="debootstrap failed, see $log"
	fi
	[ -z "$reason" ] || { echo "$reason"; exit 1; }
	exit
fi

goroot=$(go env GOROOT) modules=$(go env GOMODCACHE)
export BIND="$top:$top $goroot:$goroot $modules:$modules $gocache:$gocache ${SLURM_INCLUDE:-/usr/include}/slurm:/usr/include/slurm"
# shellcheck disable=SC2016 # for the shell in there
within "$root" /usr/bin/env -i PATH="$goroot/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LC_ALL=C TZ=UTC \
	GOCACHE="$gocache" GOMODCACHE="$modules" GOPROXY=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false \
	sh -c 'cd "$0" && exec "$@"' "$top" "$@"
