# behaviours.sh - what slurm_test.sh tests, first part: what is registered, and what is refused.
# slurm_test.sh's functions are used.
# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154 # the scripts' variables are the job's; release is the caller's

help_names_the_options() {
	local command option text
	for command in srun sbatch salloc; do
		text=$(n1 "$command" --help)
		for option in --k8s-register=SPEC --k8s-namespace=NAMESPACE --k8s-import=; do
			[[ $text == *"$option"* ]] || fail "$command --help has no $option"
		done
	done
}

a_job_without_the_option_costs_nothing() {
	local id maps pid node seen=
	id=$(submit -N2 -- 'srun sleep 4')
	eventually n2 pgrep sleep
	for node in n1 n2; do
		for pid in $("$node" pgrep slurmstepd); do
			maps=$("$node" cat "/proc/$pid/maps" 2>/dev/null) || continue # of a prolog, which is over
			[[ $maps == *slurmk8s_spank.so* && $maps != *stub_library* ]] || fail "$node: $maps"
			[ "$(awk '/slurmk8s/ { print $6 }' <<<"$maps" | sort -u)" = /build/slurmk8s_spank.so ] ||
				fail "$node: more than the plugin is mapped"
			seen+=" $node"
		done
		[[ $("$node" cat "/proc/$("$node" pgrep -o slurmd)/maps") != *stub_library* ]] || fail "slurmd has the library"
	done
	[[ $seen == *n1*n2* ]] || fail "no slurmstepd was seen on each node:$seen"
	ends "$id" COMPLETED 0:0
	n1 sh -c '[ ! -s /tmp/step_program.log ] && [ ! -s /tmp/library.log ]' || fail "something was run"
	n2 sh -c '[ ! -s /tmp/step_program.log ] && [ ! -s /tmp/library.log ]' || fail "something was run on n2"
}

a_batch_job_is_registered_while_it_runs() {
	local id want out
	id=$(submit -N2 --k8s-register=jup:8888 --k8s-namespace=team -- 'echo "<$SLURMK8S_SERVICE_JUP> <$DB_SERVICE_HOST>"; sleep 2')
	eventually runs "$id"
	eventually logged n1 "step STEP_ID=batch"
	n1 pgrep -f 'step_program step' >/dev/null || fail "the program does not live as long as the job"
	ends "$id" COMPLETED 0:0
	out=$(n1 cat "/tmp/$id.out")
	[[ $out =~ ^'<10.9.8.7:'[0-9]+"> <a b'c>"$ ]] || fail "$out"
	for want in "JOB_ID=$id" UID=1001 GID=1001 GIDS=1001 NODE=n1 'NODELIST=n[1-2]' NODE_RANK=0 K8S_REGISTER=jup:8888 \
		K8S_NAMESPACE=team "SCRIPT=/var/spool/slurmd/job$(printf '%05d' "$id")/slurm_script" DEADLINE_MS=2000 'uid=0 '; do
		logged n1 "step $want"
	done
	logged n1 'end done'
	n2 sh -c '! grep -q step /tmp/step_program.log' || fail "the extern step of n2 registered"
	[ "$(n1 grep -c 'step JOB_ID' /tmp/step_program.log)" = 1 ] || fail "the extern step registered"
}

an_srun_step_is_registered_on_each_node_while_it_runs() {
	local id
	id=$(submit -N2 -- 'srun --k8s-register=web:80 sleep 1; sleep 3')
	eventually logged n2 'end done'
	eventually logged n1 'end done'
	runs "$id" || fail "the step's end is not the job's"
	logged n1 'step NODE_RANK=0'
	logged n2 'step NODE_RANK=1' 'step NODE=n2' 'step STEP_ID=0'
	ends "$id" COMPLETED 0:0
}

