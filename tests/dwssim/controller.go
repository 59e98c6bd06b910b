package dwssim

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"
)

const (
	// workers is how many Workflows move at once; each spends its time waiting for the API.
	workers = 16
	// requestDeadline bounds one write: a server that hangs must not hold the workers.
	requestDeadline = 10 * time.Second
	// A failed Workflow or watch is tried again after a time that doubles between these.
	retryFirst = 5 * time.Millisecond
	retryMax   = 500 * time.Millisecond
)

// controller carries out the plans of next. It keeps the newest known Workflows by a watch.
type controller struct {
	client  dynamic.Interface
	version string
	logf    func(format string, args ...any)
	queue   workqueue.TypedRateLimitingInterface[types.NamespacedName]
	stopped atomic.Bool
	// nnf does the work of NNF's drivers; nil leaves it to the machine.
	nnf *nnf

	mu         sync.Mutex
	known      map[types.NamespacedName]*Workflow
	persistent map[string]bool
}

func newController(client dynamic.Interface, version string, logf func(string, ...any)) *controller {
	return &controller{
		client:  client,
		version: version,
		logf:    logf,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](retryFirst, retryMax)),
		known:      map[types.NamespacedName]*Workflow{},
		persistent: map[string]bool{},
	}
}

// run works until ctx ends, whatever the API server does.
func (c *controller) run(ctx context.Context) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { c.work(ctx) })
	}
	if c.nnf != nil {
		c.nnf.watch(ctx, &all, c.lookAt)
	}
	follower{
		resource: c.client.Resource(WorkflowsResource(c.version)), what: "workflows", logf: c.logf,
		replace: c.replace, learn: c.learn, forget: func(object *unstructured.Unstructured) { c.forget(keyOf(object)) },
	}.run(ctx)
	c.queue.ShutDown()
	all.Wait()
}

func (c *controller) replace(items []unstructured.Unstructured) {
	listed := map[types.NamespacedName]bool{}
	for i := range items {
		key := keyOf(&items[i])
		listed[key] = true
		c.learn(&items[i])
		// Even if it has not changed: what failed during an outage is looked at again.
		c.queue.Add(key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.known {
		if !listed[key] {
			delete(c.known, key)
		}
	}
}

func (c *controller) learn(object *unstructured.Unstructured) {
	workflow, err := FromUnstructured(object)
	if err != nil {
		c.logf("%v", err)
		return
	}
	if c.remember(workflow) {
		c.queue.Add(keyOf(object))
	}
}

// remember keeps the newer of two versions, of two Workflows of a name too: the watch brings back
// late what this controller wrote or read itself. It returns false for what is not new.
func (c *controller) remember(w *Workflow) bool {
	key := types.NamespacedName{Namespace: w.Namespace, Name: w.Name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, found := c.known[key]; found && !newer(w.ResourceVersion, before.ResourceVersion) {
		return false
	}
	c.known[key] = w
	return true
}

func (c *controller) forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, key)
}

// lookAt has a Workflow looked at again, if it is known; the zero name means all.
func (c *controller) lookAt(key types.NamespacedName) {
	if key == (types.NamespacedName{}) {
		c.lookAtAll()
	} else if c.get(key) != nil {
		c.queue.Add(key)
	}
}

// lookAtAll has every Workflow looked at again.
func (c *controller) lookAtAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.known {
		c.queue.Add(key)
	}
}

func (c *controller) persistentNames() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{}
	for _, name := range sortedKeys(c.persistent) {
		if c.persistent[name] {
			names = append(names, name)
		}
	}
	return names
}

func (c *controller) get(key types.NamespacedName) *Workflow {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[key]
}

func (c *controller) work(ctx context.Context) {
	for {
		key, shutdown := c.queue.Get()
		if shutdown {
			return
		}
		wake, err := c.sync(ctx, key)
		switch {
		case err != nil && ctx.Err() == nil:
			c.logf("workflow %s: %v", key, err)
			c.queue.AddRateLimited(key)
		case err == nil:
			c.queue.Forget(key)
			if !wake.IsZero() {
				c.queue.AddAfter(key, time.Until(wake))
			}
		}
		c.queue.Done(key)
	}
}

