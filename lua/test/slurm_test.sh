#!/usr/bin/env bash
# slurm_test.sh SLURM...: job_submit.lua in a real slurmctld of bookworm (22.05), trixie
# (24.11) or forky (26.05), or of a directory with a Slurm that was built for it (see
# tests/cluster/slurm-image.sh), in a container of its own, which runs the program that this tree
# makes. The clients have not our SPANK plugin, as slurmrestd's have not. Output: one line a behaviour, then "N passed, M failed".
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
option=_SLURM_SPANK_OPTION_slurmk8s_
passed=0 failed=0

in_slurm() { docker exec "$container" "$@"; }
fail() { echo "line ${BASH_LINENO[0]}: $*"; exit 1; }

up() {
	local image version
	image=$("$top/tests/cluster/slurm-image.sh" "$slurm" | tail -n1)
	version=$(docker run --rm --entrypoint slurmctld "$image" -V | awk '{ print $2 }' | awk -F. '{ printf "%d,%d,%d", $1, $2, $3 }')
	mkdir -p "$out"
	gcc -O2 -Wall -Wextra -Werror -shared -fPIC "-DFOR_SLURM=SLURM_VERSION_NUM($version)" -o "$out/forge.so" "$here/forge.c"
	make -s -C "$top" build/bin/slurmk8s build/lib/slurmk8s_lua.so build/etc/job_submit.lua build/etc/burst_buffer.lua
	cp "$top/build/bin/slurmk8s" "$top/build/lib/slurmk8s_lua.so" "$top"/build/etc/{job_submit,burst_buffer}.lua "$out/"
	policy_of 8000-8999 >"$out/slurmk8s.toml"
	down
	docker run --detach --init --hostname localhost --name "$container" --volume "$here:/test:ro" --volume "$out:/build:ro" \
		--entrypoint /test/slurmctld.sh "$image" >/dev/null
	for _ in $(seq 1500); do
		! in_slurm scontrol ping 2>/dev/null | grep UP >/dev/null || return 0
		sleep 0.2
	done
	docker logs "$container" >&2
	echo "$container: slurmctld does not answer after five minutes" >&2
	exit 1
}

down() { docker rm --force --volumes "$container" >/dev/null 2>&1 || true; }

# policy_of PORTS: a slurmk8s.toml for alice.
policy_of() {
	printf '[workflows]\nsubmit = "local"\n[[services.allow]]\nusers = ["alice"]\nnamespaces = ["physics"]\nports = ["%s"]\n' "$1"
}
set_policy() { "$@" | docker exec --interactive "$container" sh -c 'cat >/etc/slurm/slurmk8s.toml'; }

# as USER VARIABLE COMMAND...: with a variable in its environment, or none ("").
as() {
	local user=$1 variable=$2
	shift 2
	docker exec --user "$user" --workdir /tmp --env "${variable:-NONE=}" "$container" "$@"
}
# batch USER VARIABLE [OPTION...]: submits a batch job.
batch() {
	local user=$1 variable=$2
	shift 2
	as "$user" "$variable" sbatch --parsable "$@" --wrap true 2>&1
}
accepts() {
	local answer
	answer=$("$@") || fail "refused: $answer"
	grep -qxE '[0-9]+' <<<"$answer" || fail "no job: $answer"
}
# refuses TEXT COMMAND...
refuses() {
	local text=$1 answer
	shift
	if answer=$("$@" 2>&1); then fail "accepted: $answer"; fi
	grep -qF -- "$text" <<<"$answer" || fail "not \"$text\" but: $answer"
}
in_log() { in_slurm grep -cF -- "$1" /var/log/slurm/slurmctld.log || true; }

a_job_without_options_is_accepted() {
	accepts batch alice ''
	accepts batch bob ''
}

options_in_the_environment_are_judged() { # where slurmstepd takes a batch job's from
	accepts batch alice "SLURM_SPANK_${option}k8s_register=a:8888"
	refuses 'error: slurmk8s: service a: user alice may use node ports 8000-8999, not 22' \
		batch alice "SLURM_SPANK_${option}k8s_register=a:22"
	refuses 'user bob may not have services' batch bob "SLURM_SPANK_${option}k8s_register=a:8888"
}

