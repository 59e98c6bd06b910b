#!/bin/bash
# Builds and tests burst_buffer.lua and its C module, and job_submit.lua, with each Lua from
# 5.1 to 5.4 that is installed. Output: one line a behaviour, then "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/build/test/lua
tests=$PWD/lua/test
results=$out/results
state=$out/state
module=$out/slurmk8s_lua.so
sources=(lua/slurmk8s_lua.c lua/inherited_pipes.c goffi/shim/*.c)
warnings=(-g -O2 -Wall -Wextra -Werror)
# shellcheck disable=SC2054 # the commas are gcc's
link=(-shared -fPIC -fvisibility=hidden -Wl,-z,nodelete,-z,now,-z,relro)
mkdir -p "$out" "$state/job.77" "$state/job.dir/env"
: >"$results"

# report NAME COMMAND...: one behaviour that a shell command proves; what the
# command prints is the reason when it fails.
report() {
	local name=$1 reason
	shift
	if reason=$("$@" 2>&1); then
		echo "ok - $name"
	else
		echo "not ok - $name: $reason"
	fi
}

versions=()
for version in 5.1 5.2 5.3 5.4; do
	if command -v "lua$version" >/dev/null; then versions+=("$version"); fi
done
[ ${#versions[@]} -gt 0 ] || { echo "no Lua found; apt-get install lua5.1 lua5.2 lua5.3 lua5.4" >&2; exit 1; }

# One binary for all: built with any one version's header.
headers=()
for version in "${versions[@]}"; do
	if [ -d "/usr/include/lua$version" ]; then headers+=("/usr/include/lua$version"); fi
done
[ ${#headers[@]} -gt 0 ] || { echo "no lua.h found; apt-get install liblua5.4-dev" >&2; exit 1; }
gcc "${warnings[@]}" "${link[@]}" -I"${headers[0]}" -o "$module" "${sources[@]}" -ldl

gcc "${warnings[@]}" "${link[@]}" -DSLURMK8S_OLD_SYSTEM -I"${headers[0]}" -o "$out/old_system.so" "${sources[@]}" -ldl
gcc "${warnings[@]}" "${link[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all -I"${headers[0]}" \
	-o "$out/asan.so" "${sources[@]}" -ldl
gcc "${warnings[@]}" -static -o "$out/child" "$tests/child.c"
gcc "${warnings[@]}" -fsanitize=address,undefined -o "$out/test_pipes" "$tests/test_pipes.c" lua/inherited_pipes.c
gcc "${warnings[@]}" -o "$out/host" "$tests/host.c" -ldl -lpthread
CGO_ENABLED=1 go build -buildmode=c-shared -trimpath -tags slurmk8s_testhooks \
	-ldflags "-s -w -extldflags '-Wl,--version-script=$PWD/goffi/slurmk8s.map'" -o "$out/libslurmk8s-test.so" ./goffi
rm -f "$out/libslurmk8s-test.h"
for name in burst_buffer job_submit; do
	sed -e "s,@BINDIR@,/usr/bin,; s,@LIBDIR@,/usr/lib/slurmk8s,; s,@SHAREDIR@,/usr/share/slurmk8s," \
		-e "s,@SYSCONFDIR@,/etc/slurm,; s,@STATEDIR@,$state,; s,@VERSION@,0," lua/$name.lua.in >"$out/$name.lua"
done

# The same binary, whichever version's header it was compiled with?
same_with_every_header() {
	local header
	for header in "${headers[@]}"; do
		gcc "${warnings[@]}" "${link[@]}" -g0 -I"$header" -o "$out/header.so" "${sources[@]}" -ldl
		md5sum <"$out/header.so"
	done | sort -u | wc -l | grep -qx 1
}

exports_only_the_opener() {
	[ "$(nm -D --defined-only "$1" | awk '{print $3}')" = luaopen_slurmk8s ] && readelf -dW "$1" | grep NODELETE >/dev/null
}

# Slurm's liblua may be any of the four: no call may differ between them.
uses_only_stable_calls() {
	local allowed='lua_createtable|lua_gettop|lua_next|lua_pushboolean|lua_pushcclosure|lua_pushlstring|lua_pushnil|lua_pushnumber|lua_setfield|lua_settable|lua_settop|lua_tolstring|lua_type'
	nm -D --undefined-only "$module" | awk '{print $2}' | grep -E '^lua' | grep -vxE "$allowed" && return 1
	return 0
}

lint() {
	(cd lua && luacheck --quiet --no-color burst_buffer.lua.in job_submit.lua.in test)
}

# in_slurmctld VERSION: threads, blocked signals and fresh states, as in slurmctld.
in_slurmctld() {
	HOST_ROUNDS=25 "$out/host" "liblua$1.so.0" "$tests/storm.lua" "$module" "$out/child"
}

{
	report "module: one binary for all versions of lua.h (${#headers[@]} tried)" same_with_every_header
	report "module: exports only luaopen_slurmk8s, NODELETE" exports_only_the_opener "$module"
	report "module: uses only Lua calls that are equal in 5.1 to 5.4" uses_only_stable_calls
	if command -v luacheck >/dev/null; then
		report "luacheck" lint
	fi
	"$out/test_pipes" || true
	for version in "${versions[@]}"; do
		lua=lua$version
		"$lua" "$tests/test_burst_buffer.lua" "$tests" "$out/burst_buffer.lua" "$state" "$lua" || true
		"$lua" "$tests/test_releases.lua" "$tests" "$out/burst_buffer.lua" "$state" "$lua" || true
		"$lua" "$tests/test_job_submit.lua" "$tests" "$out/job_submit.lua" "$state" "$lua" || true
		"$lua" "$tests/test_submit_releases.lua" "$tests" "$out/job_submit.lua" "$state" "$lua" || true
		"$lua" "$tests/test_exec.lua" "$tests" "$module" "$out/child" "$lua" || true
		"$lua" "$tests/test_call.lua" "$tests" "$module" "$out/libslurmk8s-test.so" "$lua" || true
		(trap '' CHLD; exec "$lua" "$tests/test_lost_child.lua" "$tests" "$module" "$out/child" "$lua") || true
		if "$out/host" "liblua$version.so.0" /dev/null 2>/dev/null; then
			report "$lua: exec: 100 states in 4 threads with blocked signals and no fd 0" in_slurmctld "$version"
		fi
	done
	lua=lua${versions[-1]}
	"$lua" "$tests/test_exec.lua" "$tests" "$out/old_system.so" "$out/child" "$lua without closefrom and pidfd" || true
	LD_PRELOAD=$(gcc -print-file-name=libasan.so) "$lua" "$tests/test_exec.lua" "$tests" "$out/asan.so" \
		"$out/child" "$lua with ASan and UBSan" || true
} 2>&1 | tee "$results"

passed=$(grep -c '^ok - ' "$results" || true)
failed=$(grep -vc '^ok - ' "$results" || true)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
