package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/setup"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

type setupFlags struct {
	config, kubeconfig, open, output, nodes, credential, addresses, server  string
	dryRun, remote, renew, overwrite, takeNodes, writeSlurmConf, printNodes bool
	days                                                                    int
}

func setupCommand() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use: "setup --kubeconfig ADMIN.CONF", Short: "set up rights, credentials and namespaces in Kubernetes",
		Long: `Sets up what slurmk8s needs in Kubernetes and on this host: roles with minimal rights and
their bindings, namespaces that are open to services, the addresses that each node may
publish, and credentials that expire. Run it as root on slurmctld's host. It prints each
change, and at the end what is left to do. A second run changes only what is not yet as
it should be.

Exit status: 0 done, 1 failed; run it again to continue.`,
		Example: `  slurmk8s setup --kubeconfig ADMIN.CONF --open physics --output DIR
  slurmk8s setup --dry-run
  slurmk8s setup --renew
  slurmk8s setup --print-nodes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if problem := f.check(); problem != "" {
				return errors.New("setup: " + problem)
			}
			if err := f.run(cmd.Context()); err != nil {
				return end(failed(err))
			}
			return nil
		},
	}
	set := cmd.Flags()
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` with an administrator's access to Kubernetes; $KUBECONFIG is not read")
	set.BoolVar(&f.dryRun, "dry-run", false, "print the manifests and change nothing; with --kubeconfig, also print on standard error what would change")
	set.StringVar(&f.open, "open", "", "open namespaces `NS,...` to services, in addition to those of [[services.allow]] in slurmk8s.toml")
	set.StringVar(&f.output, "output", "", "write the credentials of nodes to `DIR`/nodes/NODE/")
	set.StringVar(&f.nodes, "nodes", "", "write credentials only for nodes `HOSTLIST` (default: all nodes of slurm.conf)")
	set.StringVar(&f.credential, "node-credential", "", "`KIND` of the nodes' credentials: certificate, for user slurmk8s:node:NODE, or token, bound to the Kubernetes node of the same name (default: that of the files in DIR, or certificate)")
	set.StringVar(&f.addresses, "node-addresses", "", "`FILE` with lines \"NODE ADDRESS,...\", used instead of NodeAddr of slurm.conf; an address may be a subnet. Later runs keep them until another file is given")
	set.BoolVar(&f.takeNodes, "take-nodes", false, "let the controller reclaim nodes from Kubernetes (slurmk8s prolog-slurmctld), for sites without credentials on nodes")
	set.BoolVar(&f.remote, "remote", false, "this host is not the controller: write the controller's credential to DIR/controller/")
	set.StringVar(&f.server, "server", "", "`URL` by which Slurm's hosts reach the API server (default: that of the present credential, or of the administrator's kubeconfig)")
	set.IntVar(&f.days, "days", 90, "make credentials valid for `N` days, 1 to 3650; the API server may allow less")
	set.BoolVar(&f.renew, "renew", false, "only renew credentials with less than a third of their lifetime left; without --kubeconfig, only the controller's token, as reconcile does")
	set.BoolVar(&f.overwrite, "overwrite", false, "overwrite what somebody else changed in objects of slurmk8s")
	set.BoolVar(&f.writeSlurmConf, "write-slurm-conf", false, "append the missing lines to slurm.conf, burst_buffer.conf and plugstack.conf; existing lines are never changed")
	set.BoolVar(&f.printNodes, "print-nodes", false, "only print the features that slurm.conf needs where DWS's storage has servers of its own (workflows.rabbit_feature), with the controller's credential")
	withConfig(cmd, &f.config)
	return cmd
}

// check is what is wrong with the flags together.
func (f *setupFlags) check() string {
	server, err := url.Parse(f.server)
	switch {
	case f.printNodes:
		return ""
	case f.kubeconfig == "" && !f.dryRun && !f.renew:
		return "--kubeconfig FILE is required: an administrator's kubeconfig"
	case f.credential != "" && f.credential != setup.Certificate && f.credential != setup.Token:
		return "--node-credential must be certificate or token"
	case f.days < 1 || f.days > 3650:
		return "--days must be a number from 1 to 3650"
	case f.remote && f.output == "":
		return "--remote needs --output DIR"
	case f.server != "" && (err != nil || server.Scheme != "https" || server.Host == ""):
		return fmt.Sprintf("--server %q is not a URL such as https://host:6443", f.server)
	case f.dryRun && f.renew:
		return "--renew cannot be combined with --dry-run"
	}
	return ""
}

