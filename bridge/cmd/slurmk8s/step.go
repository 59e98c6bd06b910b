package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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
	o := step.Options{Program: program, Stepd: peer(os.Stdin), Hardened: hardened}
	if !step.Run(context.Background(), os.Stdin, os.Stdout, o) {
		return exitFailed
	}
	return exitOK
}

// peer is the process that made a socket pair; 0: the file is no socket.
func peer(file *os.File) int {
	made, err := unix.GetsockoptUcred(int(file.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(made.Pid)
}

// runAwaitFile is what the step program runs as the user: ready=file:PATH.
func runAwaitFile(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return usage("await-file takes a path and the numbers of tasks")
	}
	if err := probe.AwaitFile(ctx, args[0], args[1:]...); err != nil {
		return failed(err)
	}
	return exitOK
}

// readPortPatience is less than the step program's, which wants to hear why there is no port.
const readPortPatience = 8 * time.Second

// runReadPort is what the step program runs as the user: port=PORT:file:PATH.
func runReadPort(ctx context.Context, args []string) int {
	if len(args) < 2 {
		return usage("read-port takes a path, a port's name and the numbers of tasks")
	}
	ctx, cancel := context.WithTimeout(ctx, readPortPatience)
	defer cancel()
	port, err := probe.ReadPort(ctx, args[0], args[1], args[2:]...)
	if err != nil {
		fmt.Println(err) // the caller's to tell
		return exitFailed
	}
	fmt.Println(port)
	return exitOK
}

// runTellTasks is what the step program runs as the user to write into the job's output.
func runTellTasks(args []string) int {
	if len(args) < 2 {
		return usage("tell-tasks takes a line and the numbers of tasks")
	}
	if err := probe.TellTasks(args[0], args[1:]); err != nil {
		return failed(err)
	}
	return exitOK
}
