package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

const slurmctldHelp = `Usage: slurmk8s prolog-slurmctld|epilog-slurmctld [--config FILE]

For sites that keep no Kubernetes credential on compute nodes: slurm.conf's
PrologSlurmctld and EpilogSlurmctld run these, and slurmctld's host takes all nodes
of a job from Kubernetes before it starts and gives them back after it. They read
the job from the environment that Slurm gives them. Slurm runs a program without
arguments: name slurmk8s itself in both lines of slurm.conf, and it goes by that
environment.

When nodes cannot be taken, the prolog ends with status 1, after which Slurm requeues
a batch job and ends an interactive one. Slurm runs EpilogSlurmctld before the job's
processes are dead: the epilog gives back each node when Slurm has it back, and leaves
those that take longer than a minute to "slurmk8s reconcile".

The credential is that of [kubernetes], with the rights of
packaging/manifests/nodes-controller.yaml.
`

// slurmctldHooks are the hooks of the two commands.
var slurmctldHooks = map[string]string{"prolog-slurmctld": "k8s_prolog_slurmctld", "epilog-slurmctld": "k8s_epilog_slurmctld"}

func runSlurmctld(ctx context.Context, command string, args []string) int {
	set, config := flags(command)
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Print(slurmctldHelp)
		return exitOK
	case err != nil:
		return usage("%s: %v", command, err)
	case set.NArg() > 0:
		return usage("%s takes no argument %q", command, set.Arg(0))
	}
	request := slurmctldRequest()
	if _, err := strconv.ParseUint(request[wire.KeyJobID], 10, 32); err != nil {
		return failed(fmt.Errorf("SLURM_JOB_ID=%q is not the number of a job: this command is for PrologSlurmctld and EpilogSlurmctld of slurm.conf", request[wire.KeyJobID]))
	}
	request[wire.KeyConfig] = *config
	code, reply := hook.Run(ctx, slurmctldHooks[command], request)
	if code != wire.OK {
		return failed(errors.New(reply[wire.KeyMessage]))
	}
	return exitOK
}

// slurmctldRequest is what Slurm says of the job in the environment; the names differ by
// version. The options of the SPANK plugin are handed on there, too.
func slurmctldRequest() wire.Fields {
	request := wire.Fields{}
	for _, v := range []struct{ key, variable string }{
		{wire.KeyJobID, "SLURM_JOB_ID"},
		{wire.KeyUID, "SLURM_JOB_UID"},
		{wire.KeyRestart, "SLURM_RESTART_COUNT"},
		{wire.KeyRestart, "SLURM_JOB_RESTART_COUNT"},
		{wire.KeyNodeList, "SLURM_NODELIST"},
		{wire.KeyNodeList, "SLURM_JOB_NODELIST"},
		{wire.KeyPartition, "SLURM_JOB_PARTITION"},
		{wire.KeyConstraints, "SLURM_JOB_CONSTRAINTS"},
		{wire.KeyNodesOption, "SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_nodes"},
		{wire.KeyEvictGrace, "SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_evict_grace"},
		{wire.KeyEvictTimeout, "SPANK__SLURM_SPANK_OPTION_slurmk8s_k8s_evict_timeout"},
	} {
		if value := os.Getenv(v.variable); value != "" {
			request[v.key] = value
		}
	}
	return request
}

// slurmctldCommand is the command for which Slurm runs this program without arguments,
// as it runs PrologSlurmctld and EpilogSlurmctld; "" for none.
func slurmctldCommand() string {
	switch os.Getenv("SLURM_SCRIPT_CONTEXT") {
	case "prolog_slurmctld":
		return "prolog-slurmctld"
	case "epilog_slurmctld":
		return "epilog-slurmctld"
	}
	return ""
}
