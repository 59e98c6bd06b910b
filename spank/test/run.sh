#!/bin/bash
# run.sh [PLUGIN]: unit tests of the SPANK plugin, and checks of PLUGIN (or one built here).
# Needs root and Slurm's headers (libslurm-dev). Output: one line a behaviour, then "N passed,
# M failed". slurm_test.sh runs the plugin in real Slurm.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/build/test/spank/unit
tests=spank/test
results=$out/results
mkdir -p "$out"
: >"$results"
plugin=${1:-}
sources=(spank/*.c goffi/shim/*.c)
fakes=("$tests/fake_spank.c")
warnings=(-std=gnu11 -g -Wall -Wextra -Werror -DWITH_PROLOG)
# shellcheck disable=SC2054 # the commas are gcc's
sanitize=("${warnings[@]}" -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all)

if [ -z "$plugin" ]; then
	plugin=$out/slurmk8s_spank.so
	spank/build.sh "$out"
fi
cp "$tests/step_program" "$out/"
gcc "${warnings[@]}" -O2 -shared -fPIC -DLOG="\"$out/library.log\"" -o "$out/stub_library.so" "$tests/stub_library.c"
for name in parts stepd stepd_faults releases client job_script; do
	gcc "${sanitize[@]}" -o "$out/test_$name" "$tests/test_$name.c" "${fakes[@]}" "${sources[@]}" -ldl -lpthread
done
for name in stepd stepd_faults; do
	gcc "${warnings[@]}" -O2 -DSLURMK8S_OLD_SYSTEM -o "$out/test_${name}_old" "$tests/test_$name.c" "${fakes[@]}" \
		"${sources[@]}" -ldl -lpthread
done
gcc "${warnings[@]}" -O2 -rdynamic -o "$out/launch_cost" "$tests/launch_cost.c" "${fakes[@]}" -ldl

# report NAME COMMAND...: one behaviour that a shell command proves; what the command prints
# is the reason when it fails.
report() {
	local name=$1 reason
	shift
	if reason=$("$@" 2>&1); then
		echo "ok - $name${reason:+ ($reason)}"
	else
		echo "not ok - $name: $reason"
	fi
}

exports_only_slurms_symbols() {
	local foreign
	foreign=$(nm -D --defined-only "$plugin" | awk '{ print $3 }' |
		grep -vxE 'plugin_(name|type|version)|spank_plugin_version|slurm_spank_[a-z_]+' || true)
	[ -z "$foreign" ] || { echo "$foreign"; return 1; }
}

# Slurm runs a process before each job for the first symbol, after each job for the second.
job_scripts_of() {
	nm -D --defined-only "$1" | awk '{ print $3 }' | grep -E '^slurm_spank_job_(prolog|epilog)$' | sort | xargs
}

each_has_the_job_scripts_that_it_is_for() {
	[ "$(job_scripts_of "$plugin")" = slurm_spank_job_epilog ] &&
		[ "$(job_scripts_of "${plugin%_spank.so}_nodes_spank.so")" = "slurm_spank_job_epilog slurm_spank_job_prolog" ] &&
		[ -z "$(job_scripts_of "${plugin%_spank.so}_noepilog_spank.so")" ]
}

is_hardened() {
	readelf -dW "$plugin" | grep BIND_NOW >/dev/null && readelf -lW "$plugin" | grep GNU_RELRO >/dev/null &&
		readelf -lW "$plugin" | grep GNU_STACK | grep 'RW ' >/dev/null && readelf -dW "$plugin" | grep NODELETE >/dev/null
}

needs_only_libc() {
	local needed
	needed=$(readelf -dW "$plugin" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -vxE 'libc\.so\.6|libdl\.so\.2|libpthread\.so\.0' || true)
	[ -z "$needed" ] || { echo "$needed"; return 1; }
}

is_small() {
	local kib
	kib=$(($(size "$plugin" | awk 'NR == 2 { print $1 + $2 }') / 1024))
	echo "$kib KiB of code and data"
	[ "$kib" -le 64 ]
}

# Each release wants a plugin that says it is its own.
is_made_for_each_release() {
	local release number
	while read -r release number; do
		spank/build.sh "$out/release" "$release" || return
		gcc "${warnings[@]}" -o "$out/plugin_version" "$tests/plugin_version.c" -ldl || return
		[ "$("$out/plugin_version" "$out/release/slurmk8s_spank.so")" = "$number" ] || { echo "$release"; return 1; }
	done <<-END
		22.05.8 1605
		23.02 1702
		23.11 170b
		24.05 1805
		24.11.5 180b
		25.05 1905
		25.11 190b
		26.05 1a05
	END
}

{
	report "plugin: exports only what Slurm looks for" exports_only_slurms_symbols
	report "plugin: each build has the prolog and epilog that it is for, and no other" each_has_the_job_scripts_that_it_is_for
	report "plugin: NOW, RELRO, NODELETE, no executable stack" is_hardened
	report "plugin: needs only libc" needs_only_libc
	report "plugin: is small" is_small
	report "plugin: is made for each release of Slurm" is_made_for_each_release
	"$out/test_parts" || true
	report "plugin: costs a launch without an option less than 0.5 ms" "$out/launch_cost" "$plugin"
	report "plugin: gives a later step of a job with storage its variables in less than 5 ms" "$out/launch_cost" "$plugin" storage
	"$out/test_stepd" "$out/step_program" || true
	"$out/test_stepd_faults" "$out/step_program" || true
	"$out/test_releases" "$out/step_program" || true
	"$out/test_client" "$out/step_program" || true
	"$out/test_job_script" "$out/stub_library.so" "$out/library.log" || true
	for name in stepd stepd_faults; do
		"$out/test_${name}_old" "$out/step_program" | sed 's/stepd: /stepd as on RHEL 8: /' || true
	done
} 2>&1 | tee "$results"

passed=$(grep -c '^ok - ' "$results" || true)
failed=$(grep -vc '^ok - ' "$results" || true)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
