package dwssim

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// memory is an API server of a map: with resource versions, status as a subresource of all kinds
// but Computes, SystemStatus and Secret, and finalizers. It validates nothing.
type memory struct {
	mu      sync.Mutex
	version int
	objects map[memoryKey]*unstructured.Unstructured
}

type memoryKey struct{ resource, namespace, name string }

func (m *memory) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return memoryResource{memory: m, resource: resource.Resource}
}

// memoryResource has the verbs that NNF uses; any other panics.
type memoryResource struct {
	dynamic.NamespaceableResourceInterface
	memory              *memory
	resource, namespace string
}

func (r memoryResource) Namespace(namespace string) dynamic.ResourceInterface {
	r.namespace = namespace
	return r
}

func (r memoryResource) key(name string) memoryKey { return memoryKey{r.resource, r.namespace, name} }

func (r memoryResource) hasStatus() bool {
	return r.resource != "computes" && r.resource != kindSystemStatus.plural && r.resource != kindSecret.plural
}

// put stores a copy as the newest version. One that is deleted goes when it has no finalizers.
func (r memoryResource) put(object *unstructured.Unstructured) *unstructured.Unstructured {
	r.memory.version++
	object = asSent(object)
	object.SetResourceVersion(strconv.Itoa(r.memory.version))
	at := r.key(object.GetName())
	if object.GetDeletionTimestamp() != nil && len(object.GetFinalizers()) == 0 {
		delete(r.memory.objects, at)
	} else {
		r.memory.objects[at] = object
	}
	return object.DeepCopy()
}

// asSent is an object after its way over the wire: a copy with plain JSON in it.
func asSent(object *unstructured.Unstructured) *unstructured.Unstructured {
	encoded, err := json.Marshal(object.Object)
	if err != nil {
		panic(err)
	}
	sent := &unstructured.Unstructured{}
	if err := sent.UnmarshalJSON(encoded); err != nil {
		panic(err)
	}
	return sent
}

func (r memoryResource) find(name string) (*unstructured.Unstructured, error) {
	if found := r.memory.objects[r.key(name)]; found != nil {
		return found.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: r.resource}, name)
}

func (r memoryResource) Create(_ context.Context, object *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	if r.memory.objects[r.key(object.GetName())] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: r.resource}, object.GetName())
	}
	object = asSent(object)
	object.SetUID(types.UID("uid-" + r.resource + "-" + object.GetName()))
	return r.put(object), nil
}

func (r memoryResource) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	return r.find(name)
}

func (r memoryResource) List(_ context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	selector, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, err
	}
	found := &unstructured.UnstructuredList{}
	for at, object := range r.memory.objects {
		if at.resource == r.resource && (r.namespace == "" || at.namespace == r.namespace) && selector.Matches(labels.Set(object.GetLabels())) {
			found.Items = append(found.Items, *object.DeepCopy())
		}
	}
	return found, nil
}

func (r memoryResource) Update(_ context.Context, object *unstructured.Unstructured, _ metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
	return r.update(object, func(stored *unstructured.Unstructured) *unstructured.Unstructured {
		changed := asSent(object)
		if r.hasStatus() {
			delete(changed.Object, "status")
			if status, found := stored.Object["status"]; found {
				changed.Object["status"] = runtime.DeepCopyJSONValue(status)
			}
		}
		return changed
	})
}

func (r memoryResource) UpdateStatus(_ context.Context, object *unstructured.Unstructured, _ metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	return r.update(object, func(stored *unstructured.Unstructured) *unstructured.Unstructured {
		stored.Object["status"] = asSent(object).Object["status"]
		return stored
	})
}

func (r memoryResource) update(object *unstructured.Unstructured, change func(*unstructured.Unstructured) *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	stored, err := r.find(object.GetName())
	if err != nil {
		return nil, err
	}
	if given := object.GetResourceVersion(); given != "" && given != stored.GetResourceVersion() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: r.resource}, object.GetName(), nil)
	}
	return r.put(change(stored)), nil
}

// Patch knows one patch: the one that takes all finalizers away.
func (r memoryResource) Patch(_ context.Context, name string, _ types.PatchType, _ []byte, _ metav1.PatchOptions, _ ...string) (*unstructured.Unstructured, error) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	stored, err := r.find(name)
	if err != nil {
		return nil, err
	}
	stored.SetFinalizers(nil)
	return r.put(stored), nil
}

func (r memoryResource) Delete(_ context.Context, name string, _ metav1.DeleteOptions, _ ...string) error {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	stored, err := r.find(name)
	if err != nil {
		return err
	}
	now := metav1.NewTime(epoch)
	stored.SetDeletionTimestamp(&now)
	r.put(stored)
	return nil
}
