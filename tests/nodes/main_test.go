// Package nodes tests how nodes are taken from Kubernetes and given back, against a
// real API server with the Node authorizer and NodeRestriction. Kubelets are simulated:
// they end the pods that are deleted, after as long as a pod wants.
package nodes

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
	"slurmk8s.io/slurmk8s/tests/apiserver"
)

const cluster = "alps"

var budgets = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}

var shared apiserver.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// world is an administrator's view.
type world struct {
	t         *testing.T
	server    *apiserver.Server
	admin     dynamic.Interface
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, shared.Server(t))
}

func newWorldOn(t *testing.T, s *apiserver.Server) *world {
	t.Helper()
	w := &world{t: t, server: s, admin: s.Admin(t)}
	w.namespace = apiserver.NewNamespace(t, w.admin)
	return w
}

func (w *world) create(gvr schema.GroupVersionResource, namespace string, object map[string]any) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(gvr).Namespace(namespace).Create(w.t.Context(), &unstructured.Unstructured{Object: object},
		metav1.CreateOptions{FieldManager: "kubectl-create"})
	require.NoError(w.t, err)
	return u
}

// patchNode does what an administrator does with kubectl.
func (w *world) patchNode(name, patch string) {
	w.t.Helper()
	_, err := w.admin.Resource(node.Nodes).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "kubectl-cordon"})
	require.NoError(w.t, err)
}

func (w *world) cordon(name string)   { w.patchNode(name, `{"spec":{"unschedulable":true}}`) }
func (w *world) uncordon(name string) { w.patchNode(name, `{"spec":{"unschedulable":null}}`) }

// newNode makes a Node, of which the test sees to the pods.
func (w *world) newNode() string {
	w.t.Helper()
	name := apiserver.UniqueName(w.t, "node-")
	w.create(node.Nodes, "", map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"kubernetes.io/hostname": name}, "annotations": map[string]any{"note": "the site's"}},
		"spec":     map[string]any{"podCIDR": "10.9.0.0/24"},
	})
	w.t.Cleanup(func() { // reconcile looks at all that there are
		_ = w.admin.Resource(node.Nodes).Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	// In place of the one that says that the new node is not ready.
	w.patchNode(name, `{"spec":{"taints":[{"key":"site","value":"hpc","effect":"PreferNoSchedule"}]}}`)
	return name
}

// get is the Node as it is.
func (w *world) get(name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.admin.Resource(node.Nodes).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return u
}

// state is all of a Node that a person or another program may have put there.
func (w *world) state(name string) map[string]any {
	w.t.Helper()
	u := w.get(name).DeepCopy()
	u.SetManagedFields(nil)
	u.SetResourceVersion("")
	return u.Object
}

func (w *world) cordoned(name string) bool {
	w.t.Helper()
	value, _, err := unstructured.NestedBool(w.get(name).Object, "spec", "unschedulable")
	require.NoError(w.t, err)
	return value
}

func (w *world) holders(name string) string {
	w.t.Helper()
	return w.get(name).GetAnnotations()[node.AnnotationHolders]
}

// podOption changes a pod before it is made.
type podOption func(pod map[string]any)

func grace(seconds int64) podOption {
	return func(pod map[string]any) { pod["spec"].(map[string]any)["terminationGracePeriodSeconds"] = seconds }
}

func unmanaged(pod map[string]any) { delete(pod["metadata"].(map[string]any), "ownerReferences") }

func ownedBy(apiVersion, kind string) podOption {
	return func(pod map[string]any) {
		pod["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{
			"apiVersion": apiVersion, "kind": kind, "name": "owner", "uid": "00000000-0000-0000-0000-000000000001", "controller": true,
		}}
	}
}

// uncontrolled leaves a pod its owner, for the garbage collector only.
func uncontrolled(pod map[string]any) {
	delete(pod["metadata"].(map[string]any)["ownerReferences"].([]any)[0].(map[string]any), "controller")
}

func labelled(key, value string) podOption {
	return func(pod map[string]any) { pod["metadata"].(map[string]any)["labels"] = map[string]any{key: value} }
}

func annotated(key, value string) podOption {
	return func(pod map[string]any) { pod["metadata"].(map[string]any)["annotations"] = map[string]any{key: value} }
}

func withEmptyDir(pod map[string]any) {
	pod["spec"].(map[string]any)["volumes"] = []any{map[string]any{"name": "scratch", "emptyDir": map[string]any{}}}
}

