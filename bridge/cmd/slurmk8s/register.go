package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/baremetal"
	"slurmk8s.io/slurmk8s/bridge/probe"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

const registerHelp = `Usage: slurmk8s %s [options] [SPEC]

Registers services of this host in Kubernetes, outside Slurm, or takes them away.
SPEC is what --k8s-register takes (jupyter:8888); without it these variables count:

  EXTERNAL_SERVICE_NAME, _PORT (5555), _TARGET_PORT (5555)   the service
  METRICS_SERVICE_NAME, _PORT (5556), _TARGET_PORT (5556)    that of its metrics
  NAMESPACE (default)

and the service is ready at once. Kubernetes is reached by

  K8S_HOST                          https://HOST:6443
  CACERT_FILE                       its authority; its certificate is always verified
  KEY_FILE, CERT_FILE, KEY_PASSWD   a client certificate, or
  SSL_TOKEN                         a token

or, where K8S_HOST is not set, by --kubeconfig FILE.

  --address ADDRESS   of this host, by which pods reach it (default: found out)
  --namespace NS      counts more than NAMESPACE
  --timeout 10s       how long it may take

Exit status: 0 done, 7 Kubernetes is not reached, 22 it refuses (the line begins
with the HTTP status: 401 who are you, 403 not allowed, 404 no such namespace,
409 somebody else's name, 422 not valid), 36 a key or certificate is not usable,
1 anything else.
`

// runRegister is the command register, or deregister.
func runRegister(ctx context.Context, command string, args []string) int {
	set := flag.NewFlagSet(command, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	kubeconfig := set.String("kubeconfig", "", "")
	address := set.String("address", "", "")
	namespace := set.String("namespace", "", "")
	timeout := set.Duration("timeout", 10*time.Second, "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Printf(registerHelp, command)
		return exitOK
	case err != nil:
		return usage("%s: %v", command, err)
	case set.NArg() > 1:
		return usage("%s takes one SPEC, not also %q", command, set.Arg(1))
	}
	spec := "env,ready=none"
	if set.NArg() == 1 {
		spec = set.Arg(0)
	}
	specs, err := bareSpecs(spec, *namespace)
	if err != nil {
		return failed(err)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	limit, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	r, err := baremetal.Registrar(limit, baremetal.Options{
		Kubeconfig: *kubeconfig, Address: *address, Env: os.Getenv, Timeout: min(5*time.Second, *timeout), Log: logrus.NewEntry(logger),
	})
	if err != nil {
		return bareFailure(command, err)
	}
	if command == "deregister" {
		regs, err := r.Adopt(limit, specs)
		if err == nil {
			err = r.Deregister(limit, regs)
		}
		return bareFailure(command, err)
	}
	regs, err := r.Register(limit, specs)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), *timeout)
		defer cancel()
		_ = r.Deregister(undo, regs) // what was made so far; the first error is the one to tell
		return bareFailure(command, err)
	}
	for _, reg := range regs {
		if err := bareReady(ctx, r, reg); err != nil {
			return bareFailure(command, err)
		}
		fmt.Printf("%s:%d is %s:%d\n", reg.Host(), reg.Ports[0].Port, r.Address, reg.Ports[0].Target)
	}
	return exitOK
}

func bareSpecs(text, namespace string) ([]service.Spec, error) {
	env := map[string]string{}
	for _, name := range service.Variables {
		env[name] = os.Getenv(name)
	}
	if namespace != "" {
		env["NAMESPACE"] = namespace
	}
	specs, err := service.Parse(text, env)
	for i := range specs {
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

// bareReady waits until the service answers, as its specification says, and opens
// it. One that does not answer in time stays registered, and closed.
func bareReady(ctx context.Context, r *service.Registrar, reg *service.Registration) error {
	limit, cancel := context.WithCancel(ctx)
	defer cancel()
	prober := &probe.Prober{Address: r.Address, Timeout: time.Minute, File: probe.AwaitFile, Log: r.Log}
	var late probe.Answer
	if prober.Await(limit, reg.Spec, func(a probe.Answer) { late = a; cancel() }) {
		return r.Ready(ctx, reg)
	}
	if late.Late == nil {
		return fmt.Errorf("%s is registered but not ready: %w", reg.Object(), ctx.Err())
	}
	return fmt.Errorf("%s is registered but not ready after %s: %w", reg.Object(), late.After, late.Late)
}

func bareFailure(command string, err error) int {
	if err == nil {
		return exitOK
	}
	code, text := baremetal.Code(err)
	fmt.Fprintf(os.Stderr, "slurmk8s %s: %s\n", command, wire.Line(text))
	return code
}
