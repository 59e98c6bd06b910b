package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/metrics"
	"slurmk8s.io/slurmk8s/bridge/reconcile"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// removal is what reconcile and cleanup are told.
type removal struct {
	config, node  string
	dryRun, force bool
	limit, spread time.Duration
}

// flags are those that both have.
func (o *removal) flags(cmd *cobra.Command, force string) {
	withConfig(cmd, &o.config)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be removed")
	cmd.Flags().BoolVar(&o.force, "force", false, force)
	cmd.Flags().DurationVar(&o.limit, "limit", time.Minute, "`TIME` limit for each duty, to list and again to remove")
}

func reconcileCommand() *cobra.Command {
	var o removal
	cmd := &cobra.Command{
		Use: "reconcile", Short: "remove the objects of ended jobs",
		Long: `Removes the objects of ended jobs from Kubernetes: Workflows (after Teardown), services
and holds on nodes. On the controller it does this for all jobs. On a node it does what
the node's own epilogs did not do.

A job counts as ended only if Slurm has said so twice, if Slurm's next job id is above
the job's, and if slurmctld has been up for some time. Otherwise nothing is changed. A run
that would remove the objects of too many jobs removes nothing; if the next run comes to
the same result, it removes them ([reconcile] in slurmk8s.toml).

Exit status: 0 nothing is left, 1 something is left; each line says what and why.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return end(o.reconcile(cmd.Context())) },
	}
	o.flags(cmd, "remove them even if they are too many for one run")
	cmd.Flags().StringVar(&o.node, "node", "", "do only what concerns this node; `NAME` is its name in Slurm")
	cmd.Flags().DurationVar(&o.spread, "spread", 0,
		"wait up to `TIME`, different on each node, before asking Slurm; for HealthCheckProgram, which Slurm may start on all nodes at once")
	return cmd
}

func (o *removal) reconcile(ctx context.Context) int {
	cfg, err := slurmconf.Load(o.config)
	if err != nil {
		return failed(err)
	}
	logger, sink, err := logging.New(cfg.Log)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	log := logger.WithFields(logrus.Fields{"hook": "reconcile"})
	r := roleOf(cfg)
	if o.node != "" {
		r.controller = false
	} else {
		o.node = thisNode()
	}
	if !o.dryRun {
		limited, cancel := context.WithTimeout(ctx, o.limit)
		renewInPassing(limited, cfg, log)
		cancel()
	}
	duties, errs := dutiesHere(cfg, r, o.node, log)
	brake := reconcile.Brake{Max: cfg.Reconcile.MaxRemovals, File: filepath.Join(cfg.Services.RunDir, heldBack)}
	if r.controller {
		brake.File = filepath.Join(cfg.StateDir, heldBack)
	}
	results, more := reconcile.Run(ctx, reconcile.Options{
		Duties: duties, Guard: guard(cfg), Brake: brake,
		Limit: o.limit, Spread: share(o.spread, o.node), DryRun: o.dryRun, Force: o.force, Log: log,
	})
	exit := exitOK
	for _, err := range append(errs, more...) {
		if errors.Is(err, reconcile.ErrHidden) {
			log.Info(err)
			continue
		}
		log.Error(err)
		exit = failed(err)
	}
	if !o.dryRun {
		countMetrics(cfg, r, results, log)
	}
	return max(exit, report(results, o.dryRun, true, log))
}

// heldBack is the file in which a run that was held back is remembered.
const heldBack = "reconcile.held-back"

// share is the part of a time that falls to a node, by its name.
func share(of time.Duration, node string) time.Duration {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, node)
	return time.Duration(float64(of) * float64(sum.Sum32()) / (1 << 32))
}

// countMetrics adds up what the hooks of this host did. A metric that cannot be written
// is no failure of reconcile.
func countMetrics(cfg *slurmconf.Config, r role, results []reconcile.Result, log *logrus.Entry) {
	removed, left := 0, 0
	for _, r := range results {
		if r.Err != nil {
			left++
		} else {
			removed++
		}
	}
	for _, of := range []struct {
		here bool
		dir  string
	}{{r.controller, cfg.StateDir}, {r.nodeServices, cfg.Services.RunDir}} {
		if dir := metrics.In(cfg.Metrics.Textfile, of.dir); of.here && dir != "" {
			if err := dir.Fold(cfg.Metrics.Textfile, removed, left, time.Now()); err != nil {
				log.Warn(err)
			}
			return // a host is one or the other
		}
	}
}

// report prints one line for each object; told says whether a line tells of the job.
func report(results []reconcile.Result, dryRun, told bool, log *logrus.Entry) int {
	status := exitOK
	for _, r := range results {
		done := "removed"
		switch {
		case r.Err != nil:
			done = fmt.Sprintf("left: %v", r.Err)
			status = exitFailed
		case dryRun:
			done = "would be removed"
		}
		text := r.Name
		if told {
			text += " (" + r.Job
			if r.State != "" {
				text += "; was in " + r.State
			}
			text += ")"
		}
		text = wire.OneLine(text + ": " + done) // it may quote a user's directive
		fmt.Println(text)
		log.Info(text)
	}
	return status
}
