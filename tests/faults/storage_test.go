package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// Each site has two rabbits of its own, with a node each: its jobs run at the same time as those
// of other sites, and what is allocated there is theirs. The profile of the site's name keeps
// Lustre, which may be anywhere, on these two.
const (
	siteLabel = "faults/site"
	// rabbitBytes is what a rabbit of the simulator has: 18 drives of 2 TiB.
	rabbitBytes = 18 * (2 << 40)
	// storageDeadline is longer than hookDeadline: slurm_bb_pre_run passes three states, in which
	// the simulator has much to do.
	storageDeadline = 20 * time.Second
)

func rabbitsOf(s Site) []string { return []string{s.Cluster + "-r1", s.Cluster + "-r2"} }

func rabbitNodes(s Site) []string { return []string{s.Cluster + "-n1", s.Cluster + "-n2"} }

// rabbits is the machine of sites.
func rabbits(sites ...Site) *dwssim.NNF {
	machine := &dwssim.NNF{Rabbits: map[string][]string{}, Profiles: dwssim.DefaultProfiles()}
	for _, s := range sites {
		for i, rabbit := range rabbitsOf(s) {
			machine.Rabbits[rabbit] = rabbitNodes(s)[i : i+1]
		}
		own := dwssim.DefaultProfile()
		own.OST.Labels = []string{siteLabel + "=" + s.Cluster}
		own.MGTMDT.Labels = own.OST.Labels
		machine.Profiles[s.Cluster] = own
	}
	return machine
}

// labelRabbits waits until a list from the API server's cache, as placement reads it, has the labels.
func (w *world) labelRabbits(t *testing.T, sites []Site) {
	t.Helper()
	storages := w.client.Resource(w.workflows.GroupVersion().WithResource("storages")).Namespace(dwssim.SystemNamespace)
	var last string
	for _, s := range sites {
		for _, rabbit := range rabbitsOf(s) {
			patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, siteLabel, s.Cluster)
			_, err := storages.Patch(t.Context(), rabbit, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			require.NoError(t, err)
			last = rabbit
		}
	}
	require.Eventually(t, func() bool {
		cached, err := storages.Get(t.Context(), last, metav1.GetOptions{ResourceVersion: "0"})
		return err == nil && cached.GetLabels()[siteLabel] != "" && text(cached, "status", "status") == "Ready"
	}, 20*time.Second, 20*time.Millisecond)
}

// networkStorage is made while the job is pending, nodesStorage when it has its nodes; then a
// container gets a token, and the job's nodes the right to read it.
func networkStorage(s Site) []string {
	return []string{"#DW jobdw type=lustre capacity=1TiB name=shared profile=" + s.Cluster}
}

func nodesStorage(Site) []string {
	return []string{
		"#DW jobdw type=xfs capacity=50GB name=fast",
		"#DW jobdw type=gfs2 capacity=50GB name=boxed requires=copy-offload",
		"#DW container name=box profile=example-success DW_JOB_foo_local_storage=boxed",
	}
}

// deadly is what is tried unless FAULTS_VARIANTS=all: a run of these takes seconds of the machine,
// and what is half placed is left by a death alone. Lost answers, races and rights are tried in
// bridge/workflow too.
var deadly = []string{"kill-after"}

// storageSituation is a hook of a job that has storage on rabbits.
type storageSituation struct {
	name, hook string
	directives func(Site) []string
	before     []string // hooks that came before it
	next       string   // what Slurm runs after it, done or not; "": the hook again
	want       storageEnd
}

