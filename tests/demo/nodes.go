package main

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/tests/e2e/testbed"
)

//go:embed nodes.sh
var nodesScript string

//go:embed nodes.yaml
var nodesPods string

const (
	podsNamespace = "shared" // tests/e2e/workload/deploy.yaml
	podsOfDemo    = 8
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// showNodes runs a job that takes its nodes from Kubernetes while pods run on them: the nodes are
// closed, the pods leave, the job runs alone, and they come back.
func showNodes(ctx context.Context, cluster *testbed.Cluster, jobs *testbed.Jobs) error {
	fmt.Printf("  Pods run on the nodes, and %s submits a job that takes them:\n\n", user)
	if err := deployPods(ctx, cluster); err != nil {
		return err
	}
	defer removePods(cluster)
	view := &nodesView{cluster: cluster, began: time.Now()}
	if err := until(ctx, func() (bool, error) {
		err := view.look(ctx)
		return view.total() == podsOfDemo && view.onWorkers() > 0, err
	}); err != nil {
		return fmt.Errorf("the pods do not run: %w", err)
	}
	id, err := submit(ctx, cluster, nodesScript)
	if err != nil {
		return err
	}
	view.begin(id)
	alone := false
	if err := until(ctx, func() (bool, error) {
		if err := view.look(ctx); err != nil {
			return false, err
		}
		job := jobs.Get(id)
		if job.State() == "RUNNING" && job["Reason"] != "Prolog" {
			view.say("RUNNING, alone", "")
			alone = true
			if n := view.onWorkers(); n > 0 {
				return false, fmt.Errorf("%d pods run next to the job", n)
			}
		} else if job != nil {
			view.say(map[bool]string{true: "its nodes are made ready", false: job.State()}[job.State() == "RUNNING"], "")
		}
		return job != nil && !slices.Contains([]string{"PENDING", "RUNNING", "COMPLETING"}, job.State()), nil
	}); err != nil {
		return err
	}
	if state := jobs.Get(id).State(); state != "COMPLETED" || !alone {
		return fmt.Errorf("the job ended %s: %s", state, jobs.Get(id)["AdminComment"])
	}
	if err := until(ctx, func() (bool, error) {
		err := view.look(ctx)
		return view.total() == podsOfDemo && view.onWorkers() > 0 && !view.closed(), err
	}); err != nil {
		return fmt.Errorf("the pods do not come back: %w", err)
	}
	fmt.Printf("\n  The nodes are Kubernetes's again.\n\n")
	return nil
}

// nodesView prints what changes: the job on the left, the nodes on the right.
type nodesView struct {
	cluster *testbed.Cluster
	began   time.Time
	job     string            // what was said of it last
	nodes   map[string]string // likewise, by node; nil: nothing is printed yet
	pods    map[string]int    // that run on it
}

func (v *nodesView) begin(id uint32) {
	v.began = time.Now()
	v.nodes = map[string]string{}
	fmt.Printf("    %8s   %-28s %s\n", "", fmt.Sprintf("Slurm: job %d", id), "Kubernetes")
}

// say prints what is new about the job, or else about a node.
func (v *nodesView) say(job, node string) {
	if node == "" && job == v.job {
		return
	}
	if node == "" {
		v.job = job
	}
	fmt.Printf("    %6.2f s   %-28s %s\n", time.Since(v.began).Seconds(), job, node)
}

func (v *nodesView) look(ctx context.Context) error {
	pods, err := v.cluster.Kube.Resource(node.Pods).Namespace(podsNamespace).List(ctx, metav1.ListOptions{LabelSelector: "demo"})
	if err != nil {
		return err
	}
	v.pods = map[string]int{}
	for _, p := range pods.Items {
		name, _, _ := unstructured.NestedString(p.Object, "spec", "nodeName")
		phase, _, _ := unstructured.NestedString(p.Object, "status", "phase")
		if phase == "Running" {
			v.pods[name]++
		}
	}
	if v.nodes == nil {
		return nil
	}
	nodes, err := v.cluster.Kube.Resource(node.Nodes).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		state := fmt.Sprintf("%-24s pods: %d", n.GetName(), v.pods[n.GetName()])
		if unschedulable, _, _ := unstructured.NestedBool(n.Object, "spec", "unschedulable"); unschedulable {
			state += ", closed by " + n.GetAnnotations()[node.AnnotationHolders]
		}
		if v.nodes[n.GetName()] != state {
			v.nodes[n.GetName()] = state
			v.say("", state)
		}
	}
	return nil
}

func (v *nodesView) total() (count int) {
	for n := range maps.Values(v.pods) {
		count += n
	}
	return count
}

func (v *nodesView) onWorkers() (count int) {
	for _, n := range v.cluster.Nodes {
		count += v.pods[n.Name]
	}
	return count
}

func (v *nodesView) closed() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(v.nodes)), func(state string) bool { return strings.Contains(state, "closed") })
}

func deployPods(ctx context.Context, cluster *testbed.Cluster) error {
	resource := cluster.Kube.Resource(deployments).Namespace(podsNamespace)
	template, err := resource.Get(ctx, "workload", metav1.GetOptions{})
	if err != nil {
		return err
	}
	containers, _, _ := unstructured.NestedSlice(template.Object, "spec", "template", "spec", "containers")
	image := containers[0].(map[string]any)["image"].(string)
	for text := range strings.SplitSeq(strings.ReplaceAll(nodesPods, "@IMAGE@", image), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			return err
		}
		if _, err := resource.Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

func removePods(cluster *testbed.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, name := range []string{"web", "batch"} {
		_ = cluster.Kube.Resource(deployments).Namespace(podsNamespace).Delete(ctx, name, metav1.DeleteOptions{})
	}
}
