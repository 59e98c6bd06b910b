package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/logging"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/version"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const slurmctldHelp = `Usage: slurmk8s prolog-slurmctld|epilog-slurmctld [--config FILE]

For sites that keep no Kubernetes credential on compute nodes: slurm.conf's
PrologSlurmctld and EpilogSlurmctld run these, and slurmctld's host takes all nodes
of a job from Kubernetes before it starts and gives them back after it. They read
the job from the environment that Slurm gives them. Slurm runs a program without
arguments: name slurmk8s itself in both lines of slurm.conf, and it goes by that
environment.

When nodes cannot be taken, the prolog ends with status 1, after which Slurm requeues
a batch job and ends an interactive one. Slurm runs EpilogSlurmctld before the job's
processes are dead: the epilog gives back each node when Slurm has it back, and leaves
those that take longer than a minute to "slurmk8s reconcile".

The credential is that of [kubernetes], with the rights of
packaging/manifests/nodes-controller.yaml.
`

// controlled is one run of PrologSlurmctld or EpilogSlurmctld.
type controlled struct {
	cfg      *slurmconf.Config
	bridge   *node.Bridge
	slurm    slurm.Commands
	log      *logrus.Entry
	job      uint32
	restarts uint32
	nodes    []string
}

func runSlurmctld(ctx context.Context, command string, args []string) int {
	set, config := flags(command)
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Print(slurmctldHelp)
		return exitOK
	case err != nil:
		return usage("%s: %v", command, err)
	case set.NArg() > 0:
		return usage("%s takes no argument %q", command, set.Arg(0))
	}
	cfg, err := slurmconf.Load(*config)
	if err != nil {
		return failed(err)
	}
	logger, sink, err := logging.New(cfg.Log)
	if err != nil {
		return failed(err)
	}
	defer sink.Close()
	c := &controlled{cfg: cfg, slurm: slurm.Commands{Dir: cfg.SlurmBinDir, Conf: cfg.SlurmConf}}
	if err := c.readEnvironment(); err != nil {
		return failed(err)
	}
	c.log = logger.WithFields(logrus.Fields{"hook": command, "job": c.job})
	run := c.prolog
	if command == "epilog-slurmctld" {
		run = c.epilog
	}
	if err := run(ctx); err != nil {
		c.log.Error(err)
		return failed(err)
	}
	return exitOK
}

// readEnvironment reads what Slurm says of the job; the names differ by version.
func (c *controlled) readEnvironment() error {
	id, err := strconv.ParseUint(os.Getenv("SLURM_JOB_ID"), 10, 32)
	if err != nil || id == 0 {
		return fmt.Errorf("SLURM_JOB_ID=%q is not the number of a job: this command is for PrologSlurmctld and EpilogSlurmctld of slurm.conf", os.Getenv("SLURM_JOB_ID"))
	}
	c.job = uint32(id)
	restarts, _ := strconv.ParseUint(either("SLURM_JOB_RESTART_COUNT", "SLURM_RESTART_COUNT"), 10, 32) // absent in the first run
	c.restarts = uint32(restarts)
	list := either("SLURM_JOB_NODELIST", "SLURM_NODELIST")
	if list == "" || list == "(null)" {
		return nil // a job that only makes or ends a persistent burst buffer
	}
	c.nodes, err = slurmconf.ExpandHostlist(list)
	return err
}

