#!/bin/sh
# The reference: the same work by kubectl and a poll each second, in the call
# sequence of dws-slurm-bb-plugin (16 kubectl for a job that waits nowhere).
#
#   reference.sh lifecycle ID     all hooks, each in a child of its own
#   reference.sh HOOK ID          one: job_process, setup, data_in, pre_run,
#                                 post_run, data_out, job_teardown
#   reference.sh poll ID COUNT    COUNT rounds of the loop that waits
#
# From the environment: KUBECTL, KUBECONFIG, NAMESPACE, API_VERSION, DIRECTIVES (the
# JSON list), HOME (with kubectl's discovery cache in it) and TMPDIR.
#
# Each kubectl runs as Lua's io.popen runs it, by a shell of its own, after a shell
# that looks whether $HOME exists. Everything else is a builtin, and answers go
# through a file rather than a subshell, so that the reference neither is slower
# nor spawns more than it must.
set -eu

crd=workflows.dataworkflowservices.github.io
max_polls=120
answer=$TMPDIR/answer.$2

# shellcheck disable=SC2016 # the inner shell expands it
kubectl() {
	sh -c 'test -d "$HOME"'
	sh -c "$KUBECTL --kubeconfig $KUBECONFIG -n $NAMESPACE $1"
}

state_of() {
	kubectl "get $crd bb$1 -o jsonpath='{.spec.desiredState} {.status.state} {.status.status}'"
}

# The state is done when status says Completed; else again in a second.
wait_for_completed() {
	polls=0
	while :; do
		state_of "$1" >"$answer"
		current=
		read -r current <"$answer" || true # kubectl ends the line without a newline
		if [ "$current" = "$2 $2 Completed" ]; then return 0; fi
		polls=$((polls + 1))
		if [ "$polls" -ge "$max_polls" ]; then
			echo "bb$1: $2 not reached: $current" >&2
			return 1
		fi
		sh -c 'sleep 1'
	done
}

advance() {
	kubectl "patch $crd bb$1 --type=merge -p '{\"spec\":{\"desiredState\":\"$2\"}}'" >/dev/null
	wait_for_completed "$1" "$2"
}

job_process() {
	file=$TMPDIR/bb$1.json
	printf '{"apiVersion":"%s","kind":"Workflow","metadata":{"name":"bb%s"},"spec":{"desiredState":"Proposal","wlmID":"slurm","jobID":%s,"userID":1000,"groupID":1000,"dwDirectives":%s}}\n' \
		"$API_VERSION" "$1" "$1" "$DIRECTIVES" >"$file"
	kubectl "apply -f $file" >/dev/null
}

setup() {
	wait_for_completed "$1" Proposal
	advance "$1" Setup
}

job_teardown() {
	kubectl "get $crd bb$1 -o jsonpath='{range .status.drivers[?(@.status==\"Error\")]}{.error}{end}'" >"$answer"
	if [ -s "$answer" ]; then echo "bb$1: a driver failed" >&2; fi
	advance "$1" Teardown
	kubectl "delete $crd bb$1" >/dev/null
}

hook() {
	case $1 in
	data_in) advance "$2" DataIn ;;
	pre_run) advance "$2" PreRun ;;
	post_run) advance "$2" PostRun ;;
	data_out) advance "$2" DataOut ;;
	job_process | setup | job_teardown) "$1" "$2" ;;
	*) echo "reference.sh: no hook $1" >&2; return 2 ;;
	esac
}

case $1 in
lifecycle)
	hook job_process "$2" # slurmctld itself
	for name in setup data_in pre_run post_run data_out job_teardown; do
		(hook "$name" "$2")
	done
	;;
poll)
	polls=0
	while [ "$polls" -lt "$3" ]; do
		state_of "$2" >/dev/null
		sh -c 'sleep 1'
		polls=$((polls + 1))
	done
	;;
*) hook "$1" "$2" ;;
esac
