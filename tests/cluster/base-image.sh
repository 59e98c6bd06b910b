#!/usr/bin/env bash
# Makes sure that a base image of a Debian release is there, and prints its tag: the
# official one where it can be pulled, else one made with debootstrap from the mirror
# that this machine's own apt uses.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=$1
official=debian:$release-slim
own=slurmk8s-base:$release

exec {lock}>"$CACHE/base-image-$release.lock"
flock "$lock"
if has_image "$own"; then
	echo "$own"
	exit
fi
if has_image "$official" || pull "$official"; then
	echo "$official"
	exit
fi

say "making $own with debootstrap" >&2
root=$(mktemp -d "$CACHE/debootstrap.XXXXXX")
trap 'rm -rf "$root"' EXIT
log=$CACHE/debootstrap-$release.log
"$top/packaging/debootstrap.sh" "$release" "$root" >"$log" 2>&1 || die "cannot pull $official, and debootstrap failed. Look at: $log"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import --change 'CMD ["/bin/bash"]' - "$own" >/dev/null
echo "$own"
