package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// podEnd is how long pods take to end after they were evicted: the least that a job can
// wait for, on one node as on all.
const podEnd = 3 * time.Second

// mostPods is how many are evicted at once at most. With 3200 on two cores, requests
// stayed unanswered for 10 s and nothing was measured but that.
const mostPods = 1000

// reclaims measures how much later a job starts because its nodes are taken from Kubernetes:
// nodes at once, each with a client of its own as its prolog has, beside kubectl drain of one
// node after another. Node and Pod objects are real, kubelets are simulated.
func reclaims(ctx context.Context, b *bench) error {
	p, err := newPool(ctx, b)
	if err != nil {
		return err
	}
	for _, pods := range b.samples.podsPerNode {
		delay, floors := map[int]float64{}, map[int]float64{}
		for _, nodes := range b.samples.nodes {
			if nodes*pods > mostPods {
				b.report.note("%d nodes with %d pods each were not measured: more than %d pods are too many for an API server beside its kubelets on a test machine", nodes, pods, mostPods)
				continue
			}
			var took, floor []float64
			var requests float64
			for range b.samples.repeats(nodes * pods) {
				ms, _, err := p.measure(ctx, nodes, pods, p.evict)
				if err != nil {
					return fmt.Errorf("bare evictions on %d nodes with %d pods: %w", nodes, pods, err)
				}
				floor = append(floor, ms)
				if ms, requests, err = p.measure(ctx, nodes, pods, p.take); err != nil {
					return fmt.Errorf("%d nodes with %d pods: %w", nodes, pods, err)
				}
				took = append(took, ms)
			}
			delay[nodes], floors[nodes] = median(took), median(floor)
			b.report.single(fmt.Sprintf("reclaim_%d_nodes_%d_pods_over_floor", nodes, pods), "times", delay[nodes]/floors[nodes]).within(1.25)
			m := b.report.add(fmt.Sprintf("reclaim_%d_nodes_%d_pods_ms", nodes, pods), "ms", delay[nodes], took)
			r := b.report.single(fmt.Sprintf("reclaim_%d_nodes_%d_pods_requests_per_node", nodes, pods), "requests", requests)
			if pods*nodes <= 80 && nodes <= b.samples.drainedNodes {
				reference, requests, err := p.measure(ctx, nodes, pods, p.drain)
				if err != nil {
					return fmt.Errorf("kubectl drain of %d nodes: %w", nodes, err)
				}
				m.beside(reference)
				r.beside(requests)
			}
		}
		name := "reclaim_64_over_1"
		if pods != 1 {
			name = fmt.Sprintf("reclaim_64_over_1_%d_pods", pods)
		}
		if delay[64] == 0 {
			continue
		}
		b.report.single(name, "times", delay[64]/delay[1]).beside(floors[64] / floors[1]).within(1.2)
	}
	b.report.note("reclaim_*: pods take %v to end; kubectl drain, the reference, takes one node after another. The floor is one bare client "+
		"that knows the pods, and sends the same evictions; it is the reference of reclaim_64_over_1. All nodes, their kubelets and the API server share this machine", podEnd)
	return nil
}

// repeats is how often so many pods are evicted: a few thousand take a while to make.
func (s samples) repeats(pods int) int {
	if pods > 64 {
		return 1
	}
	return s.reclaims
}

// pool is the nodes of one measurement.
type pool struct {
	*bench
	admin dynamic.Interface
}

// newPool has no nodes. Its kubelets end with ctx.
func newPool(ctx context.Context, b *bench) (*pool, error) {
	config := b.server.Config()
	config.QPS = -1
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	p := &pool{bench: b, admin: admin}
	return p, p.kubelets(ctx)
}

