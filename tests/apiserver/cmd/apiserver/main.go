// apiserver runs the api tier's Kubernetes API for somebody at a prompt, or around a command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

const usage = `usage: apiserver [--dwssim [--versions V,...]] [COMMAND [ARGUMENT...]]

Runs a real etcd and kube-apiserver on loopback. Prints the path of an administrator's
kubeconfig on standard output and works until ctrl-C; or runs COMMAND with KUBECONFIG set to
it, and ends with its exit status. All is gone afterwards.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:])
	var commandFailed *exec.ExitError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &commandFailed) && commandFailed.Exited():
		os.Exit(commandFailed.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "apiserver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("apiserver", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage, "\n")
		flags.PrintDefaults()
	}
	version := flags.String("kubernetes-version", "", "`version` that tests/kubernetes/build.sh has built (default: $KUBERNETES_VERSION, or "+apiserver.DefaultKubernetesVersion+")")
	withDWS := flags.Bool("dwssim", false, "serve DataWorkflowServices too")
	dwsVersions := flags.String("versions", strings.Join(dwssim.DefaultVersions, ","), "API `versions` of DataWorkflowServices; the last is stored")
	keep := flags.Bool("keep", false, "leave the folder with the logs behind")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := apiserver.Start(ctx, apiserver.Options{KubernetesVersion: *version, KeepDir: *keep, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer server.Close()
	if *withDWS {
		sim, err := dwssim.Start(ctx, server.Config(), dwssim.Options{Versions: strings.Split(*dwsVersions, ","), Log: os.Stderr})
		if err != nil {
			return err
		}
		defer sim.Stop()
	}
	if flags.NArg() == 0 {
		fmt.Println(server.Kubeconfig())
		<-ctx.Done()
		return nil
	}
	command := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	command.Env = append(os.Environ(), "KUBECONFIG="+server.Kubeconfig())
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	return nil
}