a_forged_spank_job_env_is_judged() {
	accepts batch alice "FORGE=${option}k8s_register=a:8888"
	refuses 'namespace kube-system: user alice may use physics' batch alice "FORGE=${option}k8s_register=name=a,port=8888,ns=kube-system"
	refuses 'namespace kube-system: user alice may use physics' batch alice "FORGE=${option}k8s_import=kube-system/dns"
	refuses 'more than 64 services' batch alice "FORGE=${option}k8s_register=$(printf 'a%d:80;' {1..65})z:1"
	refuses 'k8s-nodes=mine' batch alice "FORGE=${option}k8s_nodes=mine"
	refuses 'longer than 8 KiB' batch alice "FORGE=${option}k8s_register=$(printf '%010000d' 0)"
	refuses 'node ports 8000-8999, not 22' as alice "FORGE=${option}k8s_register=a:22" srun true
	refuses 'node ports 8000-8999, not 22' as alice "FORGE=${option}k8s_register=a:22" salloc --no-shell
}

an_array_needs_names_that_differ() {
	local plain="FORGE=${option}k8s_register=worker:8786" indexed="FORGE=${option}k8s_register=worker-%a:8786"
	refuses 'the tasks of --array=0-3 cannot all have the service worker' batch alice "$plain" --array=0-3
	refuses 'the job is not in an array' batch alice "$indexed"
	accepts batch alice "$indexed" --array=0-3
	accepts batch alice "$plain" --array=0-3%1
}

a_refusal_is_in_the_log() {
	refuses 'node ports 8000-8999, not 23' batch alice "FORGE=${option}k8s_register=a:23"
	[ "$(in_log 'refused a job of uid 1001, submitted by uid 1001: service a: user alice may use node ports 8000-8999, not 23')" = 1 ] || fail "$(in_log 'not 23') times"
}

a_changed_policy_counts_at_once() {
	set_policy policy_of 22
	accepts batch alice "FORGE=${option}k8s_register=a:22"
	refuses 'node ports 22, not 8888' batch alice "FORGE=${option}k8s_register=a:8888"
	set_policy policy_of 8000-8999
}

a_policy_that_cannot_be_known_refuses_nothing() {
	set_policy echo 'x = """'
	accepts batch alice "FORGE=${option}k8s_register=a:22"
	accepts batch bob "FORGE=${option}k8s_register=a:22"
	[ "$(in_log 'checked on the node only: /etc/slurm/slurmk8s.toml:1: ')" = 1 ] || fail "$(in_log 'checked on the node only') times in the log"
	refuses 'no port: write NAME:PORT' batch alice "FORGE=${option}k8s_register=a"
	set_policy policy_of 8000-8999
}

jobs_can_be_changed() {
	local job
	job=$(batch alice "FORGE=${option}k8s_register=a:8888")
	in_slurm scontrol update "JobId=$job" Comment=x
}

a_sites_own_script_calls_it() {
	docker exec --interactive "$container" sh -c 'mkdir -p /opt/slurmk8s/share && cp /etc/slurm/job_submit.lua /opt/slurmk8s/share/ && cat >/etc/slurm/job_submit.lua' <<-'END'
		local slurmk8s = dofile("/opt/slurmk8s/share/job_submit.lua")
		function slurm_job_submit(job_desc, part_list, submit_uid)
			if job_desc.name == "forbidden" then
				slurm.log_user("not with this name")
				return slurm.ERROR
			end
			return slurmk8s.check(job_desc, submit_uid)
		end
		function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
			return slurm.SUCCESS
		end
		return slurm.SUCCESS
	END
	sleep 1 # Slurm sees a change by its time, in seconds
	in_slurm touch /etc/slurm/job_submit.lua
	refuses 'not with this name' batch alice '' --job-name forbidden
	refuses 'node ports 8000-8999, not 22' batch alice "FORGE=${option}k8s_register=a:22"
	accepts batch alice "FORGE=${option}k8s_register=a:8888"
}

# script USER TEXT: submits TEXT as a job's script; the job waits.
script() {
	printf '#!/bin/bash\n%s\n' "$2" | docker exec --interactive --user "$1" --workdir /tmp "$container" sbatch --hold --parsable 2>&1
}
# directive_of TEXT: what Slurm makes of a script's directives.
directive_of() {
	local job
	job=$(script alice "$1") || fail "refused: $job"
	in_slurm scontrol show job -o "$job" | sed -n 's/.* BurstBuffer=\(.*\) BurstBufferState=.*/\1/p'
}

