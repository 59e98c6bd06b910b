#!/usr/bin/env bash
# Installs what building, checking and the tests below the cluster need; without
# root, or on a distribution without apt, prints the command instead.
set -euo pipefail

# what shows that it is there, package of Debian
needs="
gcc                      gcc
/usr/include/stdio.h     libc6-dev
/usr/include/slurm       libslurm-dev
/usr/include/lua5.1      liblua5.1-0-dev
/usr/include/lua5.4      liblua5.4-dev
lua5.1                   lua5.1
lua5.2                   lua5.2
lua5.3                   lua5.3
lua5.4                   lua5.4
luacheck                 lua-check
shellcheck               shellcheck
curl                     curl
mandoc                   mandoc
dbus-daemon              dbus-daemon
zsh                      zsh
fish                     fish
"

missing=()
while read -r sign package; do
	[ -n "$sign" ] || continue
	[ -e "$sign" ] || command -v "$sign" >/dev/null || missing+=("$package")
done <<<"$needs"

if [ ${#missing[@]} -gt 0 ]; then
	install="apt-get -o Acquire::Retries=5 install -y --no-install-recommends ${missing[*]}"
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "slurmk8s needs: sudo $install" >&2
		exit 1
	fi
	echo "installing ${missing[*]}"
	log=$(mktemp)
	{ apt-get -o Acquire::Retries=5 update && DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1 || {
		tail -20 "$log" >&2
		echo "failed: $install" >&2
		exit 1
	}
	rm -f "$log"
fi

command -v go >/dev/null || { echo "slurmk8s needs Go 1.26 or later on PATH: https://go.dev/dl" >&2; exit 1; }
