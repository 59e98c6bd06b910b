package node

import (
	"context"
	"errors"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Take makes a node ready for a job, as a prolog does on the node itself. After an error
// the node is still held; GiveBack restores it.
func (b *Driver) Take(ctx context.Context, local ClaimFiles, slurmNode string, h Claim, terms Terms) (Outcome, error) {
	closing, cancel := context.WithTimeout(ctx, b.Cfg.APITimeout.Std())
	defer cancel()
	name, err := b.Name(closing, slurmNode)
	if err != nil || name == "" {
		return Outcome{}, err
	}
	if err := local.Add(FiledClaim{Claim: h, Node: name}); err != nil {
		return Outcome{}, err
	}
	known, err := b.Claim(closing, name, h)
	if kube.Is(err, kube.Denied) { // and will be: nothing was changed, nothing is to be given back
		return Outcome{}, errors.Join(err, local.Remove(h.JobID))
	}
	if err != nil {
		return Outcome{}, err
	}
	if !known {
		b.Log.Infof("Kubernetes has no node %s: nothing to reclaim", name)
		return Outcome{}, local.Remove(h.JobID)
	}
	if h.Mode != Reclaim {
		return Outcome{}, nil
	}
	outcome, err := b.Empty(ctx, name, h, terms, time.Now())
	if err != nil {
		return outcome, err
	}
	return outcome, b.stopUnits(ctx, local)
}

// GiveBack undoes Take for a job, even a Take that failed, as an epilog does. A later run
// of the job keeps the node.
func (b *Driver) GiveBack(ctx context.Context, local ClaimFiles, job, restarts uint32) error {
	held, err := local.Get(job)
	if err != nil || held == nil || held.Restarts > restarts {
		return err
	}
	if own := b.Kube.Kubelet(); own != "" && own != held.Node {
		// Of another node_name: this credential never changed that node, and never will.
		b.Log.Warnf("note of job %d: node %s is not this one, %s: forgotten", job, held.Node, own)
		return local.Remove(job)
	}
	if err := b.startUnits(ctx, local, job, held.Node); err != nil {
		return err
	}
	if err := b.Release(ctx, held.Node, RunOf(job, restarts)); err != nil {
		return err
	}
	return local.Remove(job)
}