a_capacity_without_a_pool_that_slurm_knows_is_accepted() {
	local seen
	for line in 'type=xfs capacity=200GB:name=s1' 'capacity=7TiB:pool=sm_pool name=x' 'capacity=7TiB:name=x pool=wlm_pool'; do
		seen=$(directive_of "#DW jobdw ${line/:/ }")
		if [[ $seen != "#DW jobdw "*pool=dws* || $seen == *_pool* ]]; then fail "$line: $seen"; fi
	done
	seen=$(directive_of $'#DW create_persistent type=lustre \\\n#DW capacity=10GiB name=p\ndate')
	[ "$seen" = '#DW create_persistent type=lustre capacity=10GiB pool=dws name=p' ] || fail "continued: $seen"
	# The program gets to judge what salloc was given: without a pool, Slurm alone would.
	refuses 'no space after "#DW"' as alice '' salloc --no-shell --bb='#DWjobdw capacity=1GB'
}

a_line_that_is_not_read_is_told_at_the_prompt() {
	local told
	for line in '# DW jobdw type=xfs name=x' '#BB create_persistent name=x' $'cat <<END\n#DW jobdw name=x\nEND'; do
		told=$(script alice "$line") || fail "refused: $told"
		grep -q 'slurmk8s: line [23]: ".*" is not read: write #DW' <<<"$told" || fail "$line: $told"
	done
	told=$(script alice '# DW and other words') || fail "refused: $told"
	[[ $told =~ ^[0-9]+$ ]] || fail "told: $told"
}

a_job_that_would_miss_its_storage_is_refused() {
	refuses 'slurmk8s: line 2: "#dw jobdw type=xfs" is not read: write #DW' script alice '#dw jobdw type=xfs'
	refuses 'line 3: "#DW jobdw type=xfs" is not read: write #DW above the first command, which is in line 2' \
		script alice $'date\n#DW jobdw type=xfs'
}

# The last one: jobs are judged again only after half a minute.
a_program_that_hangs_costs_one_deadline() {
	docker exec --interactive "$container" sh -c 'cat >/opt/slurmk8s/bin/new && chmod 755 /opt/slurmk8s/bin/new &&
		mv /opt/slurmk8s/bin/new /opt/slurmk8s/bin/slurmk8s' <<-'END'
		#!/bin/sh
		echo started >>/tmp/starts
		sleep 1000
	END
	for _ in 1 2 3; do
		accepts batch alice "FORGE=${option}k8s_register=a:22"
	done
	[ "$(in_slurm grep -c started /tmp/starts)" = 1 ] || fail 'the program was asked again'
	[ "$(in_log 'timed out after 2000 ms')" = 1 ] || fail 'not in the log'
	! in_slurm pgrep -x sleep || fail 'the program is left behind'
}

# rest COMMAND...: see tests/cluster/slurmrestd.sh.
rest() { docker exec --interactive "$container" bash -s - "$@" <"$top/tests/cluster/slurmrestd.sh"; }

a_job_of_slurmrestd_is_judged() {
	accepts rest submit "${option}k8s_register=a:8888"
	refuses 'slurmk8s: service a: user alice may use node ports 8000-8999, not 22' rest submit "${option}k8s_register=a:22"
	[[ $(in_slurm slurmctld -V) = *' 22.'* ]] ||
		refuses "--k8s-register is missing in the job's environment" rest submit '' "${option}k8s_register=a:8888"
}

slurmctld_is_well() {
	[ "$(in_slurm pgrep -c slurmctld)" -ge 1 ] || fail 'slurmctld is gone'
	! in_slurm grep -E 'error: .*job_submit' /var/log/slurm/slurmctld.log || fail 'of job_submit.lua'
}

for slurm in "$@"; do
	release=$(basename "$slurm")
	container=submit-$release
	out=$top/build/test/lua/$release
	trap down EXIT
	up
	slurmrestd=a_job_of_slurmrestd_is_judged
	reason=$(rest start) || [ $? != 69 ] || {
		slurmrestd=
		echo "LEFT OUT - $release: a job of slurmrestd is judged: no slurmrestd for this Slurm: $reason"
	}
	for behaviour in a_job_without_options_is_accepted options_in_the_environment_are_judged a_forged_spank_job_env_is_judged \
		an_array_needs_names_that_differ a_refusal_is_in_the_log a_changed_policy_counts_at_once a_policy_that_cannot_be_known_refuses_nothing \
		a_capacity_without_a_pool_that_slurm_knows_is_accepted a_line_that_is_not_read_is_told_at_the_prompt \
		a_job_that_would_miss_its_storage_is_refused $slurmrestd jobs_can_be_changed a_sites_own_script_calls_it \
		a_program_that_hangs_costs_one_deadline slurmctld_is_well; do
		if reason=$("$behaviour" 2>&1); then
			passed=$((passed + 1))
			echo "ok - $release: ${behaviour//_/ }"
		else
			failed=$((failed + 1))
			echo "not ok - $release: ${behaviour//_/ }: $reason"
		fi
	done
	down
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
