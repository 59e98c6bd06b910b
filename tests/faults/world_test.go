package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/tests/apiserver"
	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// livingJob is a job of each place's cluster that Slurm knows and that has a
// Workflow. Nothing may ever be done to it.
const livingJob = 88

// world is the api tier: a real kube-apiserver with DWS, and the real program.
type world struct {
	config  *rest.Config
	client  dynamic.Interface
	sim     *dwssim.Sim
	program string
	// kubeconfig reaches the server past the proxies.
	kubeconfig string
	workflows  schema.GroupVersionResource
	computes   schema.GroupVersionResource
	fixtures   *fixtures

	// Of services: a client past the proxies, the node's address, and the objects
	// that belong to no job.
	kube      *kube.Client
	address   netip.Addr
	permanent map[string]bool
}

func startWorld(t *testing.T, options dwssim.Options) *world {
	t.Helper()
	// Its own 429 would be a fault that nobody planned.
	server := apiserver.ForTest(t, apiserver.Options{ExtraArgs: []string{"--enable-priority-and-fairness=false"}}) // skips under -short
	sim, err := dwssim.Start(t.Context(), server.Config(), options)
	require.NoError(t, err)
	t.Cleanup(sim.Stop)
	w := &world{config: server.Config(), sim: sim, kubeconfig: server.Kubeconfig(), program: program(t), permanent: map[string]bool{}}
	w.config.QPS = -1
	w.config.WarningHandler = rest.NoWarnings{} // about Endpoints
	w.address = nodeAddress(t)
	w.kube, err = kube.New(kube.Options{Kubeconfig: server.Kubeconfig(), RequestTimeout: 10 * time.Second, Log: quiet()})
	require.NoError(t, err)
	w.client, err = dynamic.NewForConfig(w.config)
	require.NoError(t, err)
	version := schema.GroupVersion{Group: dwssim.Group, Version: sim.Version}
	w.workflows, w.computes = version.WithResource("workflows"), version.WithResource("computes")
	w.fixtures, err = w.newFixtures(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.namespace(t.Context(), prototypeSite))
	require.NoError(t, w.kubelets(t.Context()))
	return w
}

// sitesOf are n sites.
func sitesOf(kind string, n int) []Site {
	var sites []Site
	for i := range n {
		sites = append(sites, Site{Namespace: fmt.Sprintf("faults-%s-%d", kind, i), Cluster: fmt.Sprintf("cluster-%s-%d", kind, i)})
	}
	return sites
}

func (w *world) namespace(ctx context.Context, p Site) error {
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": p.Namespace}}}
	_, err := w.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		Create(ctx, namespace, metav1.CreateOptions{})
	return err
}

// program is the slurmk8s to run: SLURMK8S_PROGRAM, or one that is built here
// and now, since one that was built before may not be of these sources.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SLURMK8S_PROGRAM"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "slurmk8s")
	build := exec.Command("go", "build", "-o", path, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// addForeign makes a place's namespace and its bystanders: what the hooks of a job
// must leave alone, byte by byte.
func (w *world) addForeign(ctx context.Context, p Site) error {
	if err := w.namespace(ctx, p); err != nil {
		return err
	}
	for name, labels := range map[string]map[string]any{
		"flux-f7":                       nil, // another workload manager's
		"bb99":                          nil, // somebody's who likes our names
		"bb77":                          ourLabels("other", 77),
		fmt.Sprintf("bb%d", livingJob):  ourLabels(p.Cluster, livingJob),
		fmt.Sprintf("bb%d-x", 55):       {"slurmk8s.io/cluster": p.Cluster}, // half of our labels
		fmt.Sprintf("job-%d-of-us", 66): ourLabels(p.Cluster, 66),           // our labels, not our name
	} {
		bystander := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": w.workflows.GroupVersion().String(), "kind": "Workflow",
			"metadata": map[string]any{"name": name, "labels": labels},
			"spec": map[string]any{"desiredState": "Setup", "wlmID": "other", "jobID": int64(1),
				"userID": int64(1), "groupID": int64(1), "dwDirectives": []any{}},
			"status": map[string]any{"state": "Setup", "ready": true, "status": "Completed"},
		}}
		if _, err := w.fixtures.client.Resource(w.workflows).Namespace(p.Namespace).Create(ctx, bystander, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return errors.Join(w.addForeignServices(ctx, p), w.addForeignNodes(ctx, p))
}

func ourLabels(cluster string, job int) map[string]any {
	return map[string]any{
		"slurmk8s.io/managed-by": "slurmk8s",
		"slurmk8s.io/cluster":    cluster,
		"slurmk8s.io/job-id":     fmt.Sprint(job),
	}
}

func (w *world) create(ctx context.Context, p Site, name string, labels, annotations map[string]any, directives []string) error {
	var job int64
	_, _ = fmt.Sscanf(name, "bb%d", &job)
	lines := make([]any, len(directives))
	for i, d := range directives {
		lines[i] = d
	}
	_, err := w.client.Resource(w.workflows).Namespace(p.Namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": w.workflows.GroupVersion().String(), "kind": "Workflow",
		"metadata": map[string]any{"name": name, "labels": labels, "annotations": annotations},
		"spec": map[string]any{"desiredState": "Proposal", "wlmID": p.Cluster, "jobID": job,
			"userID": int64(jobUID), "groupID": int64(jobUID), "dwDirectives": lines},
	}}, metav1.CreateOptions{FieldManager: "slurmk8s"})
	return err
}

