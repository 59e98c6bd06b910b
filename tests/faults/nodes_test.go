package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// nodeSituation is a job that takes its node from Kubernetes, or gives it back.
type nodeSituation struct {
	name     string
	shared   bool // a living job of the cluster holds the node already
	cordoned bool // an administrator closed it
	// first is what ran before, undisturbed; nil: nothing.
	first func(*world, *Job) Command
	hook  func(*world, *Job) Command
	next  func(*world, *Job) Command
	two   bool // the job has two nodes, and the controller takes them
	// variant is as of serviceSituation.
	variant  bool
	deadline time.Duration
	held     bool // in the end: held by the job and empty, else as before
}

func (w *world) nodeScenarios() []Scenario {
	var all []Scenario
	for _, s := range []nodeSituation{
		{name: "reclaim", deadline: hookDeadline, hook: prolog, held: true},
		{name: "reclaim, then the epilog", variant: true, deadline: hookDeadline, hook: prolog, next: release},
		{name: "reclaim, an administrator closed it", variant: true, cordoned: true, deadline: hookDeadline, hook: prolog, next: release},
		{name: "reclaim, another job has it", variant: true, shared: true, deadline: hookDeadline, hook: prolog, next: release},
		{name: "release", first: prolog, deadline: hookDeadline, hook: release, next: reconcileHere},
		{name: "release, another job has it", variant: true, shared: true, first: prolog, deadline: hookDeadline, hook: release, next: reconcileHere},
		{name: "reconcile a node, its release was lost", first: prolog, hook: reconcileHere, next: reconcileHere},
		{name: "reclaim by the controller", variant: true, two: true, hook: prologSlurmctld, held: true, deadline: slurmctldDeadline},
		{name: "release by the controller", variant: true, two: true, first: prologSlurmctld, hook: epilogSlurmctld, next: reconcileNodes,
			deadline: slurmctldDeadline},
		{name: "reconcile all nodes, their release was lost", variant: true, two: true, first: prologSlurmctld, hook: reconcileNodes, next: reconcileNodes},
	} {
		all = append(all, w.nodeScenario(s))
	}
	return all
}

// slurmctldDeadline is what the times of configureNodes allow prolog-slurmctld, which
// is told no other: requests, budgets, grace and its margin, and to undo it all.
const slurmctldDeadline = 30 * time.Second

func (w *world) nodeScenario(s nodeSituation) Scenario {
	if s.deadline == 0 {
		s.deadline = reconcileDeadline
	}
	scenario := Scenario{
		Name: s.name, Deadline: s.deadline, Waits: s.deadline > hookDeadline,
		Setup: func(ctx context.Context, c *Job) error {
			if err := configureNodes(c); err != nil {
				return err
			}
			for _, name := range s.nodes(c) {
				if err := w.addNode(ctx, c, name, s); err != nil {
					return err
				}
			}
			end, err := w.nodeEnd(ctx, c)
			if err == nil {
				err = c.Write("before", fmt.Sprint(end.Nodes))
			}
			return err
		},
		Command: func(c *Job) Command { return s.hook(w, c) },
		State: func(ctx context.Context, c *Job) (any, error) {
			end, err := w.nodeEnd(ctx, c)
			if !s.held {
				end.Pods = nil // who was on the node before is not the release's to tell
			}
			return end, err
		},
		Foreign: w.foreignNodes,
		Again:   refusalRests,
		Cleanup: w.clearNodes,
		Verify: func(c *Job, _ *Outcome, end any) error {
			return s.verify(c, end.(nodeEnd))
		},
		Finally: func(ctx context.Context, c *Job) error { return w.endNodes(ctx, s, c) },
	}
	if s.variant {
		scenario.Only = telling
	}
	if s.next != nil {
		scenario.Next = func(c *Job) Command { return s.next(w, c) }
	}
	scenario.Perform = func(ctx context.Context, c *Job, p *process, begin func()) (*Outcome, error) {
		if s.first != nil {
			o, err := p.Run(ctx, s.first(w, c), s.deadline)
			if err != nil {
				return nil, err
			}
			if o.Code != CodeOK {
				return nil, fmt.Errorf("preparation: exit status %d: %s%s", o.Code, o.Stdout, o.Stderr)
			}
		}
		begin()
		return p.Run(ctx, s.hook(w, c), s.deadline)
	}
	return scenario
}

