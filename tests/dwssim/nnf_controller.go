package dwssim

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// api reads and writes objects other than Workflows.
type api struct {
	client  dynamic.Interface
	version string
}

func (a api) of(k kind, namespace string) dynamic.ResourceInterface {
	resource := a.client.Resource(k.resource(a.version))
	if k == kindNamespace {
		return resource
	}
	return resource.Namespace(namespace)
}

// read returns nil if there is no such object.
func read[T any](ctx context.Context, a api, k kind, namespace, name string) (*T, error) {
	object, err := a.of(k, namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", k.name, namespace, name, err)
	}
	return decode[T](object)
}

func list[T any](ctx context.Context, a api, k kind, namespace, selector string) ([]*T, error) {
	found, err := a.of(k, namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.plural, err)
	}
	all := make([]*T, len(found.Items))
	for i := range found.Items {
		if all[i], err = decode[T](&found.Items[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// carryOut writes changes. What is there already, or already gone, is no error: the next look shows
// it.
func (a api) carryOut(ctx context.Context, changes []change) error {
	const atOnce = 16
	errs := make([]error, len(changes))
	var group sync.WaitGroup
	tokens := make(chan struct{}, atOnce)
	for i, c := range changes {
		tokens <- struct{}{}
		group.Go(func() {
			errs[i] = a.write(ctx, c)
			<-tokens
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (a api) write(ctx context.Context, c change) error {
	resource := a.of(c.kind, c.object.GetNamespace())
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.object)
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.kind.name, key(c.object), err)
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(c.kind.resource(a.version).GroupVersion().WithKind(c.kind.name))
	options := metav1.UpdateOptions{FieldManager: fieldManager}
	switch c.verb {
	case create:
		_, err = resource.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	case update:
		_, err = resource.Update(ctx, object, options)
	case updateStatus:
		_, err = resource.UpdateStatus(ctx, object, options)
	case letGo:
		_, err = resource.Patch(ctx, c.object.GetName(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{FieldManager: fieldManager})
		if err != nil {
			break
		}
		fallthrough
	case remove:
		err = resource.Delete(ctx, c.object.GetName(), metav1.DeleteOptions{})
	}
	switch {
	case err == nil, apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && c.verb != create:
		return nil
	case apierrors.IsNotFound(err):
		// No namespace. Not wrapped: to the caller, NotFound would be the Workflow.
		return fmt.Errorf("%s %s: %v", c.kind.name, key(c.object), err)
	}
	return fmt.Errorf("%s %s: %w", c.kind.name, key(c.object), err)
}

// act does what NNF does next with a Workflow, but for the write of the Workflow.
func (n *nnf) act(ctx context.Context, w *Workflow, now time.Time) (step, error) {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	s, err := n.look(ctx, w)
	if err != nil {
		return step{}, err
	}
	next := n.next(w, s, now)
	return next, n.api.carryOut(ctx, next.changes)
}

// look reads what NNF needs to know to move a Workflow.
func (n *nnf) look(ctx context.Context, w *Workflow) (*surroundings, error) {
	s := &surroundings{
		breakdowns: map[int]*DirectiveBreakdown{}, servers: map[int]*Servers{},
		persistent: map[string]*PersistentStorageInstance{}, storages: map[string]*Storage{},
		disabled: map[string]bool{}, hung: map[string]bool{}, system: &SystemConfiguration{},
	}
	for i, text := range w.Spec.DWDirectives {
		d, err := parseDirective(text)
		if err != nil {
			continue // admission let no such directive in
		}
		if err := n.lookAtDirective(ctx, w, s, i, d); err != nil {
			return nil, err
		}
	}
	looks := looksIn[w.Status.State]
	if w.DeletionTimestamp != nil {
		looks = looksIn[Teardown]
	}
	for _, look := range looks {
		if err := look(n, ctx, w, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// looksIn is what NNF reads in a state, besides what belongs to the directives.
var looksIn = map[string][]func(*nnf, context.Context, *Workflow, *surroundings) error{
	Proposal: {(*nnf).lookAtInstances},
	Setup:    {(*nnf).lookAtInstances, (*nnf).lookAtSystem},
	DataIn:   {(*nnf).lookAtSystem},
	PreRun:   {(*nnf).lookAtSystem, (*nnf).lookAtNodes},
	PostRun:  {(*nnf).lookAtSystem, (*nnf).lookAtNodes},
	DataOut:  {(*nnf).lookAtSystem},
	Teardown: {(*nnf).lookAtInstances, (*nnf).lookAtSystem, (*nnf).lookAtNodes},
}

func (n *nnf) lookAtDirective(ctx context.Context, w *Workflow, s *surroundings, i int, d *directive) (err error) {
	servers := nameOf(w, i)
	switch d.command {
	case "create_persistent", "persistentdw":
		servers = d.args["name"]
	case "jobdw":
	case "destroy_persistent":
		s.persistent[d.args["name"]], err = read[PersistentStorageInstance](ctx, n.api, kindPersistent, w.Namespace, d.args["name"])
		return err
	default:
		return nil
	}
	if s.breakdowns[i], err = read[DirectiveBreakdown](ctx, n.api, kindBreakdown, w.Namespace, nameOf(w, i)); err != nil {
		return err
	}
	if s.servers[i], err = read[Servers](ctx, n.api, kindServers, w.Namespace, servers); err != nil {
		return err
	}
	if d.command != "jobdw" {
		s.persistent[d.args["name"]], err = read[PersistentStorageInstance](ctx, n.api, kindPersistent, w.Namespace, d.args["name"])
	}
	return err
}

// lookAtInstances reads all persistent instances: a path may name any, a profile ask for one of a pool.
func (n *nnf) lookAtInstances(ctx context.Context, w *Workflow, s *surroundings) error {
	instances, err := list[PersistentStorageInstance](ctx, n.api, kindPersistent, w.Namespace, "")
	for _, instance := range instances {
		s.persistent[instance.Name] = instance
	}
	return err
}

func (n *nnf) lookAtSystem(ctx context.Context, w *Workflow, s *surroundings) error {
	system, err := read[SystemConfiguration](ctx, n.api, kindSystem, SystemNamespace, "default")
	if err != nil {
		return err
	}
	if system != nil {
		s.system, s.hung = system, system.hung()
		s.blind = n.options.Namespaces != nil && !slices.Contains(n.options.Namespaces, w.Namespace)
	}
	storages, err := list[Storage](ctx, n.api, kindStorage, SystemNamespace, "")
	if err != nil {
		return err
	}
	for _, storage := range storages {
		s.storages[storage.Name] = storage
	}
	return nil
}

// lookAtNodes reads what concerns the job's nodes.
func (n *nnf) lookAtNodes(ctx context.Context, w *Workflow, s *surroundings) error {
	status, err := read[SystemStatus](ctx, n.api, kindSystemStatus, SystemNamespace, "default")
	if err != nil {
		return err
	}
	if status != nil {
		for node, state := range status.Data.Nodes {
			s.disabled[node] = state == "Disabled"
		}
	}
	computes, err := n.api.client.Resource(ComputesResource(n.version)).Namespace(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil {
		data, _, _ := unstructured.NestedSlice(computes.Object, "data")
		for _, entry := range data {
			name, _, _ := unstructured.NestedString(entry.(map[string]any), "name")
			s.computes = append(s.computes, name)
		}
	}
	s.mounts, err = list[ClientMount](ctx, n.api, kindClientMount, metav1.NamespaceAll,
		workflowLabel+"name="+w.Name+","+workflowLabel+"namespace="+w.Namespace)
	return err
}

// watch looks at a Workflow again when something of it changes, and keeps the Storages. It returns
// at once; group waits for what it started.
func (n *nnf) watch(ctx context.Context, group *sync.WaitGroup, lookAt func(types.NamespacedName)) {
	storages := make(chan struct{}, 1)
	poke := func() {
		select {
		case storages <- struct{}{}:
		default:
		}
	}
	for _, k := range nnfKinds {
		changed := func(object *unstructured.Unstructured) {
			labels := object.GetLabels()
			switch {
			case k == kindStorage || k == kindSystem:
				poke()
				lookAt(types.NamespacedName{})
			default:
				// Without labels it is for all.
				lookAt(types.NamespacedName{Namespace: labels[workflowLabel+"namespace"], Name: labels[workflowLabel+"name"]})
			}
		}
		group.Go(func() {
			follower{
				resource: n.api.client.Resource(k.resource(n.version)), what: k.plural, logf: n.logf,
				replace: func([]unstructured.Unstructured) { poke(); lookAt(types.NamespacedName{}) },
				learn:   changed,
				forget: func(object *unstructured.Unstructured) {
					if k == kindServers {
						n.ledger.release(key(object))
					}
					changed(object)
				},
			}.run(ctx)
		})
	}
	computes := func(object *unstructured.Unstructured) { lookAt(keyOf(object)) }
	group.Go(func() {
		follower{
			resource: n.api.client.Resource(ComputesResource(n.version)), what: "computes", logf: n.logf,
			replace: func([]unstructured.Unstructured) { lookAt(types.NamespacedName{}) }, learn: computes, forget: computes,
		}.run(ctx)
	})
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-storages:
			}
			if err := n.keepStorages(ctx); err != nil && ctx.Err() == nil {
				n.logf("storages: %v", err)
				wait(ctx, retryMax)
				poke()
			}
		}
	})
}

// install makes the SystemConfiguration if there is none, the Storages and the namespaces of the
// nodes, and takes up what is allocated already.
func (n *nnf) install(ctx context.Context) error {
	system := n.options.systemConfiguration()
	if err := n.api.carryOut(ctx, []change{{create, kindSystem, system}}); err != nil {
		return err
	}
	if err := n.keepStorages(ctx); err != nil {
		return err
	}
	return n.recover(ctx)
}

// keepStorages brings Storages and namespaces into line with the SystemConfiguration.
func (n *nnf) keepStorages(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	system, err := read[SystemConfiguration](ctx, n.api, kindSystem, SystemNamespace, "default")
	if err != nil || system == nil {
		return err
	}
	existing, err := list[Storage](ctx, n.api, kindStorage, SystemNamespace, "")
	if err != nil {
		return err
	}
	var changes []change
	for _, rabbit := range system.Spec.StorageNodes {
		n.ledger.addRabbit(rabbit.Name)
		at := slices.IndexFunc(existing, func(s *Storage) bool { return s.Name == rabbit.Name })
		if at < 0 {
			// Its event brings us back for the status.
			changes = append(changes, change{create, kindStorage, n.newStorage(system, rabbit)})
			continue
		}
		storage := existing[at]
		n.ledger.setFull(rabbit.Name, storage.Annotations[FullAnnotation] != "")
		status := n.storageStatus(storage, rabbit, n.ledger.free(rabbit.Name))
		if storage.Spec.Mode != "Testing" && !reflect.DeepEqual(status, storage.Status) {
			changed := *storage
			changed.Status = status
			changes = append(changes, change{updateStatus, kindStorage, &changed})
		}
	}
	if !system.Status.Ready {
		changed := *system
		changed.Status.Ready = true
		changes = append(changes, change{updateStatus, kindSystem, &changed})
	}
	nodes := system.nodes()
	for _, node := range nodes {
		if !slices.Contains(n.namespaces, node) {
			namespace := &unstructured.Unstructured{Object: map[string]any{}}
			namespace.SetName(node)
			changes = append(changes, change{create, kindNamespace, namespace})
		}
	}
	if err := n.api.carryOut(ctx, changes); err != nil {
		return err
	}
	n.namespaces = nodes
	return nil
}

// recover fills the ledger from the Servers that have storage, after a restart.
func (n *nnf) recover(ctx context.Context) error {
	all, err := list[Servers](ctx, n.api, kindServers, metav1.NamespaceAll, "")
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *Servers) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, servers := range all {
		n.ledger.recover(servers)
	}
	return nil
}
