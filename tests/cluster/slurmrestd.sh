#!/usr/bin/env bash
# slurmrestd.sh start: starts a real slurmrestd as alice, with rest_auth/local on a Unix socket. It
# runs in a container with Slurm: docker exec -i CONTAINER bash -s - start <slurmrestd.sh. Returns
# 69 where there is no slurmrestd for this Slurm.
#
# slurmrestd.sh submit VARIABLE [SPANK_VARIABLE]: submits a batch job there. Each is NAME=VALUE, or
# "": the first is in the job's environment, the second in its spank_environment, which slurmrestd
# knows from 23.02 on. Prints the job's id; or what slurmrestd answers and what it wrote to its log
# of slurmk8s, and returns 1.
set -euo pipefail

socket=/tmp/slurmrestd.sock
alice() { setpriv --reuid alice --regid alice --clear-groups "$@"; }
ask() { alice curl --silent --unix-socket "$socket" "$@"; }

# Debian's is for Debian's own Slurm only.
install() {
	dpkg --search "$(readlink -f "$(command -v slurmctld)")" >/dev/null 2>&1 || return 69
	{
		apt-get -q -o Acquire::Retries=5 update &&
			DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=5 install -y --no-install-recommends slurmrestd
	} >/tmp/slurmrestd-install.log 2>&1 </dev/null || { tail -n 5 /tmp/slurmrestd-install.log; return 69; }
}

start() {
	local plugin
	! pgrep -x slurmrestd >/dev/null || return 0
	command -v slurmrestd >/dev/null || install
	export SLURMRESTD_SECURITY=disable_unshare_sysv,disable_unshare_files # a container may not
	# Not those for slurmdbd, which is not here.
	plugin=$(alice slurmrestd -s list 2>&1 | grep -oE 'openapi/(v0[0-9.]+|slurmctld)$' | sort -V | tail -n 1)
	alice slurmrestd -s "$plugin" -a rest_auth/local "unix:$socket" >/tmp/slurmrestd.log 2>&1 </dev/null &
	while kill -0 $! 2>/dev/null; do
		! ask --output /dev/null http://localhost/openapi/v3 || return 0
		sleep 0.2
	done
	tail -n 5 /tmp/slurmrestd.log
	return 1
}

# body VERSION VARIABLE SPANK_VARIABLE: the older of its two forms has a dictionary for an environment.
body() {
	local script='"script": "#!/bin/sh\n/bin/true\n"' job='"name": "rest", "current_working_directory": "/tmp", "standard_output": "/dev/null"'
	if [ "$1" -lt 39 ]; then
		printf '{%s, "job": {%s, "environment": {"PATH": "/bin"%s}}}' "$script" "$job" "${2:+, \"${2%%=*}\": \"${2#*=}\"}"
	else
		printf '{"job": {%s, %s, "environment": ["PATH=/bin"%s], "spank_environment": [%s]}}' "$script" "$job" "${2:+, \"$2\"}" "${3:+\"$3\"}"
	fi
}

submit() {
	local version answer
	# Its JSON may have "\/" for "/".
	version=$(ask http://localhost/openapi/v3 | grep -oE 'v0\.0\.[0-9]+\\?/job\\?/submit' | grep -oE 'v[0-9.]+' | sort -uV | tail -n 1)
	answer=$(body "${version##*.}" "$1" "${2:-}" |
		ask --header 'Content-Type: application/json' --data-binary @- "http://localhost/slurm/$version/job/submit")
	grep -oE '"job_id": *[1-9][0-9]*' <<<"$answer" | grep -oE '[0-9]+' || { echo "$answer"; grep slurmk8s: /tmp/slurmrestd.log | tail -n 1; return 1; }
}

"$@"