// refusalRests is what the SPANK plugin does before it calls a prolog again.
func refusalRests(c *Job) error {
	err := os.Remove(c.Path(fmt.Sprintf("%s/refuse.%d", runDir, c.JobID)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s nodeSituation) nodes(c *Job) []string {
	if s.two {
		return nodesOf(c)
	}
	return nodesOf(c)[:1]
}

// verify compares with what the nodes were before.
func (s nodeSituation) verify(c *Job, end nodeEnd) error {
	before, err := os.ReadFile(c.Path("before"))
	if err != nil {
		return err
	}
	held := strings.Contains(fmt.Sprint(end.Nodes), "CLUSTER/JOB/0=reclaim")
	switch {
	case held != s.held:
		return fmt.Errorf("held by the job: %v", held)
	case !held && fmt.Sprint(end.Nodes) != string(before):
		return fmt.Errorf("not restored: it was %s", before)
	case !held && len(end.Files) > 0:
		return fmt.Errorf("files are left")
	case held && len(end.Pods) > 0:
		return fmt.Errorf("pods are left")
	}
	return nil
}

// endNodes ends the job, and one reconcile follows.
func (w *world) endNodes(ctx context.Context, s nodeSituation, c *Job) error {
	last := []func(*world, *Job) Command{release, reconcileHere}
	if s.two {
		last = []func(*world, *Job) Command{reconcileNodes}
	}
	for _, command := range last {
		o, err := (&process{}).Run(ctx, command(w, c), s.deadline)
		if err != nil {
			return err
		}
		if o.Code != CodeOK {
			return fmt.Errorf("exit status %d: %s%s", o.Code, o.Stdout, o.Stderr)
		}
	}
	end, err := w.nodeEnd(ctx, c)
	if err != nil {
		return err
	}
	s.held = false
	return s.verify(c, end)
}

// configureNodes writes the files of the node and of the controller. Slurm knows the
// living job only.
func configureNodes(c *Job) error {
	if err := configure(c); err != nil {
		return err
	}
	controller, err := os.ReadFile(c.Path("slurmk8s.toml"))
	if err != nil {
		return err
	}
	nodes := func(kubeconfig string) string {
		return fmt.Sprintf("[services]\nrun_dir = %q\n[nodes]\nreclaim = \"all\"\nkubeconfig = %q\nsettle = \"0s\"\napi_timeout = \"4s\"\n"+
			"min_evict_grace = \"1s\"\nevict_grace = \"1s\"\nevict_timeout = \"4s\"\n", c.Path(runDir), kubeconfig)
	}
	none := c.Path("no.kubeconfig")
	return errors.Join(
		c.Write("slurmk8s.toml", string(controller)+nodes(none)),
		c.Write("node.toml", strings.Replace(string(controller), c.Kubeconfig, none, 1)+nodes(c.Kubeconfig)),
	)
}

func nodeHook(w *world, c *Job, hook string) Command {
	name := nodesOf(c)[0]
	return Command{Argv: []string{w.program, "hook", "-0", hook}, Fields: map[string]string{
		"CONFIG": c.Path("node.toml"), "JOB_ID": strconv.Itoa(c.JobID), "UID": "0", "GID": "0", "NODE": name, "NODELIST": name,
		"RESTART_COUNT": "0", "DEADLINE_MS": strconv.FormatInt(hookDeadline.Milliseconds(), 10)}}
}

func prolog(w *world, c *Job) Command  { return nodeHook(w, c, "k8s_job_prolog") }
func release(w *world, c *Job) Command { return nodeHook(w, c, "k8s_job_epilog") }

func reconcileHere(w *world, c *Job) Command {
	return Command{ForPeople: true, Env: []string{"PATH=/usr/bin:/bin", "SLURMD_NODENAME=" + nodesOf(c)[0]},
		Argv: []string{w.program, "reconcile", "--config", c.Path("node.toml"), "--limit", reconcileLimit.String()}}
}

func reconcileNodes(w *world, c *Job) Command {
	return Command{ForPeople: true, Lines: 2, Argv: []string{w.program, "reconcile", "--config", c.Path("slurmk8s.toml"), "--limit", reconcileLimit.String()}}
}

func slurmctldHook(w *world, c *Job, command string) Command {
	return Command{ForPeople: true, Argv: []string{w.program, command, "--config", c.Path("slurmk8s.toml")}, Env: []string{
		"PATH=/usr/bin:/bin", fmt.Sprintf("SLURM_JOB_ID=%d", c.JobID), "SLURM_JOB_NODELIST=" + strings.Join(nodesOf(c), ","), "SLURM_JOB_UID=0"}}
}

func prologSlurmctld(w *world, c *Job) Command { return slurmctldHook(w, c, "prolog-slurmctld") }
func epilogSlurmctld(w *world, c *Job) Command { return slurmctldHook(w, c, "epilog-slurmctld") }

// nodeFiles are those that the hooks left in run_dir, but for locks.
func nodeFiles(c *Job) ([]string, error) {
	var files []string
	err := filepath.WalkDir(c.Path(runDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !entry.IsDir() && entry.Name() != ".lock" {
			files = append(files, strings.ReplaceAll(entry.Name(), strconv.Itoa(c.JobID), "JOB"))
		}
		return err
	})
	return files, err
}