// measure makes nodes with pods and has them emptied. It returns how long that took, in ms,
// and how many requests a node it took.
func (p *pool) measure(ctx context.Context, nodes, pods int, empty func(context.Context, []string) error) (ms, requests float64, err error) {
	names, err := p.make(ctx, nodes, pods)
	if err != nil {
		return 0, 0, err
	}
	before, err := p.requests(ctx)
	if err != nil {
		return 0, 0, err
	}
	begin := monotonic()
	if err := empty(ctx, names); err != nil {
		return 0, 0, err
	}
	ms = milliseconds(monotonic() - begin)
	after, err := p.requests(ctx)
	if err != nil {
		return 0, 0, err
	}
	left, err := p.admin.Resource(node.Pods).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err == nil && len(left.Items) > 0 {
		err = fmt.Errorf("%d pods are left", len(left.Items))
	}
	kubelets := float64(nodes * pods) // each pod's end is one request of theirs
	return ms, (after - before - kubelets) / float64(nodes), errors.Join(err, p.remove(ctx, names))
}

// take is the prologs of a job on all of its nodes.
func (p *pool) take(ctx context.Context, names []string) error {
	cfg := slurmconf.Default().Nodes
	p.lastJob++
	claim := node.Claim{Cluster: "bench", JobID: uint32(p.lastJob), Mode: node.Reclaim}
	terms := node.Terms{Grace: 30 * time.Second, Timeout: 2 * time.Minute, Policy: slurmconf.EvictFail}
	return eachAtOnce(names, len(names), func(name string) error {
		client, err := kube.New(kube.Options{Kubeconfig: p.server.Kubeconfig(), RequestTimeout: 10 * time.Second, Log: silent()})
		if err != nil {
			return err
		}
		_, err = node.New(client, &cfg, "bench", silent()).Take(ctx, node.ClaimFilesIn(p.path("run."+name)), name, claim, terms)
		return err
	})
}

// evictionsAtOnce is how many requests a bare client has under way.
const evictionsAtOnce = 64

// evict is the floor: all evictions, as fast as the API server takes them from one client that
// neither closes a node nor tells anybody, and one watch.
func (p *pool) evict(ctx context.Context, _ []string) error {
	pods := p.admin.Resource(node.Pods).Namespace(namespace)
	all, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var names []string
	for i := range all.Items {
		names = append(names, all.Items[i].GetName())
	}
	sent := make(chan error, 1)
	go func() {
		sent <- eachAtOnce(names, evictionsAtOnce, func(name string) error {
			_, err := pods.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]any{"name": name, "namespace": namespace},
			}}, metav1.CreateOptions{}, "eviction")
			return err
		})
	}()
	for len(all.Items) > 0 {
		done, err := awaitDeleted(ctx, pods, all)
		if err != nil || done {
			return errors.Join(err, <-sent)
		}
		// The API server ends the watch of a client that reads too slowly.
		if all, err = pods.List(ctx, metav1.ListOptions{}); err != nil {
			return err
		}
	}
	return <-sent
}

// awaitDeleted watches until all pods of a list are deleted; false: the watch ended before.
func awaitDeleted(ctx context.Context, pods dynamic.ResourceInterface, all *unstructured.UnstructuredList) (bool, error) {
	stream, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: all.GetResourceVersion()})
	if err != nil {
		return false, err
	}
	defer stream.Stop()
	left := len(all.Items)
	for event := range stream.ResultChan() {
		if event.Type == watch.Deleted {
			left--
		}
		if left == 0 {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// drain is the replaced sequence.
func (p *pool) drain(ctx context.Context, names []string) error {
	for _, name := range names {
		command := exec.CommandContext(ctx, p.kubectl, "--kubeconfig", p.server.Kubeconfig(), "drain", name,
			"--ignore-daemonsets", "--delete-emptydir-data", "--force")
		command.Env = []string{"HOME=" + p.path("home")}
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl drain %s: %w: %s", name, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

func (p *pool) make(ctx context.Context, nodes, pods int) ([]string, error) {
	names := make([]string, nodes)
	for i := range names {
		p.lastNode++
		names[i] = fmt.Sprintf("node-%d", p.lastNode)
		if err := os.Mkdir(p.path("run."+names[i]), 0o755); err != nil {
			return nil, err
		}
	}
	return names, eachAtOnce(names, 8, func(name string) error {
		_, err := p.admin.Resource(node.Nodes).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name},
		}}, metav1.CreateOptions{})
		for i := 0; i < pods && err == nil; i++ {
			err = p.makePod(ctx, name, fmt.Sprintf("%s-%d", name, i))
		}
		return err
	})
}

