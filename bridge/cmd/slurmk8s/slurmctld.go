package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

const slurmctldAbout = `For sites that keep no Kubernetes credential on compute nodes: PrologSlurmctld and
EpilogSlurmctld of slurm.conf run slurmk8s, which reclaims all nodes of a job from
Kubernetes before the job starts and gives them back after it. Slurm runs these programs
without arguments, so set both to the path of slurmk8s itself: it knows from Slurm's
environment variables which of the two it is, and for which job.

`

const slurmctldCredential = `

The credential is that of [kubernetes], with the rights of
packaging/manifests/nodes-controller.yaml.`

func prologSlurmctldCommand() *cobra.Command {
	return slurmctldHook("prolog-slurmctld", "reclaim a job's nodes from Kubernetes (PrologSlurmctld)", slurmctldAbout+
		`If nodes cannot be reclaimed, the exit status is 1. Slurm then requeues a batch job and
ends an interactive one.`+slurmctldCredential)
}

func epilogSlurmctldCommand() *cobra.Command {
	return slurmctldHook("epilog-slurmctld", "give a job's nodes back to Kubernetes (EpilogSlurmctld)", slurmctldAbout+
		`Slurm runs EpilogSlurmctld before the job's processes have ended. Each node is given back
when Slurm has released it. "slurmk8s reconcile" gives back nodes that take longer than a
minute.`+slurmctldCredential)
}

func slurmctldHook(name, short, long string) *cobra.Command {
	var config string
	cmd := &cobra.Command{Use: name, Short: short, Long: long, Args: noArguments, RunE: func(cmd *cobra.Command, _ []string) error {
		return end(runSlurmctld(cmd.Context(), "k8s_"+strings.ReplaceAll(name, "-", "_"), config))
	}}
	withConfig(cmd, &config)
	return cmd
}

func runSlurmctld(ctx context.Context, name, config string) int {
	request := slurmctldRequest()
	if _, err := strconv.ParseUint(request[wire.KeyJobID], 10, 32); err != nil {
		return failed(fmt.Errorf("SLURM_JOB_ID=%q is not a job id: this command is for PrologSlurmctld and EpilogSlurmctld of slurm.conf", request[wire.KeyJobID]))
	}
	request[wire.KeyConfig] = config
	code, reply := hook.Run(ctx, name, request)
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
