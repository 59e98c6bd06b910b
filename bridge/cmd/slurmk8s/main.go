// Command slurmk8s is the bridge as a program: the hooks that Slurm executes,
// and the administrator's commands.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"slurmk8s.io/slurmk8s/bridge/version"
)

// Exit statuses besides a hook's own (goffi/slurmk8s.h).
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 64  // sysexits(3)
	exitInternal = 125 // a panic: a bug of ours
)

func main() {
	// client-go's own words would mix with a hook's reply. SetOutput alone does not
	// do: klog copies errors to standard error.
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string) (status int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "slurmk8s: internal error: %v: please report it\n", p)
			status = exitInternal
		}
	}()
	if command := slurmctldCommand(); len(args) == 0 && command != "" {
		args = []string{command}
	}
	if status, done := direct(ctx, args); done {
		return status
	}
	return execute(ctx, args)
}

// direct runs what Slurm and its steps start again and again, without making the command
// line for people, which would cost each of them its time.
func direct(ctx context.Context, args []string) (status int, done bool) {
	switch {
	case len(args) == 0:
	case args[0] == "hook" && len(args) > 2 && args[1] == "-0":
		return runHook(ctx, true, args[2:]), true
	case args[0] == "hook" && len(args) > 1 && !strings.HasPrefix(args[1], "-"):
		return runHook(ctx, false, args[1:]), true
	case args[0] == "step" && len(args) == 1:
		return runStep(), true
	case args[0] == "await-file":
		return runAwaitFile(ctx, args[1:]), true
	case args[0] == "read-port":
		return runReadPort(ctx, args[1:]), true
	case args[0] == "tell-tasks":
		return runTellTasks(args[1:]), true
	case args[0] == "--version", args[0] == "version":
		fmt.Println("slurmk8s", version.Version)
		return exitOK, true
	}
	return 0, false
}

func usage(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "slurmk8s: "+format+"\n", args...)
	return exitUsage
}

func failed(err error) int {
	// Several errors that were joined are still one line of a log.
	fmt.Fprintln(os.Stderr, "slurmk8s:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return exitFailed
}
