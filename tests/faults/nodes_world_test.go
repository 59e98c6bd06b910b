package faults

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/node"
)

// podEnd is how long a simulated kubelet takes to end a pod.
const podEnd = 50 * time.Millisecond

// kubelets ends all pods that are deleted, until ctx ends: the API server has no
// kubelet.
func (w *world) kubelets(ctx context.Context) error {
	pods := w.client.Resource(node.Pods)
	stream, err := pods.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	go func() {
		for {
			event, ok := <-stream.ResultChan()
			if !ok {
				if stream, err = pods.Watch(ctx, metav1.ListOptions{}); err != nil {
					return
				}
				continue
			}
			o, isPod := event.Object.(*unstructured.Unstructured)
			if !isPod || event.Type == "DELETED" || o.GetDeletionTimestamp() == nil {
				continue
			}
			time.AfterFunc(podEnd, func() {
				now, uid := int64(0), o.GetUID()
				_ = pods.Namespace(o.GetNamespace()).Delete(ctx, o.GetName(),
					metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid}})
			})
		}
	}()
	return nil
}

// nodesOf are the job's nodes: in Slurm and in Kubernetes they have one name.
func nodesOf(c *Job) []string {
	return []string{fmt.Sprintf("node-%d-a", c.JobID), fmt.Sprintf("node-%d-b", c.JobID)}
}

// otherHolder is a job that lives, of the job's cluster.
func otherHolder(c *Job) string { return fmt.Sprintf("%s/%d/0=reclaim", c.Cluster, livingJob) }

func newNode(name string, annotations, labels map[string]any, cordoned bool) *unstructured.Unstructured {
	spec := map[string]any{"podCIDR": "10.9.0.0/24"}
	if cordoned {
		spec["unschedulable"] = true
	}
	o := newObject("v1", "Node", name, labels, map[string]any{"spec": spec})
	_ = unstructured.SetNestedMap(o.Object, annotations, "metadata", "annotations")
	return o
}

// newPod is one of a kind of controller, on a node.
func newPod(name, on, controller string) *unstructured.Unstructured {
	o := newObject("v1", "Pod", name, nil, map[string]any{"spec": map[string]any{
		"nodeName": on, "terminationGracePeriodSeconds": int64(1),
		"containers": []any{map[string]any{"name": "main", "image": "registry.invalid/main"}},
	}})
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: controller, Name: "owner",
		UID: "00000000-0000-0000-0000-000000000001", Controller: new(true)}})
	return o
}

// addForeignNodes makes the place's bystanders: nodes that others closed or hold.
func (w *world) addForeignNodes(ctx context.Context, p Site) error {
	held := func(holders string) map[string]any {
		return map[string]any{node.AnnotationHolders: holders, node.AnnotationChanged: "cordon"}
	}
	by := func(cluster string) map[string]any { return map[string]any{node.LabelHeldBy: cluster} }
	for _, o := range []*unstructured.Unstructured{
		newNode(p.Namespace+"-cordoned", map[string]any{"note": "an administrator's"}, nil, true),
		newNode(p.Namespace+"-living", held(fmt.Sprintf("%s/%d/0=reclaim", p.Cluster, livingJob)), by(p.Cluster), true),
		newNode(p.Namespace+"-elsewhere", held("other/77/0=reclaim"), by("other"), true),
	} {
		if err := w.byHand(ctx, "", o); err != nil {
			return err
		}
	}
	return w.byHand(ctx, p.Namespace, newPod("web-elsewhere", p.Namespace+"-cordoned", "ReplicaSet"))
}

// addNode makes one of the job's nodes: two pods that may be evicted, and one
// that may not.
func (w *world) addNode(ctx context.Context, c *Job, name string, s nodeSituation) error {
	var annotations, labels map[string]any
	if s.shared {
		annotations = map[string]any{node.AnnotationHolders: otherHolder(c), node.AnnotationChanged: "cordon"}
		labels = map[string]any{node.LabelHeldBy: c.Cluster}
	}
	o := newNode(name, annotations, labels, s.cordoned)
	if err := w.byHand(ctx, "", o); err != nil {
		return err
	}
	// In place of the taint that says that a new node is not ready; and for a shared
	// node the cordon, as the other job's.
	if err := w.patchNode(ctx, name, "kubectl", `{"spec":{"taints":[{"key":"site","value":"hpc","effect":"PreferNoSchedule"}]}}`); err != nil {
		return err
	}
	if s.shared {
		if err := w.patchNode(ctx, name, "slurmk8s", `{"spec":{"unschedulable":true}}`); err != nil {
			return err
		}
	}
	for pod, controller := range map[string]string{"web-1": "ReplicaSet", "web-2": "ReplicaSet", foreignPrefix + "ds": "DaemonSet"} {
		pod += strings.TrimPrefix(name, "node")
		if err := w.byHand(ctx, c.Namespace, newPod(pod, name, controller)); err != nil {
			return err
		}
		running := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
		if _, err := w.client.Resource(node.Pods).Namespace(c.Namespace).Patch(ctx, pod, types.MergePatchType, running, metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) patchNode(ctx context.Context, name, manager, patch string) error {
	_, err := w.client.Resource(node.Nodes).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager})
	return err
}

// nodeEnd is what is there of the job on its nodes, without what differs from run
// to run.
type nodeEnd struct {
	Nodes []string // what an administrator may see of each
	Pods  []string // that were to be evicted
	Files []string // of the node
}

func (w *world) nodeEnd(ctx context.Context, c *Job) (end nodeEnd, err error) {
	anonymous := strings.NewReplacer(c.Cluster, "CLUSTER", strconv.Itoa(c.JobID), "JOB").Replace
	for _, name := range nodesOf(c) {
		o, err := w.client.Resource(node.Nodes).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return end, err
		}
		spec, _, _ := unstructured.NestedMap(o.Object, "spec")
		end.Nodes = append(end.Nodes, anonymous(fmt.Sprintf("%s spec=%s labels=%v annotations=%v", name, mustJSON(spec), o.GetLabels(), o.GetAnnotations())))
	}
	pods, err := w.client.Resource(node.Pods).Namespace(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return end, err
	}
	for _, o := range pods.Items {
		if strings.HasPrefix(o.GetName(), "web-") && o.GetName() != "web-elsewhere" {
			end.Pods = append(end.Pods, anonymous(o.GetName()))
		}
	}
	slices.Sort(end.Pods)
	end.Files, err = nodeFiles(c)
	return end, err
}

// foreignNodes is what is not the job's: other nodes, and the pods that stay.
func (w *world) foreignNodes(ctx context.Context, c *Job) (string, error) {
	var all []string
	nodes, err := w.client.Resource(node.Nodes).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	pods, err := w.client.Resource(node.Pods).Namespace(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, o := range append(nodes.Items, pods.Items...) {
		if strings.HasPrefix(o.GetName(), c.Namespace+"-") || strings.HasPrefix(o.GetName(), foreignPrefix) || o.GetName() == "web-elsewhere" {
			all = append(all, string(mustJSON(o.Object)))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), nil
}

// clearNodes removes the job's nodes and pods.
func (w *world) clearNodes(ctx context.Context, c *Job) error {
	now := int64(0)
	pods := w.client.Resource(node.Pods).Namespace(c.Namespace)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, o := range list.Items {
		if o.GetName() == "web-elsewhere" {
			continue
		}
		if err := pods.Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	for _, name := range nodesOf(c) {
		if err := w.client.Resource(node.Nodes).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
