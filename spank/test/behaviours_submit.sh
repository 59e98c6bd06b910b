# behaviours_submit.sh - what slurm_test.sh tests, second part: the options reach the job from
# each way to submit it, and no other job. slurm_test.sh's functions are used.
# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154 # the scripts' variables are the job's; release is the caller's

# in_shell TEXT: a shell of alice's on n1.
in_shell() { alice env HOME=/home/alice sh -c "$1"; }

# Each row: sbatch's further words. The batch step is to register, with PATH or without.
every_way_to_submit_a_script_registers() {
	local row ways=(
		"" "--export=ALL" "--export=ALL,X=1" "--export=NONE" "--export=NIL" "--export=HOME,PATH" "--export=X=1"
		"--export-file=/tmp/export" "--get-user-env" "--export=NONE --get-user-env" "--array=7 --export=NONE"
		"--ignore-pbs --export=NONE" "--requeue --export=HOME"
	) at=0 lost=
	n1 sh -c 'printf "HOME=/home/alice\0PATH=/bin\0" >/tmp/export; chmod 644 /tmp/export'
	for row in "${ways[@]}"; do
		at=$((at + 1))
		in_shell "sbatch -w n1 --output=/dev/null $row --k8s-register=way-$at:1 --wrap /bin/true" || fail "$row"
	done
	printf '#!/bin/sh\n#SBATCH --export=NONE --k8s-register=way-in-script:1\n/bin/true\n' |
		docker exec --interactive --user alice --workdir /tmp "spank-$release-n1" sbatch -w n1 --output=/dev/null
	in_shell "SBATCH_EXPORT=NONE sbatch -w n1 --output=/dev/null --k8s-register=way-by-variable:1 --wrap /bin/true"
	# As a client without the plugin does.
	in_shell "_SLURM_SPANK_OPTION_slurmk8s_k8s_register=way-by-environment:1 sbatch -w n1 --output=/dev/null --wrap /bin/true"
	in_shell "SLURM_SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_register=way-by-default:1 sbatch -w n1 --output=/dev/null --export=NONE --wrap /bin/true"
	in_shell "sbatch --output=/dev/null --export=NONE -w n1 --k8s-register=way-het:1 : -w n2 --wrap /bin/true"
	eventually no_jobs
	eventually nodes_are_idle
	for row in "${!ways[@]}"; do
		registered "way-$((row + 1)):1" batch || lost+=" [${ways[row]}]"
	done
	for row in in-script by-variable by-environment by-default het; do
		registered "way-$row:1" batch || lost+=" [$row]"
	done
	[ -z "$lost" ] || fail "lost:$lost"
}

# rest COMMAND...: see tests/cluster/slurmrestd.sh.
rest() { docker exec --interactive "spank-$release-n1" bash -s - "$@" <"$here/../../tests/cluster/slurmrestd.sh"; }

a_job_of_slurmrestd_registers() {
	local id
	id=$(rest submit _SLURM_SPANK_OPTION_slurmk8s_k8s_register=way-rest:1) || fail "$id"
	ends "$id" COMPLETED 0:0
	registered way-rest:1 batch || fail "$(n1 cat /tmp/step_program.log)"
}

no_jobs() { [ -z "$(n1 squeue -h)" ]; }

# registered SPEC STEP: has such a step asked for it? Both are lines of one program's.
registered() {
	local pid
	pid=$(n1 sed -n "s/^\([0-9]*\) step K8S_REGISTER=$1\$/\1/p" /tmp/step_program.log | head -n1)
	[ -n "$pid" ] && n1 grep -q "^$pid step STEP_ID=$2\$" /tmp/step_program.log
}

