#!/usr/bin/env bash
# debootstrap.sh RELEASE DIRECTORY [OPTION...]: makes a minimal Debian in DIRECTORY, as root,
# from the mirror that this machine's apt uses. OPTIONs are debootstrap's.
set -euo pipefail

release=$1 directory=$2
shift 2
die() {
	echo "debootstrap.sh: $*" >&2
	exit 1
}

# Prints the first main archive of Debian that apt has a list of.
apt_mirror() {
	# shellcheck disable=SC2016 # apt expands the names
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(COMPONENT)' 2>/dev/null |
		awk '$1 == "Debian" && $3 == "main" && $2 !~ /security/ && !found { print $2; found = 1 }'
}

command -v debootstrap >/dev/null || die "debootstrap is not installed"
mirror=$(apt_mirror)
if [ -z "$mirror" ]; then
	apt-get update >/dev/null 2>&1 || true
	mirror=$(apt_mirror)
fi
[ -n "$mirror" ] || die "apt on this machine has no Debian mirror"

# debootstrap has a script for each release it knows; a newer release is installed like sid.
script=/usr/share/debootstrap/scripts/$release
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase --include=ca-certificates "$@" "$release" "$directory" "$mirror" "$script"
# The mirror may be a snapshot, whose lists have expired.
echo 'Acquire::Check-Valid-Until "false";' >"$directory/etc/apt/apt.conf.d/90snapshot"