func (f *setupFlags) run(ctx context.Context) error {
	cfg, logger, sink, err := withLog(f.config)
	if err != nil {
		return err
	}
	defer sink.Close()
	log := logger.WithField("hook", "setup")
	if f.printNodes {
		return printNodes(ctx, cfg)
	}
	if f.renew && f.kubeconfig == "" {
		return renewOwn(ctx, cfg, log)
	}
	o := setup.Options{
		Config: cfg, Server: f.server, Lifetime: time.Duration(f.days) * 24 * time.Hour, Overwrite: f.overwrite, TakeNodes: f.takeNodes,
		Output: f.output, Remote: f.remote, NodeCredential: f.credential,
		Plugin: pluginPath(), WriteSlurmConf: f.writeSlurmConf, Out: os.Stdout,
	}
	for _, namespace := range strings.Split(f.open, ",") {
		if namespace = strings.TrimSpace(namespace); namespace != "" {
			o.Open = append(o.Open, namespace)
		}
	}
	if f.nodes != "" {
		if o.Nodes, err = slurmconf.ExpandHostlist(f.nodes); err != nil {
			return err
		}
	}
	if f.addresses != "" {
		if o.NodeAddresses, err = setup.ReadNodeAddresses(f.addresses); err != nil {
			return err
		}
	}
	if f.kubeconfig != "" {
		if o.Admin, err = setup.NewAdministrator(kube.Options{
			Kubeconfig:     f.kubeconfig,
			RequestTimeout: cfg.Kubernetes.RequestTimeout.Std(),
			UserAgent:      fmt.Sprintf("slurmk8s/%s (cluster %s; setup)", version.Version, cfg.Cluster),
			Hasty:          true,
			Log:            log,
		}); err != nil {
			return err
		}
	}
	switch {
	case f.dryRun:
		o.Out = os.Stderr
		return setup.DryRun(ctx, o, os.Stdout)
	case f.renew:
		return setup.Renew(ctx, o)
	}
	return setup.Run(ctx, o)
}

// printNodes writes the features of nodes for slurm.conf.
func printNodes(ctx context.Context, cfg *slurmconf.Config) error {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	client, err := operatorClient(ctx, cfg, "setup", quiet())
	if err != nil {
		return err
	}
	survey, err := workflow.TakeSurvey(ctx, cfg, client, quiet())
	if err != nil {
		return err
	}
	if survey == nil {
		return errors.New("DWS's storage has no servers of its own: SystemConfiguration default/default names no nodes")
	}
	survey.PrintNodes(os.Stdout, cfg.Workflows.RabbitFeature, cfg.Workflows.NodeFeature)
	return nil
}

func renewOwn(ctx context.Context, cfg *slurmconf.Config, log *logrus.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var failed []error
	for _, own := range setup.Owns(cfg) {
		until, renewed, err := renew(ctx, cfg, own, "setup", log)
		switch {
		case err != nil:
			failed = append(failed, err)
		case renewed:
			fmt.Printf("setup: %s was renewed and is valid until %s\n", own.What, until.Format(time.RFC3339))
		case until.IsZero():
			fmt.Printf("setup: nothing to renew: the expiry of %s is unknown\n", own.Kubeconfig)
		default:
			fmt.Printf("setup: nothing to renew: %s is valid until %s\n", own.Kubeconfig, until.Format(time.RFC3339))
		}
	}
	return errors.Join(failed...)
}

func renew(ctx context.Context, cfg *slurmconf.Config, own setup.Own, command string, log *logrus.Entry) (until time.Time, renewed bool, err error) {
	trusted := slurmUser(ctx, cfg)
	client, err := kube.For(cfg, own.Kubeconfig, command, log, kube.Trusting(trusted...), kube.Hasty)
	if err != nil {
		return time.Time{}, false, err
	}
	return own.Renew(ctx, client, time.Now(), trusted...)
}

// renewInPassing is what reconcile does for the tokens of slurmctld's host. That it fails is
// told in the log while the old token still works; afterwards everything says so.
func renewInPassing(ctx context.Context, cfg *slurmconf.Config, log *logrus.Entry) {
	if _, err := operatorClient(ctx, cfg, "reconcile", log); err != nil {
		return // a node, or reconcile itself says it
	}
	for _, own := range setup.Owns(cfg) {
		until, renewed, err := renew(ctx, cfg, own, "reconcile", log)
		if err != nil {
			log.Warn(err)
		} else if renewed {
			log.Infof("%s was renewed and is valid until %s", own.What, until.Format(time.RFC3339))
		}
	}
}

// pluginPath is where the SPANK plugin is installed: beside this program's library, which is in
// lib/ below a prefix of its own and in lib/slurmk8s/ of packages.
func pluginPath() string {
	const unknown = "/usr/lib/slurmk8s"
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return filepath.Join(unknown, setup.PluginFile)
	}
	lib := filepath.Join(filepath.Dir(filepath.Dir(program)), "lib")
	if _, err := os.Stat(filepath.Join(lib, "slurmk8s")); err == nil {
		lib = filepath.Join(lib, "slurmk8s")
	}
	return filepath.Join(lib, setup.PluginFile)
}

// quiet is for commands whose answer is all that a person wants to read.
func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}
