package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/doctor"
)

// Exit statuses of doctor.
const (
	exitWarnings = 1
	exitSick     = 2
)

func doctorCommand() *cobra.Command {
	var config, roles, node string
	var asJSON bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use: "doctor", Short: "check this host and say what to fix",
		Long: `Checks this host for slurmk8s, from Slurm's configuration to the rights in Kubernetes,
and says what to do about each problem. It changes nothing. Run it as root, since only
root can read all credentials.

Exit status: 0 no problem, 1 warnings only, 2 something failed, 64 wrong usage.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := filepath.Abs(config)
			if err != nil {
				return end(failed(err))
			}
			o := doctor.Options{ConfigPath: path, NodeName: node, Paths: doctor.ThisHost()}
			for _, name := range strings.FieldsFunc(roles, func(r rune) bool { return r == ',' }) {
				switch role := doctor.Role(strings.TrimSpace(name)); role {
				case doctor.Controller, doctor.Node, doctor.Login:
					o.Roles = append(o.Roles, role)
				default:
					return fmt.Errorf("doctor: --role %q must be one of controller, node, login", name)
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return end(runDoctor(ctx, o, asJSON))
		},
	}
	withConfig(cmd, &config)
	cmd.Flags().StringVar(&roles, "role", "", "check these roles, `ROLE,...`: controller, node, login (default: from slurm.conf)")
	cmd.Flags().StringVar(&node, "node", "", "`NAME` of this node in slurm.conf (default: the host's name)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&limit, "limit", time.Minute, "stop after `TIME`")
	return cmd
}

func runDoctor(ctx context.Context, o doctor.Options, asJSON bool) int {
	results := doctor.Run(ctx, o)
	if asJSON {
		if err := doctor.PrintJSON(os.Stdout, results); err != nil {
			return failed(err)
		}
	} else {
		doctor.Print(os.Stdout, results)
	}
	switch doctor.Worst(results) {
	case doctor.Failed:
		return exitSick
	case doctor.Warning:
		return exitWarnings
	}
	return exitOK
}