# What Slurm tells of an array, to the script and by srun to a step.
tasks_of_an_array_say_which_they_are() {
	local id
	id=$(submit -N1 --array=3,7%1 --k8s-register=web-%a:80 -- 'srun --k8s-register=stepped-%a:81 true; srun --export=NONE --k8s-register=bare-%a:82 /bin/true')
	eventually logged n1 "step K8S_REGISTER=bare-%a:82" 'step ARRAY_TASK_ID=7'
	eventually nodes_are_idle
	# The script and the two steps of both tasks: srun sends SLURM_* whatever --export says.
	[ "$(n1 grep -c "step ARRAY_JOB_ID=$id\$" /tmp/step_program.log)" = 6 ] || fail "$(n1 grep ARRAY /tmp/step_program.log)"
	[ "$(n1 grep -c 'step ARRAY_TASK_ID=3$' /tmp/step_program.log)" = 3 ] || fail "$(n1 grep ARRAY /tmp/step_program.log)"
}

a_script_that_an_array_submits_is_in_no_array() {
	local id
	id=$(submit -N1 --array=5 -- 'sbatch -N1 --parsable --output=/tmp/%j.out --k8s-register=web-%j:80 --wrap true')
	eventually logged n1 'step ARRAY_JOB_ID=0'
	n1 sh -c '! grep -q "step ARRAY_TASK_ID" /tmp/step_program.log' || fail "of array $id: $(n1 grep ARRAY /tmp/step_program.log)"
}

srun_in_a_script_inherits_the_option_unchecked() {
	local id
	id=$(submit -N1 --k8s-register=jup:8888 -- 'srun true')
	ends "$id" COMPLETED 0:0
	logged n1 'step STEP_ID=batch' 'step STEP_ID=0'
	[ "$(n1 grep -c 'check K8S_REGISTER' /tmp/step_program.log)" = 1 ] || fail "srun checked again"
	[ "$(n1 grep -c 'step INHERITED=1' /tmp/step_program.log)" = 1 ] || fail "$(n1 grep INHERITED /tmp/step_program.log)"
}

# The steps of all components see the option; their jobs' numbers differ.
het_jobs_register_the_component_that_asks() {
	local id out
	id=$(alice sbatch --parsable -o '/tmp/%j.out' -w n1 --k8s-register=jup:1 : -w n2 --wrap 'srun --quiet --het-group=0,1 hostname; srun --quiet --het-group=1 hostname')
	ends "$id" COMPLETED 0:0
	[ "$(n1 sort "/tmp/$id.out" | tr '\n' ' ')" = 'n1 n2 n2 ' ] || fail "$(n1 cat "/tmp/$id.out")"
	logged n1 'step STEP_ID=batch'
	n2 sh -c '! grep step /tmp/step_program.log' || fail "component 1 registered what component 0 was given"
	clear_logs
	out=$(alice srun --quiet -w n1 env : -w n2 --k8s-register=jup:1 env) || fail "$out"
	[ "$(grep -c '^SLURMK8S_SERVICE_JUP=' <<<"$out")" = 1 ] || fail "not one component: $out"
	[[ $out != *ASKED_BY* ]] || fail "$out"
	logged n2 'end done'
	n1 sh -c '! grep step /tmp/step_program.log' || fail "component 0 registered what component 1 was given"
	clear_logs
	id=$(alice sbatch --parsable -o '/tmp/%j.out' -w n1 : -w n2 --wrap 'srun --het-group=1 --k8s-register=jup:1 true; srun --het-group=0,1 --k8s-register=both:1 true; true')
	ends "$id" COMPLETED 0:0
	logged n2 'step K8S_REGISTER=jup:1'
	[[ $(n1 cat "/tmp/$id.out") == *'give --k8s options to a step of one component: srun --het-group=1 '* ]] ||
		fail "$(n1 cat "/tmp/$id.out")"
	n1 sh -c '! grep step /tmp/step_program.log' || fail "component 0 registered"
	out=$(alice sbatch -w n1 : -w n2 --k8s-register=jup:1 --wrap true 2>&1) && fail "accepted: $out"
	[[ $out == *'slurmk8s: component 1 of a heterogeneous job: '*'srun --het-group=1 --k8s-register='* ]] || fail "$out"
	out=$(alice srun -w n1 --k8s-register=a:1 true : -w n2 --k8s-register=b:1 true 2>&1) && fail "accepted: $out"
	[[ $out == *'components 0 and 1'* ]] || fail "$out"
}

