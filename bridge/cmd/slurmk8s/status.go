package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/duty/all"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/status"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// statusLimit bounds the requests of one look.
const statusLimit = 30 * time.Second

func statusCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status [JOBID]", Short: "show what jobs have in Kubernetes",
		Long: `Shows what a job, or each job of the cluster, has in Kubernetes: Workflows, Services,
endpoints, Leases and nodes, with state, age and errors. JOBID is a job id; for a task of
a job array, the id that "squeue --format=%A" shows.

On the controller, root and SlurmUser see all jobs. Other users see what Slurm tells them
about their own jobs, because a user's process may not read a credential.

Exit status: 0 shown, 1 failed.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var id uint32 // 0: all
			if len(args) > 0 {
				id, err = jobArgument(cmd, args)
			}
			if err != nil {
				return err
			}
			return end(runStatus(cmd.Context(), config, asJSON, id))
		},
	}
	withConfig(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runStatus(ctx context.Context, config string, asJSON bool, id uint32) int {
	cfg, err := slurmconf.Load(config)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	report, err := look(ctx, cfg, id)
	if err != nil {
		return failed(err)
	}
	show := status.Print
	if asJSON {
		show = status.PrintJSON
	}
	if err := show(os.Stdout, report); err != nil {
		return failed(err)
	}
	return exitOK
}

func look(ctx context.Context, cfg *slurmconf.Config, id uint32) (*status.Report, error) {
	commands := slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}
	client, err := operatorClient(ctx, cfg, "status", quiet())
	if errors.Is(err, fs.ErrPermission) {
		who, err := user.Current()
		if err != nil {
			return nil, err
		}
		return status.ForUser(ctx, commands, cfg.Cluster, who, id)
	}
	if err != nil {
		return nil, err
	}
	return status.Collect(ctx, status.Options{Config: cfg, Duties: all.Used(cfg), Kube: client, Slurm: commands, Job: id, Now: time.Now(), Log: quiet()})
}

// operatorClient is the controller's access, for a person who waits.
func operatorClient(ctx context.Context, cfg *slurmconf.Config, command string, log *logrus.Entry) (*kube.Client, error) {
	return kube.For(cfg, cfg.Kubernetes.Kubeconfig, command, log, kube.Trusting(slurmUser(ctx, cfg)...), kube.Hasty)
}
