package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func nodeOptions(cfg *slurmconf.Config, kubeconfig string, dryRun bool, log *logrus.Entry) (reconcile.NodeOptions, error) {
	client, err := clientOf(cfg, kubeconfig, log)
	if err != nil {
		return reconcile.NodeOptions{}, err
	}
	return reconcile.NodeOptions{
		Bridge: node.New(client, &cfg.Nodes, cfg.Cluster, log),
		Slurm:  slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf},
		DryRun: dryRun,
		Log:    log,
	}, nil
}

// reconcileAllNodes gives back what jobs hold on any node, if the controller's
// credential may see nodes; where it may not, each node does it for itself.
func reconcileAllNodes(ctx context.Context, cfg *slurmconf.Config, dryRun bool, log *logrus.Entry) ([]reconcile.Result, error) {
	o, err := nodeOptions(cfg, cfg.Kubernetes.Kubeconfig, dryRun, log)
	if err != nil {
		return nil, err
	}
	results, err := reconcile.Nodes(ctx, o)
	if kube.Is(err, kube.Denied) && results == nil {
		log.Infof("nodes are left to their own reconcile: %v", err)
		return nil, nil
	}
	return results, err
}

// reconcileThisNode gives back this node.
func reconcileThisNode(ctx context.Context, cfg *slurmconf.Config, name string, dryRun bool, log *logrus.Entry) ([]reconcile.Result, error) {
	o, err := nodeOptions(cfg, cfg.Nodes.Kubeconfig, dryRun, log)
	if err != nil {
		return nil, err
	}
	return reconcile.Here(ctx, o, node.LocalIn(cfg.Services.RunDir), cfg.Services.RunDir, name)
}