func (w *world) storageScenarios() []Scenario {
	const setup, in, start, end, teardown = "slurm_bb_setup", "slurm_bb_data_in", "slurm_bb_pre_run", "slurm_bb_post_run", "slurm_bb_job_teardown"
	running := []string{setup, in, start}
	placed := storageEnd{State: "Setup", Placed: []string{"0 ost [r1:1 r2:1]", "0 mgtmdt [r1:1]"}}
	mounted := storageEnd{State: "PreRun", Placed: []string{"0 xfs [r1:1 r2:1]", "1 gfs2 [r1:1 r2:1]"}, Computes: []string{"n1", "n2"},
		Mounts: []string{"n1 mounted", "n1 mounted", "n2 mounted", "n2 mounted", "r1 mounted", "r2 mounted"},
		Rights: []string{"Role", "RoleBinding", "Secret token", "Secret token-server"}}
	unmounted := mounted
	unmounted.State, unmounted.Rights = "PostRun", mounted.Rights[2:]
	unmounted.Mounts = strings.Split(strings.ReplaceAll(strings.Join(mounted.Mounts, ","), " mounted", " unmounted"), ",")
	var all []Scenario
	for _, s := range []storageSituation{
		{name: "storage setup", hook: setup, directives: networkStorage, want: placed},
		{name: "storage setup, then teardown", hook: setup, directives: networkStorage, next: teardown},
		{name: "storage pre_run", hook: start, directives: nodesStorage, before: []string{setup, in}, want: mounted},
		{name: "storage pre_run, then teardown", hook: start, directives: nodesStorage, before: []string{setup, in}, next: teardown},
		{name: "storage post_run", hook: end, directives: nodesStorage, before: running, want: unmounted},
		{name: "storage teardown", hook: teardown, directives: nodesStorage, before: running},
		{name: "storage teardown of a pending job", hook: teardown, directives: networkStorage, before: []string{setup}},
	} {
		command := func(hook string) func(*Job) Command {
			return func(c *Job) Command {
				return Command{Argv: []string{w.program, "hook", "-0", hook}, Fields: hookFields(c, onRabbits(c))}
			}
		}
		scenario := Scenario{
			Name: s.name, Deadline: storageDeadline, Only: deadly,
			Setup:   func(ctx context.Context, c *Job) error { return w.prepareStorage(ctx, c, s) },
			Command: command(s.hook),
			Await:   w.settled,
			State:   w.storageEnd,
			Foreign: w.foreign,
			Again:   breakerRests,
			Finally: w.nothingOnRabbits,
			Cleanup: w.clearStorage,
			Verify: func(_ *Job, _ *Outcome, end any) error {
				got := end.(storageEnd)
				got.Bytes, got.Files = nil, nil // the reference of each run
				if fmt.Sprint(got) != fmt.Sprint(s.want) {
					return fmt.Errorf("there is %v, want %v", got, s.want)
				}
				return nil
			},
		}
		if s.next != "" {
			scenario.Next = command(s.next)
		}
		all = append(all, scenario)
	}
	return all
}

// onRabbits is what Slurm tells the hooks of a job that runs on both nodes.
func onRabbits(c *Job) map[string]string {
	return map[string]string{"NODES": strings.Join(rabbitNodes(c.Site), ","), "HURRY": "false"}
}

func (w *world) prepareStorage(ctx context.Context, c *Job, s storageSituation) error {
	if err := configure(c); err != nil {
		return err
	}
	config, err := os.ReadFile(c.Path("slurmk8s.toml"))
	if err != nil {
		return err
	}
	withToken := string(config) + "token = \"job\"\n"
	err = errors.Join(c.Write("slurmk8s.toml", withToken), c.Write("direct.toml", strings.Replace(withToken, c.Kubeconfig, w.kubeconfig, 1)),
		c.Write("script", "#!/bin/sh\n"+strings.Join(s.directives(c.Site), "\n")+"\n\nsrun true\n"))
	if err != nil {
		return err
	}
	return runDirectly(ctx, c, onRabbits(c), s.before...)
}

// storageEnd is what there is of the job's storage, without what differs from run to run.
type storageEnd struct {
	State    string   // that the Workflow was asked for; "": there is none
	Placed   []string // what Servers are filled with, by directive and set
	Bytes    []int64  // allocated on each rabbit
	Computes []string
	Mounts   []string // nodes
	Rights   []string // to the token, and the token
	Files    []string // in state_dir
}

func (w *world) storageEnd(ctx context.Context, c *Job) (any, error) {
	var end storageEnd
	job, err := w.endState(ctx, c)
	if err != nil {
		return nil, err
	}
	end.State, end.Computes = job.(endState).DesiredState, job.(endState).Computes
	for _, file := range job.(endState).Files {
		if !strings.HasPrefix(file, "placement.lock") {
			end.Files = append(end.Files, file)
		}
	}
	dws := w.workflows.GroupVersion()
	servers, err := w.ofJob(ctx, c, dws.WithResource("servers"), c.Namespace)
	if err != nil {
		return nil, err
	}
	for _, o := range servers {
		sets, _, _ := unstructured.NestedSlice(o.Object, "spec", "allocationSets")
		for _, set := range sets {
			end.Placed = append(end.Placed, fmt.Sprintf("%s %s", strings.TrimPrefix(o.GetName(), c.Name()+"-"), placedIn(set.(map[string]any))))
		}
	}
	mounts, err := w.ofJob(ctx, c, dws.WithResource("clientmounts"), metav1.NamespaceAll)
	if err != nil {
		return nil, err
	}
	for _, o := range mounts {
		end.Mounts = append(end.Mounts, o.GetNamespace()+" "+text(o, "spec", "desiredState"))
	}
	if end.Rights, err = w.rights(ctx, c); err != nil {
		return nil, err
	}
	for _, rabbit := range rabbitsOf(c.Site) {
		end.Bytes = append(end.Bytes, rabbitBytes-w.sim.Free(rabbit))
	}
	anonymous := strings.NewReplacer(c.Cluster+"-", "").Replace
	for _, names := range [][]string{end.Placed, end.Computes, end.Mounts} {
		for i := range names {
			names[i] = anonymous(names[i])
		}
	}
	return end, nil
}