every_way_to_run_a_command_registers() {
	local row ways=("srun" "srun --export=NONE" "srun --export=HOME" "salloc srun" "salloc srun --export=NONE" "salloc srun --export=X=1") at=0 lost=
	for row in "${ways[@]}"; do
		at=$((at + 1))
		# shellcheck disable=SC2086 # words
		alice ${row%% *} --quiet -w n1 "--k8s-register=run-$at:1" ${row#"${row%% *}"} /bin/true || fail "$row"
	done
	for row in "${!ways[@]}"; do
		registered "run-$((row + 1)):1" 0 || lost+=" [${ways[row]}]"
	done
	[ -z "$lost" ] || fail "lost:$lost"
}

a_crontab_with_an_option_is_refused() {
	local out
	n1 sh -c 'printf "#SCRON --k8s-register=cron:1\n0 0 1 1 * /bin/true\n" >/tmp/crontab'
	out=$(alice timeout 20 scrontab /tmp/crontab 2>&1) || true
	[[ $out == *'slurmk8s: --k8s-register has no effect in a crontab'* ]] || fail "$out"
	[[ $(alice scrontab -l 2>&1) != *cron:1* ]] || fail "accepted"
	n1 sh -c 'printf "0 0 1 1 * srun --k8s-register=cron:1 /bin/true\n" >/tmp/crontab'
	out=$(alice timeout 20 scrontab /tmp/crontab 2>&1) || fail "$out"
	[[ $(alice scrontab -l) == *'srun --k8s-register=cron:1'* ]] || fail "$out"
	alice scrontab -r
	eventually no_jobs
}

# What is made inside of a job with the option: none of them registers, and none can take the name.
jobs_that_a_job_makes_register_nothing_of_its_own() {
	local id inner at=0 ways=(
		'sbatch --wait -w n2 -o /tmp/inner.out --wrap "env | grep -a SPANK; srun true"'
		'sbatch --wait -w n2 -o /tmp/inner.out --export=NONE --wrap "env | grep -a SPANK; srun /bin/true"'
		'salloc -w n2 sh -c "srun true"'
		'env -u SLURM_JOB_ID -u SLURM_JOBID srun -w n2 true'
		'env -u SLURM_JOB_ID -u SLURM_JOBID sbatch --wait -w n2 -o /dev/null --wrap "srun true"'
	)
	n2 sh -c ': >/tmp/inner.out; chmod 666 /tmp/inner.out'
	for inner in "${ways[@]}"; do
		at=$((at + 1))
		id=$(submit -w n1 --k8s-register=sched:8786 --k8s-import=db --k8s-namespace=team -- "$inner || exit 1")
		ends "$id" COMPLETED 0:0
		n2 sh -c '! grep step /tmp/step_program.log' || fail "$inner: registered"
		n2 sh -c '! grep SPANK /tmp/inner.out' || fail "$inner: the other job sees the options"
	done
	# With salloc's shell, which is no step.
	alice salloc --quiet -w n1 --k8s-register=sched:8786 sh -c 'sbatch --wait -w n2 -o /dev/null --wrap "srun true"' >/dev/null || fail "salloc"
	n2 sh -c '! grep step /tmp/step_program.log' || fail "salloc: registered"
}

a_job_that_a_job_makes_has_its_own_options() {
	local id
	id=$(submit -w n1 --k8s-register=sched:8786 --k8s-namespace=team -- '
		printf "#!/bin/sh\n#SBATCH --k8s-register=worker:1\nsrun true\n" | sbatch --wait -w n2 -o /dev/null
		sbatch --wait -w n2 -o /dev/null --k8s-register=sched:8786 --wrap true')
	ends "$id" COMPLETED 0:0
	[ "$(n2 grep -o 'step K8S_.*' /tmp/step_program.log)" = 'step K8S_REGISTER=worker:1
step K8S_REGISTER=worker:1
step K8S_REGISTER=sched:8786' ] || fail "$(n2 grep -o 'step K8S_.*' /tmp/step_program.log)"
}

submit_behaviours() {
	behaviour "every way to submit a script registers" every_way_to_submit_a_script_registers
	if reason=$(rest start) || [ $? != 69 ]; then
		behaviour "a job of slurmrestd registers" a_job_of_slurmrestd_registers
	else
		echo "LEFT OUT - $release: a job of slurmrestd registers: no slurmrestd for this Slurm: $reason"
	fi
	behaviour "every way to run a command registers" every_way_to_run_a_command_registers
	# Debian has no scrontab.
	! n1 sh -c 'command -v scrontab' >/dev/null || behaviour "a crontab with an option is refused" a_crontab_with_an_option_is_refused
	behaviour "jobs that a job makes register nothing of its own" jobs_that_a_job_makes_register_nothing_of_its_own
	behaviour "a job that a job makes has its own options" a_job_that_a_job_makes_has_its_own_options
}
