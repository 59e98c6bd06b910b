package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/hook"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// bundleFiles are two bundles: "pair" is staged in two phases and has an object for its end,
// "late" is made when the job has its nodes.
var bundleFiles = map[string]string{
	"pair/bundle.toml": "summary = \"a test\"\n[[phase]]\nname = \"base\"\nfiles = [\"base.yaml\"]\n[[phase]]\nname = \"door\"\nfiles = [\"door.yaml\"]\n" +
		"[[phase]]\nname = \"end\"\non = \"delete\"\nwait = \"none\"\nfiles = [\"end.yaml\"]\n",
	"pair/base.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${name}\"}\n",
	"pair/door.yaml":   "apiVersion: v1\nkind: Service\nmetadata: {name: \"${name}\"}\nspec: {ports: [{port: 80}]}\n",
	"pair/end.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${name}-end\"}\n",
	"late/bundle.toml": "summary = \"a test\"\nwhen = \"start\"\n[[phase]]\nname = \"all\"\nfiles = [\"all.yaml\"]\n",
	"late/all.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${name}\"}\ndata: {nodes: \"${nodes}\"}\n",
}

// What there is of the job in the end, by name.
var (
	claimed = []string{"Lease slurm-CLUSTER-JOB.pair claimed"}
	staged  = []string{"ConfigMap pair-JOB of slurm-CLUSTER-JOB.pair", "Lease slurm-CLUSTER-JOB.pair ready", "Service pair-JOB of slurm-CLUSTER-JOB.pair"}
	started = []string{"ConfigMap late-JOB of slurm-CLUSTER-JOB.late", staged[0], "Lease slurm-CLUSTER-JOB.late ready", staged[1], staged[2]}
)

// bundleSituation is a hook of a job with both bundles.
type bundleSituation struct {
	name, hook string
	before     []string // hooks that came before it
	fields     map[string]string
	want       []string
	variant    bool
	more       func(*Scenario)
}

func (w *world) bundleScenarios() []Scenario {
	const in, start = "slurm_bb_data_in", "slurm_bb_pre_run"
	setup := []string{"slurm_bb_setup"}
	var all []Scenario
	for _, s := range []bundleSituation{
		{name: "bundle job_process", hook: "slurm_bb_job_process",
			more: func(s *Scenario) { s.Deadline, s.Hasty = 1500*time.Millisecond, true }},
		{name: "bundle setup", hook: "slurm_bb_setup", want: claimed},
		{name: "bundle setup after requeue", variant: true, hook: "slurm_bb_setup", before: append(setup, in), fields: map[string]string{"RESTART_COUNT": "1"}, want: claimed},
		{name: "bundle data_in", hook: in, before: setup, want: staged},
		{name: "bundle test_data_in", variant: true, hook: "slurm_bb_test_data_in", before: setup, fields: polled, want: staged, more: mayBeBusy},
		{name: "bundle pre_run", hook: start, before: append(setup, in), fields: nodes, want: started},
		{name: "bundle teardown", hook: "slurm_bb_job_teardown", before: append(setup, in, start), fields: hurry("false")},
		{name: "bundle teardown of a claim", variant: true, hook: "slurm_bb_job_teardown", before: setup, fields: hurry("true")},
		{name: "bundle get_status", variant: true, hook: "slurm_bb_get_status", before: append(setup, in), fields: map[string]string{"ARG1": "bundle"}, want: staged,
			more: func(s *Scenario) { s.Deadline, s.Hasty = time.Second, true }},
		{name: "bundle reconcile a lost job", variant: true, before: append(setup, in, start), more: func(s *Scenario) {
			s.Deadline = reconcileDeadline
			s.Command = func(c *Job) Command {
				return Command{ForPeople: true, Lines: 3, Argv: []string{w.program, "reconcile", "--config", c.Path("slurmk8s.toml"), "--limit", reconcileLimit.String()}}
			}
		}},
	} {
		scenario := Scenario{
			Name: s.name, Deadline: hookDeadline,
			Setup: func(ctx context.Context, c *Job) error { return w.prepareBundles(ctx, c, s.before) },
			Command: func(c *Job) Command {
				return Command{Argv: []string{w.program, "hook", "-0", s.hook}, Fields: hookFields(c, s.fields)}
			},
			State:   w.bundleEnd,
			Foreign: w.foreignServices,
			Again:   breakerRests,
			Cleanup: w.clearBundles,
			Verify: func(_ *Job, _ *Outcome, end any) error {
				if got := end.(bundleEnd).Objects; !slices.Equal(got, s.want) {
					return fmt.Errorf("there is %q, want %q", got, s.want)
				}
				return nil
			},
		}
		if s.variant {
			scenario.Only = telling
		}
		if s.more != nil {
			s.more(&scenario)
		}
		all = append(all, scenario)
	}
	return all
}

