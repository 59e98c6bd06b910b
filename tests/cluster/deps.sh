#!/usr/bin/env bash
# Installs what the test cluster needs, and starts a docker engine where none answers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# command or file that shows it is there, package of Debian
needs="
dockerd        docker.io
debootstrap    debootstrap
iptables       iptables
jq             jq
ip             iproute2
flock          util-linux
timeout        coreutils
"

missing=()
while read -r command package; do
	[ -n "$command" ] || continue
	command -v "$command" >/dev/null || [ -x "/usr/sbin/$command" ] || missing+=("$package")
done <<<"$needs"
compose version >/dev/null 2>&1 || missing+=(docker-compose)
# An engine that runs already, whoever gave it, is better than installing another.
if docker info >/dev/null 2>&1; then
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vx -e docker.io -e '')
fi

if [ ${#missing[@]} -gt 0 ]; then
	install="apt-get -o Acquire::Retries=5 install -y --no-install-recommends ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "needs: sudo $install"
	say "installing ${missing[*]}"
	{ apt-get -o Acquire::Retries=5 update && DEBIAN_FRONTEND=noninteractive $install; } >"$CACHE/apt.log" 2>&1 ||
		die "failed: $install. Look at: $CACHE/apt.log"
fi

command -v go >/dev/null || die "needs go 1.24 or later"
"$here/dockerd.sh"
