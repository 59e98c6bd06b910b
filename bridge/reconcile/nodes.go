package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// NodeOptions say where nodes are looked for.
type NodeOptions struct {
	Bridge *node.Bridge
	Slurm  slurm.Commands
	// Confirm is how long after its first answer Slurm is asked again, and Young is how
	// long after its start slurmctld is not believed that a job is over. Zero: the
	// defaults.
	Confirm, Young time.Duration
	DryRun         bool // only report
	Log            *logrus.Entry
}

// The defaults of NodeOptions. A slurmctld that was just started has its jobs from its
// files, but nodes that did not register yet.
const (
	confirmAfter = 2 * time.Second
	youngFor     = time.Minute
)

// claim is one job that holds one node.
type claim struct {
	node.HeldNode
	holder node.Holder
}

// Nodes gives back the nodes of jobs that are not on them any more: the node or slurmd
// died, so that no epilog ran, or the API server was down during it. When Slurm does
// not answer, or has just begun to, nothing is touched.
func Nodes(ctx context.Context, o NodeOptions) ([]Result, error) {
	// First the nodes, then the jobs: a job has its nodes before it takes them.
	held, err := o.Bridge.Held(ctx)
	if err != nil {
		return nil, err
	}
	var claims []claim
	for _, h := range held {
		for _, holder := range h.Holders {
			claims = append(claims, claim{h, holder})
		}
	}
	over, err := o.over(ctx, claims, func() (func(claim) bool, error) {
		placed, err := o.Slurm.Placement(ctx)
		return func(c claim) bool {
			nodes, runs := placed[c.holder.JobID]
			return runs && (c.SlurmName == "" || on(nodes, c.SlurmName))
		}, err
	})
	return o.release(over, err, func(c claim) error { return o.drop(ctx, c) })
}

// Here does on one node what the epilogs of its jobs could not. It asks Slurm for the
// jobs that hold the node, and for no others.
func Here(ctx context.Context, o NodeOptions, local node.Local, runDir, slurmNode string) ([]Result, error) {
	held, err := o.Bridge.HeldHere(ctx, slurmNode)
	if err != nil {
		return nil, err
	}
	var claims []claim
	for _, holder := range held.Holders {
		claims = append(claims, claim{held, holder})
	}
	noted, err := local.Jobs()
	if err != nil {
		return nil, err
	}
	refused, err := node.Refused(runDir)
	if err != nil {
		return nil, err
	}
	// Noted, but killed before it was a holder, or refused: nothing to see in Kubernetes.
	for _, id := range append(noted, refused...) {
		if slices.ContainsFunc(claims, func(c claim) bool { return c.holder.JobID == id }) {
			continue
		}
		holder := node.Holder{Cluster: o.Bridge.Cluster, JobID: id}
		if note, err := local.Get(id); err != nil {
			o.Log.Warn(err)
		} else if note != nil {
			holder = note.Holder
		}
		claims = append(claims, claim{held, holder})
	}
	over, err := o.over(ctx, claims, func() (func(claim) bool, error) {
		runs := map[uint32]bool{}
		for _, c := range claims {
			nodes, err := o.Slurm.NodesOf(ctx, c.holder.JobID)
			if err != nil {
				return nil, err
			}
			runs[c.holder.JobID] = on(nodes, slurmNode)
		}
		return func(c claim) bool { return runs[c.holder.JobID] }, nil
	})
	return o.release(over, err, func(c claim) error {
		// That run of the job and no later one, which may begin here at this moment.
		if err := o.Bridge.GiveBack(ctx, local, c.holder.JobID, c.holder.Restarts); err != nil {
			return err
		}
		if c.Name != "" {
			if err := o.drop(ctx, c); err != nil {
				return err
			}
		}
		return node.Unrefuse(runDir, c.holder.JobID)
	})
}

func (o NodeOptions) drop(ctx context.Context, c claim) error {
	return o.Bridge.Drop(ctx, c.Name, func(h node.Holder) bool { return h == c.holder })
}

// on compares as Kubernetes writes names: in lower case.
func on(nodes []string, name string) bool {
	return slices.ContainsFunc(nodes, func(n string) bool { return strings.EqualFold(n, name) })
}

// over are the claims whose job does not hold its node, by two answers of a Slurm that
// has been up for a while.
func (o NodeOptions) over(ctx context.Context, claims []claim, ask func() (func(claim) bool, error)) ([]claim, error) {
	for round := range 2 {
		if len(claims) == 0 {
			return nil, nil
		}
		if round > 0 && pause(ctx, orDefault(o.Confirm, confirmAfter)) != nil {
			return nil, ctx.Err()
		}
		runs, err := ask()
		if err != nil {
			return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
		}
		claims = slices.DeleteFunc(slices.Clone(claims), runs)
		if len(claims) == 0 {
			return nil, nil
		}
		started, err := o.Slurm.Started(ctx)
		if err != nil {
			return nil, fmt.Errorf("nothing was touched, since Slurm's jobs are unknown: %w", err)
		}
		if young := orDefault(o.Young, youngFor); time.Since(started) < young {
			o.Log.Infof("slurmctld was started less than %s ago: nothing is decided yet", young)
			return nil, nil
		}
	}
	return claims, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func (o NodeOptions) release(over []claim, err error, release func(claim) error) ([]Result, error) {
	var results []Result
	for _, c := range over {
		result := Result{Object: "hold of node " + cmp.Or(c.Name, c.SlurmName), JobID: c.holder.JobID}
		if !o.DryRun {
			result.Err = release(c)
		}
		results = append(results, result)
	}
	return results, err
}