salloc_registers_with_its_steps() {
	alice salloc --quiet -N1 --k8s-register=jup:8888 sh -c 'sleep 1; srun env' >/tmp/salloc.$$ 2>&1 || fail "$(cat /tmp/salloc.$$)"
	grep -q '^SLURMK8S_SERVICE_JUP=' /tmp/salloc.$$ || fail "$(cat /tmp/salloc.$$)"
	rm -f /tmp/salloc.$$
	logged n1 'step STEP_ID=0' 'end done'
	[ "$(n1 grep -c 'step JOB_ID' /tmp/step_program.log)" = 1 ] || fail "more than the step registered"
}

imports_set_the_environment() {
	local id
	id=$(submit -N1 --k8s-import=db/mysql:3306 -- 'echo "$DB_SERVICE_HOST"')
	ends "$id" COMPLETED 0:0
	[ "$(n1 cat "/tmp/$id.out")" = "a b'c" ] || fail "$(n1 cat "/tmp/$id.out")"
}

# What must be true of a job whose registration fails.
job_fails_with() { # SPEC MESSAGE
	local id out
	id=$(submit -N1 "--k8s-register=$1" -- 'echo the job must not run')
	ends "$id" FAILED 1:0
	out=$(n1 cat "/tmp/$id.out")
	[ "$out" = "slurmk8s: $2" ] || fail "$1: $out"
}

a_failed_registration_fails_the_job() {
	local hint=': tell the administrator'
	job_fails_with refused:1 'service refused: namespace kube-system is not open to alice'
	job_fails_with fails:1 'service fails: API server at 10.0.0.1:6443 does not answer'
	job_fails_with silent:1 "the step program gave no answer in time$hint"
	job_fails_with crash:1 "the step program ended without giving its answer$hint"
	job_fails_with garbage:1 "the step program's answer is invalid: is it of another version?$hint"
	job_fails_with giant:1 "the step program's answer is larger than 64 KiB$hint"
}

a_failed_registration_fails_the_step() {
	local out
	out=$(alice srun -N2 -n4 --k8s-register=refused:1 echo must not run 2>&1) && fail "srun succeeded: $out"
	[ "$(grep -c 'slurmk8s: service refused' <<<"$out")" = 2 ] || fail "not once a node: $out"
	[[ $out != *'must not run'* ]] || fail "$out"
}

optional_does_not_let_a_failed_job_run() {
	plugstack n1 "$(n1 sed 's/required/optional/' /etc/slurm/plugstack.usual)"
	a_batch_job_is_registered_while_it_runs
	job_fails_with refused:1 'service refused: namespace kube-system is not open to alice'
	alice sbatch --k8s-register=refused-at-prompt:1 --wrap true && fail "accepted"
	usual_plugstack
}

optional_and_missing_is_harmless() {
	local id
	plugstack n1 'optional /build/no_such_plugin.so'
	id=$(submit -N1 -- 'srun echo works')
	ends "$id" COMPLETED 0:0
	usual_plugstack
	# Slurm itself complains in each command.
	[ "$(n1 tail -n1 "/tmp/$id.out")" = works ] || fail "$(n1 cat "/tmp/$id.out")"
}

bad_arguments_on_a_node_fail_only_jobs_with_the_option() {
	local id
	plugstack n2 'required /build/slurmk8s_spank.so programme=/x'
	id=$(submit -w n2 -- true)
	ends "$id" COMPLETED 0:0
	id=$(submit -w n2 --k8s-register=a:1 -- true)
	ends "$id" FAILED 1:0
	[[ $(n2 cat "/tmp/$id.out") == 'slurmk8s: plugstack.conf: unknown argument "programme=/x"'*'tell the administrator' ]] ||
		fail "$(n2 cat "/tmp/$id.out")"
	usual_plugstack
}

