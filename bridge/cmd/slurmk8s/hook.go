package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

func hookCommand() *cobra.Command {
	var zero bool
	cmd := &cobra.Command{
		Use: "hook [-0] NAME [KEY=VALUE ...]", DisableFlagsInUseLine: true,
		Short: "run a hook as Slurm does",
		Long: `Runs a hook as Slurm does and prints its reply, one KEY=VALUE per line.

Exit status: 0 done, 1 in progress (call again), 2 the user's mistake, 3 failed.

Hooks:

    ` + strings.Join(hook.Names(), "\n    "),
		Example: `  # what DWS says about the #DW lines of a script
  slurmk8s hook slurm_bb_job_process SCRIPT=job.sh JOB_ID=1 UID=1000 GID=1000`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return hook.Names(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVarP(&zero, "zero", "0", false, "for programs: read the fields from standard input and print the reply, each terminated by a NUL byte")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			writeHelp(os.Stderr, cmd)
			return exit(exitUsage)
		}
		return end(runHook(cmd.Context(), zero, args))
	}
	return cmd
}

// maxRequestBytes bounds what a hook is given: paths, names and numbers.
const maxRequestBytes = 1 << 20

func runHook(ctx context.Context, zero bool, args []string) int {
	name, fields := args[0], args[1:]
	if zero {
		input, err := io.ReadAll(io.LimitReader(os.Stdin, maxRequestBytes+1))
		if err != nil {
			return failed(err)
		}
		if len(input) > maxRequestBytes {
			return failed(fmt.Errorf("the request is larger than %d KiB", maxRequestBytes>>10))
		}
		for field := range strings.SplitSeq(string(input), "\x00") {
			if field != "" {
				fields = append(fields, field)
			}
		}
	}
	request, err := wire.ParseFields(fields)
	if err != nil {
		return usage("%v: see slurmk8s hook --help", err)
	}
	code, reply := hook.Run(ctx, name, request)
	end := "\n"
	if zero {
		end = "\x00"
	}
	for _, key := range slices.Sorted(maps.Keys(reply)) {
		fmt.Print(key, "=", reply[key], end)
	}
	return int(code)
}
