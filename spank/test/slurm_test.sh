#!/usr/bin/env bash
# slurm_test.sh SLURM...: the plugin in real Slurm (slurm.sh), with step_program as the
# slurmk8s program. Output: one line a behaviour, then "N passed, M failed".
# ONLY=REGEX: only behaviours with such names. KEEP=1: leave the containers.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
passed=0 failed=0

n1() { docker exec "spank-$release-n1" "$@"; }
n2() { docker exec "spank-$release-n2" "$@"; }
alice() { docker exec --user alice --workdir /tmp "spank-$release-n1" "$@"; }
fail() { echo "line ${BASH_LINENO[0]}: $*"; exit 1; }

# since VERSION: is this Slurm not older?
since() { [ "$(printf '%s\n' "$1" "$(n1 slurmd -V | awk '{ print $2 }')" | sort -V | head -n1)" = "$1" ]; }

# eventually COMMAND...: waits longer than the busiest machine needs.
eventually() {
	local end=$((SECONDS + 300))
	until ("$@") >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "after five minutes still not: $*"
		sleep 0.2
	done
}

# Logs from here on.
clear_logs() {
	local node
	for node in n1 n2; do
		"$node" sh -c ': >/tmp/step_program.log; : >/tmp/library.log; : >/var/log/slurm/slurmd.log'
	done
}

# logged NODE TEXT...: did the step program write that?
logged() {
	local node=$1 text
	shift
	for text in "$@"; do
		"$node" grep -qF -- "$text" /tmp/step_program.log || fail "no \"$text\" in: $("$node" cat /tmp/step_program.log)"
	done
}

# submit OPTIONS... -- SCRIPT: prints the job's id. Its output is in /tmp/ID.out on its first node.
submit() {
	local options=()
	while [ "$1" != -- ]; do options+=("$1") && shift; done
	printf '#!/bin/bash\n%s\n' "$2" | docker exec --interactive --user alice --workdir /tmp "spank-$release-n1" \
		sbatch --parsable --output '/tmp/%j.out' "${options[@]}"
}

job() { n1 scontrol show job "$1" -o; }
state_of() { job "$1" | head -n1 | grep -oE 'JobState=[A-Z]+' | cut -d= -f2; }
is_over() { [[ $(state_of "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT)$ ]]; }
runs() { [ "$(state_of "$1")" = RUNNING ]; }

# ends ID STATE CODE
ends() {
	eventually is_over "$1"
	[[ $(job "$1") == *" JobState=$2 "*"ExitCode=$3"* ]] || fail "$(job "$1" | grep -oE '(JobState|ExitCode|Reason)=[^ ]*' | tr '\n' ' ')"
}

nodes_are_idle() { [ "$(n1 sinfo -h -N -o '%t' | sort | uniq -c | tr -s ' ')" = ' 2 idle' ]; }

# Nothing of a job is left, and its end drained no node.
nothing_is_left() {
	local node
	eventually nodes_are_idle
	for node in n1 n2; do
		"$node" sh -c '! pgrep -f "[s]tep_program step|[s]lurmstepd"' || fail "left on $node: $("$node" ps axf)"
	done
}

# behaviour NAME FUNCTION, each with fresh logs, each followed by the same question.
behaviour() {
	local reason
	[[ $1 =~ ${ONLY:-} ]] || return 0
	clear_logs
	if reason=$("$2" 2>&1 && nothing_is_left 2>&1); then
		echo "ok - $release: $1"
		passed=$((passed + 1))
	else
		echo "not ok - $release: $1: $reason"
		failed=$((failed + 1))
	fi
}

plugstack() { # NODE LINE
	"$1" sh -c "echo '$2' >/etc/slurm/plugstack.conf"
}

usual_plugstack() {
	n1 cp /etc/slurm/plugstack.usual /etc/slurm/plugstack.conf
	n2 cp /etc/slurm/plugstack.usual /etc/slurm/plugstack.conf
}

# shellcheck source-path=SCRIPTDIR source=behaviours.sh
. "$here/behaviours.sh"
# shellcheck source-path=SCRIPTDIR source=behaviours_submit.sh
. "$here/behaviours_submit.sh"
# shellcheck source-path=SCRIPTDIR source=behaviours_ends.sh
. "$here/behaviours_ends.sh"

for slurm in "$@"; do
	release=$(basename "$slurm")
	"$here/slurm.sh" "$slurm" up
	all_behaviours
	submit_behaviours
	[ -n "${KEEP:-}" ] || "$here/slurm.sh" "$slurm" down
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
