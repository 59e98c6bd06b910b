# behaviours_ends.sh - what slurm_test.sh tests, second part: how registrations end.
# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154 # the scripts' variables are the job's; release is the caller's

the_program_is_out_of_the_users_reach() {
	local id out
	id=$(submit -w n1 --k8s-register=jup:1 -- 'pid=$(pgrep -f "step_program step"); for signal in TERM KILL STOP; do kill -$signal $pid 2>&1; done
		cat /proc/$pid/environ /proc/$pid/mem 2>&1; ls /proc/$pid/fd 2>&1; echo "user $(id -u)"')
	ends "$id" COMPLETED 0:0
	out=$(n1 cat "/tmp/$id.out")
	[ "$(grep -c 'Operation not permitted' <<<"$out")" = 3 ] || fail "$out"
	[ "$(grep -c 'Permission denied' <<<"$out")" = 3 ] || fail "$out"
	logged n1 'end done'
}

scancel_deregisters() {
	local id
	id=$(submit -w n1 --k8s-register=jup:1 -- 'srun sleep 100')
	eventually n1 pgrep -x sleep
	alice scancel "$id"
	eventually logged n1 'end done'
	eventually is_over "$id"
	[ "$(n1 grep -c 'end done' /tmp/step_program.log)" = 2 ] || fail "$(n1 cat /tmp/step_program.log)"
}

scancel_kill_deregisters() {
	local id
	id=$(submit -w n1 --k8s-register=jup:1 -- 'sleep 100')
	eventually n1 pgrep -x sleep
	alice scancel --full -s KILL "$id"
	eventually is_over "$id"
	eventually logged n1 'end done'
}

signals_do_not_reach_the_program() {
	local id
	id=$(submit -w n1 --k8s-register=jup:1 -- 'trap "" USR1; sleep 3; sleep 1')
	eventually n1 pgrep -x sleep
	alice scancel --full -s USR1 "$id"
	alice scancel --full -s STOP "$id"
	alice scancel --full -s CONT "$id"
	ends "$id" COMPLETED 0:0
	logged n1 'end done'
}

waits_for_its_time() { [[ $(job "$1") == *Reason=BeginTime* ]]; }

requeue_registers_again() {
	local id
	id=$(submit -w n1 --requeue --k8s-register=jup:1 -- '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || sleep 100')
	eventually n1 pgrep -x sleep
	n1 scontrol requeue "$id"
	eventually logged n1 'end done'
	# Slurm would wait two minutes.
	eventually waits_for_its_time "$id"
	# Nor may it be at once: the credential of the first run is revoked for that second.
	eventually nodes_are_idle
	sleep 2
	n1 scontrol update JobId="$id" StartTime=now
	ends "$id" COMPLETED 0:0
	[ "$(n1 grep -c 'end done' /tmp/step_program.log)" = 2 ] || fail "$(n1 cat /tmp/step_program.log)"
	# Only the epilog knows.
	eventually n1 grep -q RESTART_COUNT=1 /tmp/library.log
}

the_time_limit_deregisters() {
	local id
	id=$(submit -w n1 -t 1 --k8s-register=jup:1 -- 'sleep 200')
	eventually is_over "$id"
	ends "$id" TIMEOUT 0:15
	eventually logged n1 'end done'
}

a_program_killed_in_mid_life_leaves_the_job_alone() {
	local id
	id=$(submit -w n1 --k8s-register=jup:1 -- 'sleep 2; echo done')
	eventually n1 pgrep -x sleep
	n1 sh -c 'kill -9 $(pgrep -f "step_program step")'
	ends "$id" COMPLETED 0:0
	[ "$(n1 cat "/tmp/$id.out")" = 'done' ] || fail "$(n1 cat "/tmp/$id.out")"
	n1 grep -q 'slurmk8s: .*the epilog deregisters' /var/log/slurm/slurmd.log || fail "not logged"
	eventually n1 grep -q "JOB_ID=$id" /tmp/library.log
}

a_deaf_program_is_killed() {
	local id
	id=$(submit -w n1 --k8s-register=deaf:1 -- true)
	ends "$id" COMPLETED 0:0
	eventually n1 grep -q 'slurmk8s: the step program hung and was killed' /var/log/slurm/slurmd.log
}

the_program_outlives_no_slurmstepd() {
	local id
	id=$(submit -w n1 --no-requeue --k8s-register=jup:1 -- 'sleep 3')
	eventually n1 pgrep -x sleep
	n1 sh -c 'kill -9 $(pgrep -f "slurmstepd: .*batch")'
	eventually logged n1 "end without a request, job $id"
	n1 sh -c 'pkill -x sleep; true'
	n1 scancel "$id"
}

the_epilog_deregisters_on_every_node() {
	local id node
	id=$(submit -N2 --k8s-register=jup:1 -- 'srun true') # each node has a step that registers
	ends "$id" COMPLETED 0:0
	for node in n1 n2; do
		eventually "$node" grep -q "JOB_ID=$id" /tmp/library.log
		[[ $("$node" cat /tmp/library.log) == *" NODE=$node"*"NODELIST=n[1-2]"*"RESTART_COUNT=0"* ]] ||
			fail "$("$node" cat /tmp/library.log)"
	done
	# A step's option is not the job's: there the program's mark tells.
	clear_logs
	n1 rm -rf /run/slurmk8s
	n2 rm -rf /run/slurmk8s
	id=$(submit -N2 -- 'srun -N1 -w n2 --k8s-register=jup:1 true')
	ends "$id" COMPLETED 0:0
	eventually n2 grep -q "JOB_ID=$id" /tmp/library.log
	n1 sh -c '[ ! -s /tmp/library.log ]' || fail "loaded on n1 for nothing"
}

a_job_that_cleaned_up_after_itself_loads_nothing() {
	local id
	id=$(submit -w n1 --k8s-register=clean:1 -- true)
	ends "$id" COMPLETED 0:0
	logged n1 'end done'
	eventually nodes_are_idle # the epilog has ended
	n1 sh -c '[ ! -s /tmp/library.log ]' || fail "$(n1 cat /tmp/library.log)"
}

# The stub library hangs for job ids that end with 8, and fails for those with 7.
a_bad_epilog_drains_nothing() {
	local id node=n1
	until id=$(submit -w n1 --k8s-register=jup:1 -- true) && [[ $id == *8 ]]; do
		ends "$id" COMPLETED 0:0
	done
	eventually n1 grep -q "slurmk8s: job $id: cleaning up is left to reconcile: the hook did not end" /var/log/slurm/slurmd.log
	n1 grep -q 'slurmk8s: job .*7: cleaning up is left to reconcile: the API server does not answer' /var/log/slurm/slurmd.log ||
		fail "$(n1 grep slurmk8s /var/log/slurm/slurmd.log)"
}

reconfigure() { # LINES for extra.conf
	local node
	eventually nodes_are_idle
	# Let it save its state, which a killed one would not.
	n1 sh -c 'kill $(pgrep -x -o slurmctld)'
	eventually n1 sh -c '! pgrep -x slurmctld'
	for node in n1 n2; do
		printf '%s\n' "$@" | docker exec --interactive "spank-$release-$node" sh -c 'cat >/etc/slurm/extra.conf'
		docker restart --time 2 "spank-$release-$node" >/dev/null
	done
	eventually nodes_are_idle
}

# Another way to find the processes of a step: the program must not be among them.
it_works_with_proctrack_pgid() {
	reconfigure ProctrackType=proctrack/pgid SlurmdParameters=config_overrides
	a_batch_job_is_registered_while_it_runs
	a_failed_registration_fails_the_job
	clear_logs
	scancel_deregisters
}

it_works_with_contain_spank() {
	reconfigure ProctrackType=proctrack/linuxproc SlurmdParameters=config_overrides,contain_spank
	a_batch_job_is_registered_while_it_runs
	an_srun_step_is_registered_on_each_node_while_it_runs
	a_failed_registration_fails_the_job
	reconfigure ProctrackType=proctrack/linuxproc SlurmdParameters=config_overrides
}
