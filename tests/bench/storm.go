package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// prologsAtOnce is how many prologs run at the same time on this machine. On a real cluster
// each has a machine of its own, and Slurm's fan-out starts them one after another.
const prologsAtOnce = 50

// storms measures the prologs of one job on many nodes: processes of the real program, each
// with its kubelet's credential, and what another client of the API server notices.
func storms(ctx context.Context, b *bench) error {
	p, err := newPool(ctx, b)
	if err != nil {
		return err
	}
	nodes := b.samples.stormNodes
	names, err := p.make(ctx, nodes, 1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.configureProlog(name); err != nil {
			return err
		}
	}
	quiet, err := p.gets(ctx, func() error { return kube.Sleep(ctx, quietTime) })
	if err != nil {
		return err
	}
	before, err := p.answered(ctx)
	if err != nil {
		return err
	}
	b.lastJob++
	var mutex sync.Mutex
	var took []float64
	busy, err := p.gets(ctx, func() error {
		return eachAtOnce(names, prologsAtOnce, func(name string) error {
			ms, err := p.prolog(ctx, name)
			mutex.Lock()
			defer mutex.Unlock()
			took = append(took, ms)
			return err
		})
	})
	if err != nil {
		return err
	}
	after, err := p.answered(ctx)
	if err != nil {
		return err
	}
	kubelets := float64(nodes) // each pod's end is one request of theirs
	name := fmt.Sprintf("storm_%d_nodes", nodes)
	b.report.add(name+"_prolog_p99_ms", "ms", percentile(took, 99), took)
	b.report.single(name+"_requests_per_node", "requests", (after.nodes-before.nodes-kubelets)/float64(nodes)).within(8)
	b.report.single(name+"_refused", "requests", after.refused-before.refused).within(0)
	b.report.add(name+"_other_client_p99_ms", "ms", percentile(busy, 99), busy).beside(percentile(quiet, 99)).within(2 * percentile(quiet, 99))
	b.report.note("storm_*: %d processes at once, each evicts a pod that takes %v to end; other_client is a GET of a namespace on a connection of its own "+
		"during that, and in a quiet time (reference). The prologs run at a lower priority, since on a cluster each has its own machine", prologsAtOnce, podEnd)
	return p.remove(ctx, names)
}

// quietTime is how long the other client is measured without prologs.
const quietTime = 5 * time.Second

// configureProlog makes a node's slurmk8s.toml, with the kubelet's credential.
func (p *pool) configureProlog(name string) error {
	kubeconfig, err := p.server.UserKubeconfig("system:node:"+name, "system:nodes")
	if err != nil {
		return err
	}
	dir := p.path("run." + name)
	return os.WriteFile(dir+"/slurmk8s.toml", fmt.Appendf(nil,
		"slurm_conf = %q\nslurm_bin_dir = %q\nstate_dir = %q\n[log]\nfile = %q\n[services]\nrun_dir = %q\n[nodes]\nreclaim = \"all\"\nkubeconfig = %q\n",
		p.path("slurm.conf"), dir, dir, dir+"/log", dir, kubeconfig), 0o600)
}

// prolog runs the prolog of a node and returns how long it took, in ms.
func (p *pool) prolog(ctx context.Context, name string) (float64, error) {
	command := exec.CommandContext(ctx, "nice", "-n", "10", p.path("slurmk8s"), "hook", "k8s_job_prolog",
		"CONFIG="+p.path("run."+name)+"/slurmk8s.toml", fmt.Sprintf("JOB_ID=%d", p.lastJob),
		"UID=1000", "GID=1000", "NODE="+name, "NODELIST="+name, "RESTART_COUNT=0", "PARTITION=hpc")
	command.Env = []string{"PATH=/usr/bin:/bin"}
	begin := monotonic()
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("prolog of %s: %w: %s", name, err, out)
	}
	return milliseconds(monotonic() - begin), err
}

// gets measures GETs of another client, in ms, while work is done.
func (p *pool) gets(ctx context.Context, work func() error) (samples []float64, err error) {
	done := make(chan error, 1)
	go func() { done <- work() }()
	for {
		begin := monotonic()
		if _, err := p.client.Resource(namespaces).Get(ctx, namespace, metav1.GetOptions{}); err != nil {
			return nil, errors.Join(err, <-done)
		}
		samples = append(samples, milliseconds(monotonic()-begin))
		select {
		case err := <-done:
			return samples, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers is what the API server has answered so far.
type answers struct {
	nodes   float64 // about nodes, pods and events
	refused float64 // 429: too many requests
}

func (p *pool) answered(ctx context.Context) (a answers, err error) {
	err = p.eachAnswer(ctx, func(labels string, n float64) {
		if aboutNodes(labels) {
			a.nodes += n
		}
		if strings.Contains(labels, `code="429"`) {
			a.refused += n
		}
	})
	return a, err
}
