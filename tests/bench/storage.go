package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// The machine whose storage is placed: each rabbit serves 16 nodes.
const (
	nodesOfStorage = 1000
	allNodes       = "node[0001-1000]"
)

// storage measures our share of the hooks that place storage on rabbits, beside kubectl that only
// writes the same: it neither lists what is free nor waits.
func storage(ctx context.Context, b *bench) (err error) {
	rabbits := map[string][]string{}
	for i := range nodesOfStorage {
		rabbit := fmt.Sprintf("rabbit%02d", i/16)
		rabbits[rabbit] = append(rabbits[rabbit], fmt.Sprintf("node%04d", i+1))
	}
	// DWS decides at its start what it provides: these sections have one of their own.
	s := *b.site
	s.server, s.sim, s.observer = nil, nil, nil
	defer s.stopServing()
	if err := s.serve(ctx, dwssim.Options{NNF: &dwssim.NNF{Rabbits: rabbits}}); err != nil {
		return err
	}
	defer func() {
		b.lastJob = s.lastJob
		err = errors.Join(err, b.use(b.server.Kubeconfig()))
	}()
	if err := s.use(s.server.Kubeconfig()); err != nil {
		return err
	}
	own := &bench{site: &s, report: b.report, samples: b.samples}
	if err := own.storageSetups(ctx); err != nil {
		return err
	}
	return own.storagePreRuns(ctx)
}

// storageSetups measures slurm_bb_setup of a job whose storage is placed while it is pending.
func (b *bench) storageSetups(ctx context.Context) error {
	directives := []string{"#DW jobdw type=lustre capacity=1TiB name=bench"}
	var ours, reference []float64
	for i := range 1 + b.samples.calls { // the first warms caches
		setup := func(j *job) error {
			_, err := b.waiting.fork("slurm_bb_setup", b.hookArguments("slurm_bb_setup", j))
			return err
		}
		share, placed, err := b.placedBy(ctx, directives, setup)
		if err != nil {
			return err
		}
		j, created, err := b.kubectlCreates(ctx, directives)
		if err != nil {
			return err
		}
		written, err := b.kubectlPatches(ctx, j, patch{"servers", j.workflow() + "-0", placed}, asks(j, dwssim.Setup))
		if err != nil {
			return err
		}
		if err := b.tearDown(j); err != nil {
			return err
		}
		if i > 0 {
			ours, reference = append(ours, share), append(reference, created+written)
		}
	}
	b.report.add("storage_setup_ms", "ms", median(ours), ours).beside(median(reference)).within(60)
	return nil
}

// storagePreRuns measures slurm_bb_pre_run of a job on all nodes, for which Servers and Computes
// are written.
func (b *bench) storagePreRuns(ctx context.Context) error {
	directives := []string{"#DW jobdw type=xfs capacity=10GB name=bench"}
	nodes := make([]any, nodesOfStorage)
	for i := range nodes {
		nodes[i] = map[string]any{"name": fmt.Sprintf("node%04d", i+1)}
	}
	var ours, reference []float64
	for range b.samples.preRuns {
		preRun := func(j *job) error { return b.program(ctx, "slurm_bb_pre_run", j, "NODES="+allNodes) }
		share, placed, err := b.placedBy(ctx, directives, preRun, "slurm_bb_setup")
		if err != nil {
			return err
		}
		j, _, err := b.kubectlCreates(ctx, directives)
		if err != nil {
			return err
		}
		written, err := b.kubectlPatches(ctx, j, patch{"servers", j.workflow() + "-0", placed}, asks(j, dwssim.Setup), asks(j, dwssim.DataIn),
			patch{"computes", j.workflow(), map[string]any{"data": nodes}}, asks(j, dwssim.PreRun))
		if err != nil {
			return err
		}
		if err := b.tearDown(j); err != nil {
			return err
		}
		ours, reference = append(ours, share), append(reference, written)
	}
	b.report.add(fmt.Sprintf("storage_pre_run_%d_nodes_ms", nodesOfStorage), "ms", median(ours), ours).beside(median(reference)).within(300)
	return nil
}

