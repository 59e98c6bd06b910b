package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/policy"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// role is what there is to reconcile on this host, as it is configured.
type role struct {
	controller   bool // all nodes, with the controller's credential
	nodeServices bool // what this node's epilogs could not do
	thisNode     bool
}

func roleOf(cfg *slurmconf.Config) role {
	there := func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist)
	}
	// On a host that is controller and node, what is root's is left to root's reconcile.
	ours := func(path string) bool {
		return there(path) && !(there(cfg.Kubernetes.Kubeconfig) && errors.Is(unix.Access(path, unix.R_OK), unix.EACCES))
	}
	r := role{
		nodeServices: len(cfg.Services.Allow) > 0 && ours(cfg.Services.Kubeconfig),
		thisNode:     cfg.Nodes.Reclaims() && ours(cfg.Nodes.Kubeconfig),
	}
	// Without any credential, the error about the controller's is the one to tell.
	r.controller = there(cfg.Kubernetes.Kubeconfig) || !r.nodeServices && !r.thisNode
	return r
}

// controllerDuties are all that the controller's credential is for.
func controllerDuties(cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) []reconcile.Duty {
	services, nodes := len(cfg.Services.Allow) > 0, cfg.Nodes.Reclaims()
	duties := []reconcile.Duty{reconcile.Workflows{
		Slurm: slurmCommands(cfg),
		Local: workflow.Files(cfg.StateDir),
		Open: func(ctx context.Context) (*workflow.Driver, error) {
			driver, err := workflow.New(ctx, cfg, client, log)
			if errors.Is(err, workflow.ErrNoDWS) && (services || nodes) {
				return nil, nil // a site may have other duties only
			}
			return driver, err
		},
	}}
	if services {
		namespaces := policy.Literal(&cfg.Services)
		if policy.Patterns(&cfg.Services) {
			namespaces = []string{""} // the rules do not name all
		}
		duties = append(duties, reconcile.Services{Sweeper: sweeper(cfg, client, log), Namespaces: namespaces})
	}
	if nodes {
		duties = append(duties, reconcile.Nodes{Bridge: node.New(client, &cfg.Nodes, cfg.Cluster, log)})
	}
	return duties
}

// dutiesHere are those of this host in its role. An error concerns the duties of one
// credential.
func dutiesHere(cfg *slurmconf.Config, r role, nodeName string, log *logrus.Entry) (duties []reconcile.Duty, failed []error) {
	with := func(kubeconfig string, add func(*kube.Client)) {
		client, err := clientOf(cfg, kubeconfig, log)
		if err != nil {
			failed = append(failed, err)
			return
		}
		add(client)
	}
	if r.controller {
		with(cfg.Kubernetes.Kubeconfig, func(client *kube.Client) { duties = append(duties, controllerDuties(cfg, client, log)...) })
	}
	if r.nodeServices {
		with(cfg.Services.Kubeconfig, func(client *kube.Client) {
			duties = append(duties, reconcile.NodeServices{Sweeper: sweeper(cfg, client, log), Namespaces: policy.Literal(&cfg.Services),
				Records: service.Records(cfg.Services.RunDir), Node: nodeName})
		})
	}
	if r.thisNode {
		with(cfg.Nodes.Kubeconfig, func(client *kube.Client) {
			duties = append(duties, reconcile.ThisNode{Bridge: node.New(client, &cfg.Nodes, cfg.Cluster, log),
				RunDir: cfg.Services.RunDir, Node: nodeName, Log: log})
		})
	}
	return duties, failed
}

func sweeper(cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) *service.Sweeper {
	return &service.Sweeper{Kube: client, Cluster: cfg.Cluster, Log: log}
}

func slurmCommands(cfg *slurmconf.Config) slurm.Commands {
	return slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}
}

func guard(cfg *slurmconf.Config) reconcile.Guard {
	return reconcile.Guard{Slurm: slurmCommands(cfg), MinAge: cfg.Reconcile.MinAge.Std()}
}

// clientOf reaches Kubernetes by one of the credentials of this host.
func clientOf(cfg *slurmconf.Config, kubeconfig string, log *logrus.Entry) (*kube.Client, error) {
	return kube.For(cfg, kubeconfig, "reconcile", log, kube.Trusting(slurmUser(cfg)...))
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

// slurmUser lets root, at a prompt, use the credential that belongs to SlurmUser.
func slurmUser(cfg *slurmconf.Config) []uint32 {
	if os.Geteuid() != 0 {
		return nil
	}
	conf, err := slurmconf.ReadSlurmConf(cfg.SlurmConf)
	if err != nil {
		return nil
	}
	account, err := user.Lookup(conf.SlurmUser)
	if err != nil {
		return nil
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil
	}
	return []uint32{uint32(uid)}
}