bad_arguments_at_the_prompt_are_an_error() {
	local out
	plugstack n1 'required /build/slurmk8s_spank.so check_timeout=3'
	out=$(alice sbatch --wrap true 2>&1) && fail "accepted"
	usual_plugstack
	[[ $out == *'slurmk8s: plugstack.conf: unknown argument "check_timeout=3"; known are program='* ]] || fail "$out"
}

a_missing_program_fails_the_job() {
	local id
	plugstack n2 'required /build/slurmk8s_spank.so program=/no/such/program'
	id=$(submit -w n2 --k8s-register=a:1 -- true)
	ends "$id" FAILED 1:0
	usual_plugstack
	[[ $(n2 cat "/tmp/$id.out") == 'slurmk8s: /no/such/program cannot be run: No such file or directory: tell the administrator' ]] ||
		fail "$(n2 cat "/tmp/$id.out")"
}

errors_appear_at_the_prompt() {
	local command out value
	for command in 'sbatch --wrap true' 'srun true' 'salloc true'; do
		# shellcheck disable=SC2086 # words
		out=$(alice ${command%% *} --k8s-register=refused-at-prompt:1 ${command#* } 2>&1) && fail "$command: accepted"
		[ "$out" = "${command%% *}: error: slurmk8s: service name \"refused-at-prompt\" is not allowed for you" ] || fail "$out"
	done
	for value in '' $'a\nb' $'a\x1b[31m' "$(head -c 10000 /dev/zero | tr '\0' x)"; do
		out=$(alice sbatch "--k8s-register=$value" --wrap true 2>&1) && fail "accepted: $value"
		[[ $out == *'error: slurmk8s: --k8s-register '* ]] || fail "$out"
	done
	out=$(alice sbatch --k8s-namespace="$(head -c 64 /dev/zero | tr '\0' n)" --wrap true 2>&1) && fail "accepted"
	[[ $out == *'--k8s-namespace is too long (at most 63 bytes)'* ]] || fail "$out"
	[ -z "$(n1 squeue -h)" ] || fail "a job was submitted"
}

a_check_that_cannot_be_made_is_a_warning() {
	local out spec
	for spec in check-fails check-hangs check-crashes; do
		out=$(alice timeout 5 srun -N1 "--k8s-register=$spec:1" echo went on 2>&1) || fail "$out"
		[[ $out == *'slurmk8s: the options could not be checked here, the node will do it: '*'went on' ]] || fail "$out"
	done
}

# Forged by hand in the environment, past all checks at the prompt.
forged_values_reach_the_program_only_when_harmless() {
	local id
	id=$(docker exec --user alice --workdir /tmp --env $'_SLURM_SPANK_OPTION_slurmk8s_k8s_register=a\nb' "spank-$release-n1" \
		sbatch --parsable -w n1 --output '/tmp/%j.out' --wrap true)
	ends "$id" FAILED 1:0
	[[ $(n1 cat "/tmp/$id.out") == 'slurmk8s: --k8s-register has a control character in it'* ]] || fail "$(n1 cat "/tmp/$id.out")"
	n1 sh -c '! grep step /tmp/step_program.log' || fail "the program was run"
	id=$(docker exec --user alice --workdir /tmp --env SLURMD_NODENAME=evil --env 'SLURM_JOB_NODELIST=evil' --env SLURM_RESTART_COUNT=9 \
		--env SLURM_JOB_UID=0 --env SLURM_JOB_ID=1 "spank-$release-n1" \
		sbatch --parsable -w n1 --output '/tmp/%j.out' --k8s-register=a:1 --wrap true)
	ends "$id" COMPLETED 0:0
	logged n1 'step NODE=n1' 'step NODELIST=n1' "step JOB_ID=$id" 'step UID=1001'
	n1 sh -c '! grep RESTART_COUNT=9 /tmp/step_program.log' || fail "the user's word for the number of restarts"
}

env_takes_arkoudas_variables() {
	local id
	id=$(docker exec --user alice --workdir /tmp --env EXTERNAL_SERVICE_NAME=arkouda --env SSL_TOKEN=secret "spank-$release-n1" \
		sbatch --parsable --output '/tmp/%j.out' --k8s-register=env --wrap 'METRICS_SERVICE_NAME=m srun --k8s-register="env;x:1" true')
	ends "$id" COMPLETED 0:0
	logged n1 'check ENV_EXTERNAL_SERVICE_NAME=arkouda' 'step ENV_EXTERNAL_SERVICE_NAME=arkouda' 'step ENV_METRICS_SERVICE_NAME=m'
	n1 sh -c '! grep secret /tmp/step_program.log' || fail "a secret was sent"
}

all_behaviours() {
	behaviour "help names the options" help_names_the_options
	behaviour "a job without the option costs nothing" a_job_without_the_option_costs_nothing
	behaviour "a batch job is registered while it runs" a_batch_job_is_registered_while_it_runs
	behaviour "an srun step is registered on each node while it runs" an_srun_step_is_registered_on_each_node_while_it_runs
	behaviour "tasks of an array say which they are" tasks_of_an_array_say_which_they_are
	behaviour "a script that an array submits is in no array" a_script_that_an_array_submits_is_in_no_array
	behaviour "srun in a script inherits the option unchecked" srun_in_a_script_inherits_the_option_unchecked
	behaviour "het jobs register the component that asks" het_jobs_register_the_component_that_asks
	behaviour "salloc registers with its steps" salloc_registers_with_its_steps
	behaviour "imports set the environment" imports_set_the_environment
	behaviour "a failed registration fails the job, not the node" a_failed_registration_fails_the_job
	behaviour "a failed registration fails the step, said once a node" a_failed_registration_fails_the_step
	behaviour "optional does not let a failed job run" optional_does_not_let_a_failed_job_run
	behaviour "optional and missing is harmless" optional_and_missing_is_harmless
	behaviour "bad arguments on a node fail only jobs with the option" bad_arguments_on_a_node_fail_only_jobs_with_the_option
	behaviour "bad arguments at the prompt are an error" bad_arguments_at_the_prompt_are_an_error
	behaviour "a missing program fails the job" a_missing_program_fails_the_job
	behaviour "errors appear at the prompt" errors_appear_at_the_prompt
	behaviour "a check that cannot be made is a warning" a_check_that_cannot_be_made_is_a_warning
	behaviour "forged values reach the program only when harmless" forged_values_reach_the_program_only_when_harmless
	behaviour "env takes Arkouda's variables" env_takes_arkoudas_variables
	behaviour "the program is out of the user's reach" the_program_is_out_of_the_users_reach
	behaviour "scancel deregisters" scancel_deregisters
	behaviour "scancel -s KILL deregisters" scancel_kill_deregisters
	behaviour "scancel's signals do not reach the program" signals_do_not_reach_the_program
	behaviour "a program killed in mid-life leaves the job alone" a_program_killed_in_mid_life_leaves_the_job_alone
	behaviour "a deaf program is killed" a_deaf_program_is_killed
	behaviour "the program outlives no slurmstepd" the_program_outlives_no_slurmstepd
	behaviour "the epilog deregisters on every node" the_epilog_deregisters_on_every_node
	behaviour "a job that cleaned up after itself loads nothing" a_job_that_cleaned_up_after_itself_loads_nothing
	behaviour "a bad epilog drains nothing" a_bad_epilog_drains_nothing
	behaviour "works with proctrack/pgid" it_works_with_proctrack_pgid
	! since 24.05 || behaviour "works with contain_spank" it_works_with_contain_spank
	behaviour "requeue registers again" requeue_registers_again
	behaviour "the time limit deregisters" the_time_limit_deregisters
}