func toleratingAll(pod map[string]any) {
	pod["spec"].(map[string]any)["tolerations"] = []any{map[string]any{"operator": "Exists"}}
}

// newPod makes a pod that runs on a node: one of a ReplicaSet, unless an option says
// otherwise.
func (w *world) newPod(node, name string, options ...podOption) *unstructured.Unstructured {
	w.t.Helper()
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "namespace": w.namespace},
		"spec": map[string]any{
			"nodeName": node, "terminationGracePeriodSeconds": int64(1),
			"containers": []any{map[string]any{"name": "main", "image": "registry.invalid/main"}},
		},
	}
	ownedBy("apps/v1", "ReplicaSet")(pod)
	for _, option := range options {
		option(pod)
	}
	u := w.create(podsGVR, w.namespace, pod)
	w.setPhase(name, "Running")
	return u
}

var podsGVR = node.Pods

func (w *world) setPhase(pod, phase string) {
	w.t.Helper()
	ready := map[string]string{"Running": "True"}[phase]
	if ready == "" {
		ready = "False"
	}
	_, err := w.admin.Resource(podsGVR).Namespace(w.namespace).Patch(w.t.Context(), pod, types.MergePatchType,
		[]byte(fmt.Sprintf(`{"status":{"phase":%q,"conditions":[{"type":"Ready","status":%q}]}}`, phase, ready)), metav1.PatchOptions{}, "status")
	require.NoError(w.t, err)
}

// pods are the names of the pods on a node, those that are ending included.
func (w *world) pods(node string) []string {
	w.t.Helper()
	list, err := w.admin.Resource(podsGVR).List(w.t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	require.NoError(w.t, err)
	names := []string{}
	for _, u := range list.Items {
		names = append(names, u.GetName())
	}
	slices.Sort(names)
	return names
}

// kubelet ends the pods of a node that are deleted, after delay or their grace period,
// whichever is shorter, until the test ends.
func (w *world) kubelet(name string, delay time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := w.admin.Resource(podsGVR).Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	require.NoError(w.t, err)
	var group sync.WaitGroup
	group.Go(func() {
		ending := map[types.UID]bool{}
		for event := range stream.ResultChan() {
			u, ok := event.Object.(*unstructured.Unstructured)
			if !ok || event.Type == "DELETED" || u.GetDeletionTimestamp() == nil || ending[u.GetUID()] && time.Until(u.GetDeletionTimestamp().Time) > delay {
				continue
			}
			ending[u.GetUID()] = true
			after := max(min(delay, time.Until(u.GetDeletionTimestamp().Time)), 0)
			group.Go(func() {
				select {
				case <-time.After(after):
				case <-ctx.Done():
					return
				}
				now, uid := int64(0), u.GetUID()
				_ = w.admin.Resource(podsGVR).Namespace(u.GetNamespace()).Delete(ctx, u.GetName(),
					metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid}})
			})
		}
	})
	w.t.Cleanup(func() { cancel(); stream.Stop(); group.Wait() })
}

// kubeletCredential is a kubeconfig of a node's own.
func (w *world) kubeletCredential(name string) string {
	w.t.Helper()
	path, err := w.server.UserKubeconfig("system:node:"+name, "system:nodes")
	require.NoError(w.t, err)
	return path
}

// settings are those of an empty slurmk8s.toml, but that nothing waits for long.
func settings() *slurmconf.NodeSettings {
	cfg := slurmconf.Default().Nodes
	cfg.Settle = 0
	return &cfg
}

func (w *world) driver(kubeconfig string, cfg *slurmconf.NodeSettings) *node.Driver {
	w.t.Helper()
	client, err := kube.New(kube.Options{Kubeconfig: kubeconfig, RequestTimeout: 5 * time.Second, UserAgent: "slurmk8s/test", Log: apiserver.Log(w.t)})
	require.NoError(w.t, err)
	return node.New(client, cfg, cluster, apiserver.Log(w.t))
}

// host is a compute node that is a Kubernetes node: its files and its Slurm.
type host struct {
	*world
	node, dir, config string
}

var (
	buildOnce sync.Once
	program   string
	buildErr  error
)