// await reads a Workflow until the condition holds; nil to the condition is that
// there is none.
func (w *world) await(ctx context.Context, p Site, name string, holds func(*unstructured.Unstructured) bool) (*unstructured.Unstructured, error) {
	for {
		o, err := w.client.Resource(w.workflows).Namespace(p.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			o, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		if holds(o) {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("await workflow %s/%s: %w (last seen %v)", p.Namespace, name, ctx.Err(), o)
		case <-time.After(15 * time.Millisecond):
		}
	}
}

func ready(state string) func(*unstructured.Unstructured) bool {
	return func(o *unstructured.Unstructured) bool {
		if o == nil {
			return false
		}
		isReady, _, _ := unstructured.NestedBool(o.Object, "status", "ready")
		return isReady && asked(o) == state && text(o, "status", "state") == state
	}
}

func asked(o *unstructured.Unstructured) string { return text(o, "spec", "desiredState") }

func text(o *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(o.Object, path...)
	return s
}

// bring takes the job's Workflow to a state, ready there.
func (w *world) bring(ctx context.Context, c *Job, to string) error {
	for _, state := range dwssim.States {
		if state != "Proposal" {
			if err := w.ask(ctx, c, state); err != nil {
				return err
			}
		}
		if _, err := w.await(ctx, c.Site, c.Name(), ready(state)); err != nil {
			return err
		}
		if state == to {
			return nil
		}
	}
	return fmt.Errorf("no state %q", to)
}

// ask sets the desired state and does not wait.
func (w *world) ask(ctx context.Context, c *Job, state string) error {
	patch := fmt.Sprintf(`{"spec":{"desiredState":%q}}`, state)
	_, err := w.client.Resource(w.workflows).Namespace(c.Namespace).
		Patch(ctx, c.Name(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "slurmk8s"})
	return err
}

// foreign is everything in the place but the job's own.
func (w *world) foreign(ctx context.Context, c *Job) (string, error) {
	var all []string
	for _, resource := range []schema.GroupVersionResource{w.workflows, w.computes} {
		list, err := w.client.Resource(resource).Namespace(c.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if list.Items[i].GetName() != c.Name() {
				all = append(all, string(mustJSON(list.Items[i].Object)))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), nil
}

// endState is what a hook left of the job's job, without what differs from run
// to run: ids, times, versions, who wrote which field.
type endState struct {
	Exists       bool
	DesiredState string   `json:",omitempty"`
	Hurry        bool     `json:",omitempty"`
	Labels       []string `json:",omitempty"` // keys
	Annotations  []string `json:",omitempty"` // keys
	Computes     []string `json:",omitempty"`
	Files        []string `json:",omitempty"` // in state_dir
}

func (w *world) endState(ctx context.Context, c *Job) (any, error) {
	var end endState
	o, err := w.client.Resource(w.workflows).Namespace(c.Namespace).Get(ctx, c.Name(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		end.Exists, end.DesiredState = true, asked(o)
		end.Hurry, _, _ = unstructured.NestedBool(o.Object, "spec", "hurry")
		end.Labels, end.Annotations = keys(o.GetLabels()), keys(o.GetAnnotations())
	}
	computes, err := w.client.Resource(w.computes).Namespace(c.Namespace).Get(ctx, c.Name(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		data, _, _ := unstructured.NestedSlice(computes.Object, "data")
		for _, node := range data {
			end.Computes = append(end.Computes, fmt.Sprint(node.(map[string]any)["name"]))
		}
	}
	end.Files, err = localFiles(c)
	return end, err
}

// localFiles is state_dir: names, and of a job's environment the variables. Scripts that were
// accepted and the version of DWS are no job's: see workflow.Files.
func localFiles(c *Job) ([]string, error) {
	var files []string
	root := c.Path("state")
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "judged.") || entry.Name() == "dws-version" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if entry.Name() == "workflow" {
			content = nil // ids, times and versions
		}
		name := strings.ReplaceAll(strings.TrimPrefix(path, root+"/"), fmt.Sprint(c.JobID), "JOB")
		for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
			variable, _, _ := strings.Cut(line, "=")
			name += " " + variable
		}
		files = append(files, name)
		return nil
	})
	return files, err
}

func keys(m map[string]string) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
