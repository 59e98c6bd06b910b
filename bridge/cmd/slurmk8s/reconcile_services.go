package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/mark"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// duties are what there is to reconcile on this host, as it is configured.
type duties struct {
	workflows bool // and the services of all nodes, where there are rules for any
	services  bool
	node      bool // what this node's epilogs could not do
	allNodes  bool // nodes that jobs hold
	thisNode  bool
}

func dutiesOf(cfg *slurmconf.Config) duties {
	there := func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist)
	}
	// On a host that is controller and node, what is root's is left to root's reconcile.
	ours := func(path string) bool {
		return there(path) && !(there(cfg.Kubernetes.Kubeconfig) && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES))
	}
	d := duties{services: len(cfg.Services.Allow) > 0}
	d.node = d.services && ours(cfg.Services.Kubeconfig)
	// Without any credential, the error about the controller's is the one to tell.
	d.thisNode = cfg.Nodes.Reclaims() && ours(cfg.Nodes.Kubeconfig)
	d.workflows = there(cfg.Kubernetes.Kubeconfig) || !d.node && !d.thisNode
	d.allNodes = cfg.Nodes.Reclaims() && there(cfg.Kubernetes.Kubeconfig)
	return d
}

func serviceOptions(cfg *slurmconf.Config, kubeconfig string, dryRun bool, log *logrus.Entry) (reconcile.ServiceOptions, error) {
	client, err := clientOf(cfg, kubeconfig, log)
	return reconcile.ServiceOptions{
		Sweeper:    &service.Sweeper{Kube: client, Cluster: cfg.Cluster, Log: log},
		Slurm:      slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf},
		Namespaces: policy.Literal(&cfg.Services),
		DryRun:     dryRun,
		Log:        log,
	}, err
}

// reconcileServices removes what jobs of any node left.
func reconcileServices(ctx context.Context, cfg *slurmconf.Config, dryRun bool, log *logrus.Entry) ([]reconcile.Result, error) {
	o, err := serviceOptions(cfg, cfg.Kubernetes.Kubeconfig, dryRun, log)
	if err != nil {
		return nil, err
	}
	if policy.Patterns(&cfg.Services) {
		o.Namespaces = []string{""} // the rules do not name all
	}
	return reconcile.Services(ctx, o)
}

// reconcileNode does what this node's epilogs could not.
func reconcileNode(ctx context.Context, cfg *slurmconf.Config, name string, dryRun bool, log *logrus.Entry) ([]reconcile.Result, error) {
	o, err := serviceOptions(cfg, cfg.Services.Kubeconfig, dryRun, log)
	if err != nil {
		return nil, err
	}
	return reconcile.Marks(ctx, o, mark.Dir(cfg.Services.RunDir), name)
}

// hasWorkflows tells whether Kubernetes has DWS; an error says that it is not known.
func hasWorkflows(ctx context.Context, client *kube.Client) (bool, error) {
	_, err := client.PreferredVersion(ctx, "dataworkflowservices.github.io")
	if kube.Is(err, kube.Unserved) {
		return false, nil
	}
	return err == nil, err
}

// thisNode is the node's name in Slurm's words: slurmd says it to HealthCheckProgram.
func thisNode() string {
	if name := os.Getenv("SLURMD_NODENAME"); name != "" {
		return name
	}
	name, _ := os.Hostname()
	short, _, _ := strings.Cut(name, ".")
	return short
}