// slurmk8s is the program, built once.
func slurmk8s(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		var dir string
		if dir, buildErr = os.MkdirTemp("", "slurmk8s-nodes-"); buildErr != nil {
			return
		}
		program = filepath.Join(dir, "slurmk8s")
		cmd := exec.Command("go", "build", "-o", program, "slurmk8s.io/slurmk8s/bridge/cmd/slurmk8s")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, buildErr)
	return program
}

// newHost makes a host with the kubelet's credential. more are lines of [nodes] of
// slurmk8s.toml; those of the defaults that they name are replaced.
func (w *world) newHost(more ...string) *host {
	w.t.Helper()
	name := w.newNode()
	h := &host{world: w, node: name, dir: w.t.TempDir()}
	lines := map[string]string{
		"reclaim": `"all"`, "settle": `"0s"`, "kubeconfig": fmt.Sprintf("%q", w.kubeletCredential(name)), "api_timeout": `"20s"`,
		"evict_grace": `"2s"`, "min_evict_grace": `"1s"`, "evict_timeout": `"10s"`,
	}
	for _, line := range more {
		key, value, _ := strings.Cut(line, " = ")
		lines[key] = value
	}
	text := ""
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		text += key + " = " + lines[key] + "\n"
	}
	h.write("slurm.conf", 0o644, "ClusterName="+cluster+"\n")
	h.slurm("squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
	h.slurm("scontrol", "exit 0")
	h.slurm("scancel", "exit 0")
	h.config = h.write("slurmk8s.toml", 0o644, fmt.Sprintf(`
slurm_conf = %q
slurm_bin_dir = %q
[kubernetes]
kubeconfig = %q
request_timeout = "5s"
[log]
level = "debug"
file = %q
[reconcile]
min_age = "0s"
[services]
run_dir = %q
[nodes]
%s`, filepath.Join(h.dir, "slurm.conf"), h.dir, w.server.Kubeconfig(), filepath.Join(h.dir, "log"), filepath.Join(h.dir, "run"), text))
	w.t.Cleanup(func() {
		if w.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			w.t.Logf("log of the host:\n%s", log)
		}
	})
	return h
}

func (h *host) write(name string, mode os.FileMode, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	require.NoError(h.t, os.WriteFile(path, []byte(text), mode))
	return path
}

// slurm makes one of Slurm's commands: a shell script, which also notes its arguments.
func (h *host) slurm(command, script string) {
	h.t.Helper()
	h.write(command, 0o755, fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >>%s/asked\n%s\n", command, h.dir, script))
}

// asked are the commands of Slurm that were run, and forgets them.
func (h *host) asked() []string {
	h.t.Helper()
	path := filepath.Join(h.dir, "asked")
	data, _ := os.ReadFile(path)
	_ = os.Remove(path)
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}

// run runs the program and returns "STATUS OUTPUT".
func (h *host) run(args ...string) string {
	h.t.Helper()
	status, out := h.command(args...)
	return fmt.Sprintf("%d %s", status, strings.TrimSpace(out))
}

func (h *host) command(args ...string) (int, string) {
	cmd := exec.Command(slurmk8s(h.t), args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "SLURMD_NODENAME=" + h.node}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// hook runs a hook for a job; more are KEY=VALUE.
func (h *host) hook(name string, job int, more ...string) string {
	h.t.Helper()
	return h.run(h.fields(name, job, more...)...)
}

func (h *host) fields(name string, job int, more ...string) []string {
	return append([]string{
		"hook", name, "CONFIG=" + h.config, fmt.Sprintf("JOB_ID=%d", job), "UID=1000", "GID=1000",
		"NODE=" + h.node, "NODELIST=" + h.node, "RESTART_COUNT=0", "PARTITION=hpc",
	}, more...)
}

func (h *host) prolog(job int, more ...string) string { return h.hook("k8s_job_prolog", job, more...) }
func (h *host) epilog(job int, more ...string) string { return h.hook("k8s_job_epilog", job, more...) }

// files are those that the hooks left on the host, but for locks.
func (h *host) files() []string {
	h.t.Helper()
	names := []string{}
	_ = filepath.WalkDir(filepath.Join(h.dir, "run"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != ".lock" {
			names = append(names, d.Name())
		}
		return nil
	})
	return names
}

// terms are those of an unhurried job.
func terms() node.Terms {
	return node.Terms{Grace: 2 * time.Second, Timeout: time.Minute, Policy: slurmconf.EvictFail}
}
