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

command -v debootstrap >/dev/null || die "cannot pull $official, and there is no debootstrap to make one"
# Prints the first main archive of Debian that apt has a list of.
apt_mirror() {
	# shellcheck disable=SC2016 # the names are for apt to fill in
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(COMPONENT)' 2>/dev/null |
		awk '$1 == "Debian" && $3 == "main" && $2 !~ /security/ && !found { print $2; found = 1 }'
}

mirror=$(apt_mirror)
if [ -z "$mirror" ]; then
	apt-get update >"$CACHE/apt.log" 2>&1 || true
	mirror=$(apt_mirror)
fi
[ -n "$mirror" ] || die "cannot pull $official, and this machine's apt has no Debian mirror to make one from"

say "making $own with debootstrap" >&2
root=$(mktemp -d "$CACHE/debootstrap.XXXXXX")
trap 'rm -rf "$root"' EXIT
log=$CACHE/debootstrap-$release.log
# debootstrap knows releases by a script each; one that is too new for it is like sid.
script=/usr/share/debootstrap/scripts/$release
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$mirror" "$script" >"$log" 2>&1 ||
	die "debootstrap of $release failed. Look at: $log"
# A mirror may be a snapshot of the past, whose lists have expired.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90snapshot"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import --change 'CMD ["/bin/bash"]' - "$own" >/dev/null
echo "$own"