// makePod makes a pod of a ReplicaSet that runs.
func (p *pool) makePod(ctx context.Context, on, name string) error {
	pods := p.admin.Resource(node.Pods).Namespace(namespace)
	_, err := pods.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "ownerReferences": []any{map[string]any{
			"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "00000000-0000-0000-0000-000000000001", "controller": true,
		}}},
		"spec": map[string]any{"nodeName": on, "containers": []any{map[string]any{"name": "main", "image": "registry.invalid/main"}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	running := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	_, err = pods.Patch(ctx, name, types.MergePatchType, running, metav1.PatchOptions{}, "status")
	return err
}

func (p *pool) remove(ctx context.Context, names []string) error {
	now := int64(0)
	err := p.admin.Resource(node.Pods).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
	return errors.Join(err, p.deleteNodes(ctx, names))
}

func (p *pool) deleteNodes(ctx context.Context, names []string) error {
	return eachAtOnce(names, 8, func(name string) error {
		return p.admin.Resource(node.Nodes).Delete(ctx, name, metav1.DeleteOptions{})
	})
}

// kubelets end every pod that is evicted, podEnd later, until ctx ends.
func (p *pool) kubelets(ctx context.Context) error {
	pods := p.admin.Resource(node.Pods)
	stream, err := pods.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	go func() {
		ending := map[types.UID]bool{}
		for ctx.Err() == nil {
			for event := range stream.ResultChan() {
				u, ok := event.Object.(*unstructured.Unstructured)
				if !ok || event.Type == "DELETED" || u.GetDeletionTimestamp() == nil || ending[u.GetUID()] {
					continue
				}
				ending[u.GetUID()] = true
				time.AfterFunc(podEnd, func() { p.end(ctx, u) })
			}
			// The API server ends watches that are behind; the next begins with all pods.
			for stream, err = pods.Watch(ctx, metav1.ListOptions{}); err != nil && ctx.Err() == nil; {
				time.Sleep(pause)
				stream, err = pods.Watch(ctx, metav1.ListOptions{})
			}
		}
	}()
	return nil
}

// pause is between a kubelet's tries.
const pause = 100 * time.Millisecond

// end deletes a pod for good, as often as that takes on a busy API server.
func (p *pool) end(ctx context.Context, u *unstructured.Unstructured) {
	now, uid := int64(0), u.GetUID()
	for ctx.Err() == nil {
		err := p.admin.Resource(node.Pods).Namespace(u.GetNamespace()).Delete(ctx, u.GetName(),
			metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid}})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		time.Sleep(pause)
	}
}

// requests is how many the API server has answered about nodes, pods and events.
func (p *pool) requests(ctx context.Context) (sum float64, err error) {
	err = p.eachAnswer(ctx, func(labels string, n float64) {
		if aboutNodes(labels) {
			sum += n
		}
	})
	return sum, err
}

func aboutNodes(labels string) bool {
	return strings.Contains(labels, `resource="nodes"`) || strings.Contains(labels, `resource="pods"`) || strings.Contains(labels, `resource="events"`)
}

// eachAnswer calls f for each kind of request with how many of it the API server has answered.
func (p *pool) eachAnswer(ctx context.Context, f func(labels string, n float64)) error {
	client, err := rest.HTTPClientFor(p.server.Config())
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.server.Config().Host+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		labels, found := strings.CutPrefix(lines.Text(), "apiserver_request_total{")
		if !found {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(labels[strings.LastIndexByte(labels, ' ')+1:], &n); err != nil {
			return err
		}
		f(labels, n)
	}
	return lines.Err()
}

// eachAtOnce calls f for all names, some at once, and returns what failed.
func eachAtOnce(names []string, atOnce int, f func(string) error) error {
	var mutex sync.Mutex
	var failed []error
	var group sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, name := range names {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if err := f(name); err != nil {
				mutex.Lock()
				defer mutex.Unlock()
				failed = append(failed, err)
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}