// sync carries out plans until there is nothing left to do now.
func (c *controller) sync(ctx context.Context, key types.NamespacedName) (time.Time, error) {
	for {
		workflow := c.get(key)
		if workflow == nil || ctx.Err() != nil || c.stopped.Load() {
			return time.Time{}, nil
		}
		acted, wake, err := c.act(ctx, workflow)
		if !acted && err == nil {
			return wake, nil
		}
		switch {
		case apierrors.IsConflict(err):
			// Somebody else wrote. Its event may be on the way; a read is sure.
			if err := c.refresh(ctx, key); err != nil {
				return time.Time{}, err
			}
		case apierrors.IsNotFound(err):
			// Deleted: the watch says so too, but a new one of that name may be known already.
			return time.Time{}, nil
		case err != nil:
			return time.Time{}, err
		}
	}
}

// act carries out one plan, of DWS or else of NNF. It returns false if there was nothing to do, and
// when there will be.
func (c *controller) act(ctx context.Context, workflow *Workflow) (bool, time.Time, error) {
	now := time.Now()
	p := next(workflow, now, c.nnf != nil)
	if p.write != nil {
		return true, time.Time{}, c.carryOut(ctx, p)
	}
	if c.nnf == nil {
		return false, p.wake, nil
	}
	s, err := c.nnf.act(ctx, workflow, now)
	if err != nil {
		return false, time.Time{}, err
	}
	s.wakeAt(p.wake)
	if s.write != nil {
		return true, time.Time{}, c.carryOut(ctx, plan{write: s.write})
	}
	return len(s.changes) > 0, s.wake, nil
}

func (c *controller) refresh(ctx context.Context, key types.NamespacedName) error {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	object, err := c.client.Resource(WorkflowsResource(c.version)).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	workflow, err := FromUnstructured(object)
	if err != nil {
		return err
	}
	c.remember(workflow)
	return nil
}

func (c *controller) carryOut(ctx context.Context, p plan) error {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	if p.createComputes {
		if err := c.createComputes(ctx, p.write); err != nil {
			return err
		}
	}
	if p.deleteComputes {
		if err := c.deleteComputes(ctx, p.write); err != nil {
			return err
		}
	}
	object, err := p.write.Unstructured()
	if err != nil {
		return err
	}
	written, err := c.client.Resource(WorkflowsResource(c.version)).Namespace(p.write.Namespace).
		Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	if err != nil {
		return err
	}
	workflow, err := FromUnstructured(written)
	if err != nil {
		return err
	}
	c.mu.Lock()
	maps.Copy(c.persistent, persistent(workflow))
	c.mu.Unlock()
	c.remember(workflow) // even if it is gone by this: until the watch says so it may bring earlier versions
	return nil
}

func (c *controller) createComputes(ctx context.Context, w *Workflow) error {
	owner := metav1.NewControllerRef(w, WorkflowsResource(c.version).GroupVersion().WithKind("Workflow"))
	computes := &unstructured.Unstructured{Object: map[string]any{}}
	computes.SetAPIVersion(Group + "/" + c.version)
	computes.SetKind("Computes")
	computes.SetName(w.Name)
	computes.SetLabels(map[string]string{
		Group + "/owner.kind": "Workflow", Group + "/owner.name": w.Name,
		Group + "/owner.namespace": w.Namespace, Group + "/owner.uid": string(w.UID),
		Group + "/workflow.name": w.Name, Group + "/workflow.namespace": w.Namespace, Group + "/workflow.uid": string(w.UID),
	})
	computes.SetOwnerReferences([]metav1.OwnerReference{*owner})
	_, err := c.client.Resource(ComputesResource(c.version)).Namespace(w.Namespace).
		Create(ctx, computes, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create computes: %w", err)
	}
	return nil
}

// deleteComputes does not rely on the garbage collector: the api tier has none.
func (c *controller) deleteComputes(ctx context.Context, w *Workflow) error {
	err := c.client.Resource(ComputesResource(c.version)).Namespace(w.Namespace).Delete(ctx, w.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete computes: %w", err)
	}
	return nil
}

func keyOf(object metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

// newer compares resource versions. Those of Kubernetes are numbers; others always count as
// newer, so that nothing is missed.
func newer(a, b string) bool {
	first, errA := strconv.ParseUint(a, 10, 64)
	second, errB := strconv.ParseUint(b, 10, 64)
	return errA != nil || errB != nil || first > second
}