// prepareBundles writes what Slurm and the administrator give the hooks of a job, and runs
// those that came before the one that is tried.
func (w *world) prepareBundles(ctx context.Context, c *Job, before []string) error {
	if err := configure(c); err != nil {
		return err
	}
	for name, text := range bundleFiles {
		path := c.Path("bundles/" + name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	squeue := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *%%U*) echo '%d|%d|ada|physics|batch';; *) echo '%d|RUNNING|ada|%s';; esac\n", c.JobID, jobUID, livingJob, nodesOf(c)[0])
	if err := os.WriteFile(c.Path("bin/squeue"), []byte(squeue), 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(c.Path("slurmk8s.toml"))
	if err != nil {
		return err
	}
	config := fmt.Sprintf("%s[bundles]\ndirs = [%q]\n[[bundles.allow]]\nusers = [\"ada\"]\nbundles = [\"*\"]\nnamespaces = [%q]\n", text, c.Path("bundles"), c.Namespace)
	err = errors.Join(c.Write("slurmk8s.toml", config), c.Write("direct.toml", strings.Replace(config, c.Kubeconfig, w.kubeconfig, 1)),
		c.Write("script", "#!/bin/sh\n#DW bundle pair\n#DW bundle late\n\nsrun true\n"))
	if err != nil {
		return err
	}
	return runDirectly(ctx, c, nodes, before...)
}

// runDirectly runs hooks past the proxy, undisturbed.
func runDirectly(ctx context.Context, c *Job, more map[string]string, hooks ...string) error {
	for _, name := range hooks {
		fields := hookFields(c, more)
		fields["CONFIG"], fields["DEADLINE_MS"] = c.Path("direct.toml"), "20000"
		if code, reply := hook.Run(ctx, name, fields); code != wire.OK {
			return fmt.Errorf("%s, undisturbed: code %d: %s", name, code, reply[wire.KeyMessage])
		}
	}
	return nil
}

// bundleEnd is what there is of the job's bundles, without what differs from run to run.
type bundleEnd struct {
	Objects []string
	Files   []string // in state_dir
}

func (w *world) bundleEnd(ctx context.Context, c *Job) (any, error) {
	own, err := w.companions(ctx, c)
	if err != nil {
		return nil, err
	}
	anonymous := strings.NewReplacer(c.Cluster, "CLUSTER", fmt.Sprint(c.JobID), "JOB").Replace
	var end bundleEnd
	owners := map[string]string{}
	for _, o := range own {
		owners[string(o.GetUID())] = o.GetName()
	}
	for _, o := range own {
		text := o.GetKind() + " " + o.GetName()
		for _, reference := range o.GetOwnerReferences() {
			text += " of " + owners[string(reference.UID)] // of nothing: an object that nobody collects
		}
		if o.GetKind() == "Lease" {
			state := o.GetAnnotations()["slurmk8s.io/state"]
			if state == "" {
				state = "claimed"
			}
			text += " " + state
		}
		end.Objects = append(end.Objects, anonymous(text))
	}
	slices.Sort(end.Objects)
	files, err := filepath.Glob(c.Path("state/job.*/*"))
	for _, file := range files {
		end.Files = append(end.Files, filepath.Base(file))
	}
	return end, err
}

// companions are the objects of the bundles of the site's jobs.
func (w *world) companions(ctx context.Context, c *Job) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	for _, gvr := range []schema.GroupVersionResource{configMaps, service.Services, job.Leases} {
		list, err := w.client.Resource(gvr).Namespace(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: job.LabelBundle})
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			o.SetKind(strings.TrimSuffix(list.GetKind(), "List")) // a list's items do not say
			all = append(all, o)
		}
	}
	return all, nil
}

func (w *world) clearBundles(ctx context.Context, c *Job) error {
	own, err := w.companions(ctx, c)
	if err != nil {
		return err
	}
	return w.remove(ctx, c.Site, own)
}
