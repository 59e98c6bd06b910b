package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/step"
)

func stepCommand() *cobra.Command {
	return &cobra.Command{
		Use: "step", Short: "serve a step (started by the SPANK plugin)",
		Long: `The step program. The SPANK plugin starts it for a step with --k8s-register or
--k8s-import and talks to it on standard input and output. Do not run it yourself.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return end(runStep()) },
	}
}

// runStep serves one step of a job. Signals do not end it: it goes by its input.
func runStep() int {
	program, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	// What could not be hardened is no reason to fail the job.
	hardened := step.Harden()
	if !step.Run(context.Background(), os.Stdin, os.Stdout, step.Options{Program: program, Hardened: hardened}) {
		return exitFailed
	}
	return exitOK
}

// runAwaitFile is what the step program runs as the user: ready=file:PATH.
func runAwaitFile(ctx context.Context, args []string) int {
	if len(args) != 1 {
		return usage("await-file takes one path")
	}
	if err := probe.AwaitFile(ctx, args[0]); err != nil {
		return failed(err)
	}
	return exitOK
}
