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

const help = `slurmk8s lets a Slurm cluster and a Kubernetes cluster share storage workflows,
services and nodes from inside Slurm's hooks.

Usage:
  slurmk8s hook [-0] NAME [KEY=VALUE ...]   run a hook as Slurm does (slurmk8s hook --help)
  slurmk8s reconcile [--dry-run]            end what jobs that are over left in Kubernetes
  slurmk8s prolog-slurmctld|epilog-slurmctld  nodes, for PrologSlurmctld and EpilogSlurmctld
  slurmk8s cancel-job [--after-pid PID] ID  cancel a job, of an array that one task
  slurmk8s register|deregister [SPEC]       a service of this host, outside Slurm
  slurmk8s status [JOBID]                   what is held in Kubernetes, for whom
  slurmk8s cleanup JOBID                    remove what a job that is over left, now
  slurmk8s doctor                           check this host and say what to do
  slurmk8s setup --kubeconfig FILE          rights, credentials and namespaces in Kubernetes
  slurmk8s step                             what the SPANK plugin starts for a step
  slurmk8s --version
  slurmk8s --help

reconcile and cancel-job take --config FILE, hook takes CONFIG=FILE; by default
it is /etc/slurm/slurmk8s.toml.
`

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
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, help)
		return exitUsage
	}
	switch args[0] {
	case "--help", "-h", "help":
		fmt.Print(help)
		return exitOK
	case "--version", "version":
		fmt.Println("slurmk8s", version.Version)
		return exitOK
	case "hook":
		return runHook(ctx, args[1:])
	case "reconcile":
		return runReconcile(ctx, args[1:])
	case "cancel-job":
		return runCancel(ctx, args[1:])
	case "status":
		return runStatus(ctx, args[1:])
	case "cleanup":
		return runCleanup(ctx, args[1:])
	case "doctor":
		return runDoctor(ctx, args[1:])
	case "setup":
		return runSetup(ctx, args[1:])
	case "step":
		return runStep(args[1:])
	case "register", "deregister":
		return runRegister(ctx, args[0], args[1:])
	case "prolog-slurmctld", "epilog-slurmctld":
		return runSlurmctld(ctx, args[0], args[1:])
	case "await-file":
		return runAwaitFile(ctx, args[1:])
	}
	return usage("slurmk8s has no command %q: see slurmk8s --help", args[0])
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
