package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/outside"
	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

const registerAbout = `SPEC is what --k8s-register takes (jupyter:8888). Without it these variables count,
and the service is ready at once:

    EXTERNAL_SERVICE_NAME, _PORT (5555), _TARGET_PORT (5555)   the service
    METRICS_SERVICE_NAME, _PORT (5556), _TARGET_PORT (5556)    that of its metrics
    NAMESPACE (default)

These variables say how to reach Kubernetes; if K8S_HOST is not set, --kubeconfig does:

    K8S_HOST                          https://HOST:6443
    CACERT_FILE                       its certificate authority; always verified
    KEY_FILE, CERT_FILE, KEY_PASSWD   a client certificate, or
    SSL_TOKEN                         a token

Exit status: 0 done, 7 Kubernetes cannot be reached, 22 it refuses (the line begins
with the HTTP status: 401 unauthenticated, 403 forbidden, 404 no such namespace,
409 the name is in use, 422 invalid), 36 a key or certificate cannot be used,
1 anything else.`

func registerCommand() *cobra.Command {
	return outsideCommand("register", "register services of this host, outside Slurm",
		"Registers services of this host in Kubernetes, outside Slurm.\n\n"+registerAbout)
}

func deregisterCommand() *cobra.Command {
	return outsideCommand("deregister", "remove services of this host, outside Slurm",
		"Removes services of this host from Kubernetes, outside Slurm.\n\n"+registerAbout)
}

// registration is what register and deregister are told.
type registration struct {
	command, kubeconfig, address, namespace string
	timeout                                 time.Duration
}

func outsideCommand(name, short, long string) *cobra.Command {
	o := registration{command: name}
	cmd := &cobra.Command{
		Use: name + " [SPEC]", Short: short, Long: long,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s takes one SPEC, not also %q", name, args[1])
			}
			return end(o.run(cmd.Context(), args))
		},
	}
	cmd.Flags().StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `FILE`, used if K8S_HOST is not set")
	cmd.Flags().StringVar(&o.address, "address", "", "`ADDRESS` by which pods reach this host (default: detected)")
	cmd.Flags().StringVar(&o.namespace, "namespace", "", "namespace `NS`, overrides NAMESPACE")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Second, "give up after `TIME`")
	return cmd
}

func (o *registration) run(ctx context.Context, args []string) int {
	spec := "env,ready=none"
	if len(args) == 1 {
		spec = args[0]
	}
	specs, err := outsideSpecs(spec, o.namespace)
	if err != nil {
		return failed(err)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	limit, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	r, err := outside.Registrar(limit, outside.Options{
		Kubeconfig: o.kubeconfig, Address: o.address, Env: os.Getenv, Timeout: min(5*time.Second, o.timeout), Log: logrus.NewEntry(logger),
	})
	if err != nil {
		return outsideFailure(o.command, err)
	}
	if o.command == "deregister" {
		regs, err := r.Adopt(limit, specs)
		if err == nil {
			err = r.Deregister(limit, regs)
		}
		return outsideFailure(o.command, err)
	}
	regs, err := r.Register(limit, specs)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timeout)
		defer cancel()
		_ = r.Deregister(undo, regs) // what was made so far; the first error is the one to tell
		return outsideFailure(o.command, err)
	}
	for _, reg := range regs {
		if err := outsideReady(ctx, r, reg); err != nil {
			return outsideFailure(o.command, err)
		}
		fmt.Printf("%s:%d is %s:%d\n", reg.Host(), reg.Ports[0].Port, r.Address, reg.Ports[0].Target)
	}
	return exitOK
}

func outsideSpecs(text, namespace string) ([]service.Spec, error) {
	env := map[string]string{}
	for _, name := range service.Variables {
		env[name] = os.Getenv(name)
	}
	if namespace != "" {
		env["NAMESPACE"] = namespace
	}
	specs, err := service.Parse(text, env)
	for i := range specs {
		for _, p := range specs[i].Ports {
			if p.Auto || p.File != "" {
				return nil, fmt.Errorf("service %s: auto and file are for jobs: give the port of this host", specs[i].Name)
			}
		}
		if specs[i].Namespace == "" {
			specs[i].Namespace = env["NAMESPACE"]
		}
		if specs[i].Namespace == "" {
			specs[i].Namespace = "default"
		}
		if err := service.CheckNamespace(specs[i].Namespace); err != nil {
			return nil, err
		}
	}
	return specs, err
}

// outsideReady waits until the service answers, as its specification says, and opens
// it. One that does not answer in time stays registered, and closed.
func outsideReady(ctx context.Context, r *service.Registrar, reg *service.Registration) error {
	limit, cancel := context.WithCancel(ctx)
	defer cancel()
	file := func(ctx context.Context, path string) error { return probe.AwaitFile(ctx, path) }
	prober := &probe.Prober{Address: r.Address, UID: r.Job.UID, Timeout: time.Minute, File: file, Log: r.Log}
	var late probe.Answer
	if prober.Await(limit, reg.Spec, func(a probe.Answer) { late = a; cancel() }) {
		return r.Ready(ctx, reg)
	}
	if late.After == 0 {
		return fmt.Errorf("%s is registered but not ready: %w", reg.Object(), cmp.Or(late.Late, ctx.Err()))
	}
	return fmt.Errorf("%s is registered but not ready after %s: %w", reg.Object(), late.After, late.Late)
}

func outsideFailure(command string, err error) int {
	if err == nil {
		return exitOK
	}
	code, text := outside.Code(err)
	fmt.Fprintf(os.Stderr, "slurmk8s %s: %s\n", command, wire.Line(text))
	return code
}