// placedIn is an allocation set: "xfs [r1:1 r2:1]".
func placedIn(set map[string]any) string {
	storage, _, _ := unstructured.NestedSlice(set, "storage")
	var on []string
	for _, r := range storage {
		on = append(on, fmt.Sprintf("%v:%v", r.(map[string]any)["name"], r.(map[string]any)["allocationCount"]))
	}
	return fmt.Sprintf("%v %v", set["label"], on)
}

// ofJob lists what DWS has made for the job's Workflow, by name.
func (w *world) ofJob(ctx context.Context, c *Job, resource schema.GroupVersionResource, namespace string) ([]*unstructured.Unstructured, error) {
	const label = dwssim.Group + "/workflow."
	list, err := w.client.Resource(resource).Namespace(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: label + "name=" + c.Name() + "," + label + "namespace=" + c.Namespace})
	if err != nil {
		return nil, err
	}
	byName := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		byName[list.Items[i].GetNamespace()+"/"+list.Items[i].GetName()] = &list.Items[i]
	}
	var all []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all, nil
}

var (
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	roles        = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}
	roleBindings = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
)

// rights are the job's token and who may read it. What belongs to a Workflow that is gone does not
// count, since the garbage collector removes it; this cluster has none.
func (w *world) rights(ctx context.Context, c *Job) (all []string, err error) {
	workflow, err := w.client.Resource(w.workflows).Namespace(c.Namespace).Get(ctx, c.Name(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	for resource, name := range map[schema.GroupVersionResource]string{roles: "Role", roleBindings: "RoleBinding"} {
		o, err := w.client.Resource(resource).Namespace(c.Namespace).Get(ctx, "slurmk8s-"+c.Name()+"-token", metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case len(o.GetOwnerReferences()) != 1:
			all = append(all, name+" without an owner")
		case workflow != nil && o.GetOwnerReferences()[0].UID == workflow.GetUID():
			all = append(all, name)
		}
	}
	tokens, err := w.ofJob(ctx, c, secrets, c.Namespace)
	for _, o := range tokens {
		if workflow != nil && metav1.IsControlledBy(o, workflow) {
			all = append(all, "Secret "+strings.TrimPrefix(o.GetName(), c.Name()+"-"))
		}
	}
	slices.Sort(all)
	return all, err
}

// settled waits until what the Workflow had is given back, if it is gone.
func (w *world) settled(ctx context.Context, c *Job) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left, err := w.storageEnd(ctx, c)
		if err != nil || left.(storageEnd).State != "" || isNothing(left) {
			return err
		}
	}
	return nil
}

func isNothing(end any) bool { return fmt.Sprint(end) == fmt.Sprint(storageEnd{Bytes: []int64{0, 0}}) }

// nothingOnRabbits ends the job, and then nothing of it is left.
func (w *world) nothingOnRabbits(ctx context.Context, c *Job) error {
	if err := errors.Join(w.endStorageJob(ctx, c), w.settled(ctx, c)); err != nil {
		return err
	}
	left, err := w.storageEnd(ctx, c)
	if err == nil && !isNothing(left) {
		err = fmt.Errorf("there is left %+v", left)
	}
	return err
}

// endStorageJob runs the job's teardown, if it has a Workflow.
func (w *world) endStorageJob(ctx context.Context, c *Job) error {
	_, err := w.client.Resource(w.workflows).Namespace(c.Namespace).Get(ctx, c.Name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return runDirectly(ctx, c, hurry("true"), "slurm_bb_job_teardown")
}

func (w *world) clearStorage(ctx context.Context, c *Job) error {
	if err := w.endStorageJob(ctx, c); err != nil {
		return err
	}
	for _, resource := range []schema.GroupVersionResource{roles, roleBindings} {
		err := w.client.Resource(resource).Namespace(c.Namespace).Delete(ctx, "slurmk8s-"+c.Name()+"-token", metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