func either(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// option is the value of an option of the SPANK plugin, which Slurm hands on in the
// job's environment for prologs.
func option(name string) string { return os.Getenv("SPANK__SLURM_SPANK_OPTION_slurmk8s_" + name) }

func (c *controlled) connect(what string) error {
	client, err := kube.New(kube.Options{
		Kubeconfig:     c.cfg.Kubernetes.Kubeconfig,
		RequestTimeout: c.cfg.Kubernetes.RequestTimeout.Std(),
		UserAgent:      fmt.Sprintf("slurmk8s/%s (cluster %s; job %d; %s)", version.Version, c.cfg.Cluster, c.job, what),
		AlsoTrusted:    slurmUser(c.cfg),
		Log:            c.log,
	})
	if err != nil {
		return err
	}
	c.bridge = node.New(client, &c.cfg.Nodes, c.cfg.Cluster, c.log)
	return nil
}

// plan is what is done for the job, by its own words and the administrator's.
func (c *controlled) plan() (node.Plan, error) {
	return node.PlanFor(&c.cfg.Nodes, node.Ask{
		Nodes: option("k8s_nodes"), Grace: option("k8s_evict_grace"), Timeout: option("k8s_evict_timeout"),
		Partition: os.Getenv("SLURM_JOB_PARTITION"), Constraints: os.Getenv("SLURM_JOB_CONSTRAINTS"),
	})
}

func (c *controlled) prolog(ctx context.Context) error {
	plan, err := c.plan()
	if err != nil {
		return c.refuse(ctx, err)
	}
	if plan.Mode == node.Keep || len(c.nodes) == 0 {
		return nil
	}
	if err := c.connect("prolog"); err != nil {
		return c.refuse(ctx, err)
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.Nodes.APITimeout.Std()+plan.Terms.Timeout+plan.Terms.Grace+node.EndMargin)
	defer cancel()
	holder := node.Holder{Cluster: c.cfg.Cluster, JobID: c.job, Restarts: c.restarts, Mode: plan.Mode}
	outcome, err := c.bridge.TakeAll(limited, c.nodes, holder, plan.Terms)
	if err != nil {
		return c.refuse(ctx, err)
	}
	c.log.WithField("evicted", outcome.Evicted).WithField("kept", outcome.Kept).WithField("ignored", outcome.Ignored).
		Infof("%d nodes: ready (%s)", len(c.nodes), plan.Mode)
	return nil
}

// refuse does what the policy says about nodes that cannot be taken; nil: the job goes on.
func (c *controlled) refuse(ctx context.Context, cause error) error {
	policy := c.cfg.Nodes.OnError
	if node.FailsJob(cause) {
		policy = slurmconf.OnErrorFail
	}
	if policy == slurmconf.OnErrorProceed {
		c.log.Errorf("going on beside Kubernetes: %v", cause)
		return nil
	}
	// Slurm may have ended this process's time: what is undone has some of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Nodes.APITimeout.Std())
	defer cancel()
	if c.bridge != nil {
		if err := c.bridge.GiveBackAll(ctx, c.nodes, c.job, c.restarts); err != nil {
			c.log.Warnf("left to reconcile: %v", err)
		}
	}
	if err := c.slurm.Comment(ctx, c.job, wire.OneLine("slurmk8s: nodes could not be taken from Kubernetes: "+cause.Error())); err != nil {
		c.log.Warn(err)
	}
	if policy == slurmconf.OnErrorFail { // Slurm itself would requeue it
		if err := c.slurm.Cancel(ctx, c.job); err != nil {
			c.log.Warn(err)
		}
	}
	return cause
}

// slurmctldCommand is the command for which Slurm runs this program without arguments,
// as it runs PrologSlurmctld and EpilogSlurmctld; "" for none.
func slurmctldCommand() string {
	switch os.Getenv("SLURM_SCRIPT_CONTEXT") {
	case "prolog_slurmctld":
		return "prolog-slurmctld"
	case "epilog_slurmctld":
		return "epilog-slurmctld"
	}
	return ""
}

// releaseLimit is how long EpilogSlurmctld waits for the job's end on its nodes: longer
// than KillWait usually is. The job is completing for Slurm meanwhile, but its nodes are
// free for others one by one, and squeue tells which (seen on 22.05.8).
const releaseLimit = time.Minute

// epilog gives back each node as soon as Slurm has it back.
func (c *controlled) epilog(ctx context.Context) error {
	if plan, err := c.plan(); err != nil || plan.Mode == node.Keep || len(c.nodes) == 0 {
		return nil // its prolog took none
	}
	if err := c.connect("epilog"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	var pauses kube.Pauses
	waiting := c.nodes
	for {
		busy, err := c.slurm.NodesOf(ctx, c.job)
		if err != nil {
			return fmt.Errorf("%d nodes are left to reconcile: %w", len(waiting), err)
		}
		var free, still []string
		for _, name := range waiting {
			if slices.Contains(busy, name) {
				still = append(still, name)
			} else {
				free = append(free, name)
			}
		}
		giving, cancel := context.WithTimeout(ctx, c.cfg.Nodes.APITimeout.Std())
		err = c.bridge.GiveBackAll(giving, free, c.job, c.restarts)
		cancel()
		if err != nil {
			return fmt.Errorf("left to reconcile: %w", err)
		}
		if waiting = still; len(waiting) == 0 {
			return nil
		}
		if err := pauses.Wait(ctx); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			c.log.Infof("%d nodes still have processes of the job: left to reconcile", len(waiting))
			return nil
		}
	}
}