// placedBy is our share of a hook, and what it wrote into the job's Servers.
func (b *bench) placedBy(ctx context.Context, directives []string, hook func(*job) error, before ...string) (share float64, placed map[string]any, err error) {
	j, err := b.newJob(directives)
	if err != nil {
		return 0, nil, err
	}
	for _, name := range before {
		if _, err := b.waiting.fork(name, b.hookArguments(name, j)); err != nil {
			return 0, nil, err
		}
	}
	begin := monotonic()
	if err := hook(j); err != nil {
		return 0, nil, err
	}
	end := monotonic()
	servers, err := b.client.Resource(dwssim.WorkflowsResource(b.sim.Version).GroupVersion().WithResource("servers")).
		Namespace(namespace).Get(ctx, j.workflow()+"-0", metav1.GetOptions{})
	if err != nil {
		return 0, nil, err
	}
	sets, _, _ := unstructured.NestedSlice(servers.Object, "spec", "allocationSets")
	if len(sets) == 0 {
		return 0, nil, fmt.Errorf("%s of job %s is not placed", servers.GetName(), j.id)
	}
	if err := b.tearDown(j); err != nil {
		return 0, nil, err
	}
	work, err := b.observer.work(ctx, j.workflow())
	return milliseconds(end - begin - busy(work, begin, end)), map[string]any{"spec": map[string]any{"allocationSets": sets}}, err
}

func (b *bench) tearDown(j *job) error {
	_, err := b.waiting.fork("slurm_bb_job_teardown", b.hookArguments("slurm_bb_job_teardown", j))
	return err
}

// kubectlCreates makes a job's Workflow, with our labels so that our teardown ends it, and waits
// for its Proposal.
func (b *bench) kubectlCreates(ctx context.Context, directives []string) (*job, float64, error) {
	j, err := b.newJob(directives)
	if err != nil {
		return nil, 0, err
	}
	workflow := map[string]any{
		"apiVersion": dwssim.Group + "/" + b.sim.Version, "kind": "Workflow",
		"metadata": map[string]any{"name": j.workflow(), "labels": map[string]any{
			"slurmk8s.io/managed-by": "slurmk8s", "slurmk8s.io/cluster": "bench", "slurmk8s.io/job-id": j.id}},
		"spec": map[string]any{"desiredState": dwssim.Proposal, "wlmID": "bench", "jobID": j.id,
			"userID": 1000, "groupID": 1000, "dwDirectives": directives},
	}
	took, err := b.kubectlWrites(ctx, workflow, "create", "-f")
	if err == nil {
		_, err = b.observer.ready(ctx, j.workflow(), dwssim.Proposal)
	}
	return j, took, err
}

// patch changes an object of the job; asks is the patch that asks for a state.
type patch struct {
	resource, name string
	change         map[string]any
}

func asks(j *job, state string) patch {
	return patch{"workflows", j.workflow(), map[string]any{"spec": map[string]any{"desiredState": state}}}
}

// kubectlPatches is how long the writes take, without the time in which DWS works on a state.
func (b *bench) kubectlPatches(ctx context.Context, j *job, patches ...patch) (sum float64, err error) {
	for _, p := range patches {
		took, err := b.kubectlWrites(ctx, p.change, "patch", p.resource+"."+dwssim.Group, p.name, "--type=merge", "--patch-file")
		if err != nil {
			return 0, err
		}
		sum += took
		if p.resource == "workflows" {
			state := p.change["spec"].(map[string]any)["desiredState"].(string)
			if _, err := b.observer.ready(ctx, j.workflow(), state); err != nil {
				return 0, err
			}
		}
	}
	return sum, nil
}

// kubectlWrites runs kubectl; the last argument is the file with the object.
func (b *bench) kubectlWrites(ctx context.Context, object map[string]any, args ...string) (float64, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return 0, err
	}
	file := b.path("kubectl.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, b.kubectl, append([]string{"--kubeconfig", b.server.Kubeconfig(), "-n", namespace}, append(args, file)...)...)
	command.Env = []string{"HOME=" + b.path("home")}
	_, c, err := timed(command)
	return c.wall, err
}
