package dwssim

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
)

// Complete acts as an external driver: it waits until the Workflow is in the state, and marks
// all its unfinished drivers of that state completed, whatever they reported before.
func Complete(ctx context.Context, client dynamic.Interface, namespace, name, state string) error {
	return act(ctx, client, namespace, name, state, func(driver *Driver) {
		driver.Completed, driver.Status, driver.CompleteTime = true, Completed, microTime(time.Now())
		driver.Message, driver.Error = "", ""
	})
}

// Fail acts as an external driver that reports an error in the state. Status is a driver's
// status: Error, TransientCondition, or Running for an error that does not stop it.
func Fail(ctx context.Context, client dynamic.Interface, namespace, name, state, status, message string) error {
	return act(ctx, client, namespace, name, state, func(driver *Driver) {
		driver.Status, driver.Message, driver.Error = status, "Reported error: "+message, message
	})
}

// act changes the unfinished drivers of a state, once the Workflow is in it.
func act(ctx context.Context, client dynamic.Interface, namespace, name, state string, change func(*Driver)) error {
	version, err := StorageVersion(ctx, client)
	if err != nil {
		return err
	}
	reached := func(w *Workflow) bool { return w.Status.State == state }
	if _, err := WaitFor(ctx, client, namespace, name, "to be in "+state, reached); err != nil {
		return err
	}
	workflows := client.Resource(WorkflowsResource(version)).Namespace(namespace)
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := workflows.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		workflow, err := FromUnstructured(object)
		if err != nil {
			return err
		}
		acted := false
		for i := range workflow.Status.Drivers {
			driver := &workflow.Status.Drivers[i]
			if driver.WatchState == state && !driver.Completed {
				change(driver)
				acted = true
			}
		}
		if !acted {
			return errors.New("it has no unfinished driver")
		}
		changed, err := workflow.Unstructured()
		if err != nil {
			return err
		}
		_, err = workflows.Update(ctx, changed, metav1.UpdateOptions{FieldManager: "dwssim-test"})
		return err
	})
	if err != nil {
		return fmt.Errorf("drivers of workflow %s/%s in %s: %w", namespace, name, state, err)
	}
	return nil
}

// Ready says whether a Workflow has reached a state: the one condition that has no race.
func Ready(state string) func(*Workflow) bool {
	return func(w *Workflow) bool {
		return w.Spec.DesiredState == state && w.Status.State == state && w.Status.Ready
	}
}

// WaitFor watches a Workflow until the condition holds, and returns it. The Workflow need not
// exist yet. What is waited for is said by what in the error of a context that ended.
func WaitFor(ctx context.Context, client dynamic.Interface, namespace, name, what string, holds func(*Workflow) bool) (*Workflow, error) {
	version, err := StorageVersion(ctx, client)
	if err != nil {
		return nil, err
	}
	waiting := &waiter{
		workflows: client.Resource(WorkflowsResource(version)).Namespace(namespace),
		selector:  fields.OneTermEqualSelector("metadata.name", name).String(),
		holds:     holds,
	}
	for {
		found, err := waiting.once(ctx)
		if found != nil {
			return found, nil
		}
		if !wait(ctx, retryFirst) {
			return nil, fmt.Errorf("workflow %s/%s: waited for it %s: %w (last seen: %s; %v)", namespace, name, what, ctx.Err(), waiting.last, err)
		}
	}
}

// waiter is one WaitFor.
type waiter struct {
	workflows dynamic.ResourceInterface
	selector  string
	holds     func(*Workflow) bool
	// last describes what was seen last.
	last string
}

// once lists and watches until the watch ends. It returns nil if the condition was never met.
func (w *waiter) once(ctx context.Context) (*Workflow, error) {
	list, err := w.workflows.List(ctx, metav1.ListOptions{FieldSelector: w.selector})
	if err != nil {
		return nil, err
	}
	w.last = "nothing"
	for i := range list.Items {
		if found, err := w.see(&list.Items[i]); found != nil || err != nil {
			return found, err
		}
	}
	watcher, err := w.workflows.Watch(ctx, metav1.ListOptions{FieldSelector: w.selector, ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return nil, err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		object, isObject := event.Object.(*unstructured.Unstructured)
		switch {
		case event.Type == watch.Error || !isObject:
			return nil, apierrors.FromObject(event.Object)
		case event.Type == watch.Deleted:
			w.last = "deleted"
			continue
		}
		if found, err := w.see(object); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

func (w *waiter) see(object *unstructured.Unstructured) (*Workflow, error) {
	workflow, err := FromUnstructured(object)
	if err != nil {
		return nil, err
	}
	status := workflow.Status
	w.last = fmt.Sprintf("desired=%s state=%s ready=%t status=%s %q",
		workflow.Spec.DesiredState, status.State, status.Ready, status.Status, status.Message)
	if w.holds(workflow) {
		return workflow, nil
	}
	return nil, nil
}

// StorageVersion asks the API server which version is current: a test may serve any.
func StorageVersion(ctx context.Context, client dynamic.Interface) (string, error) {
	crd, err := client.Resource(crds).Get(ctx, "workflows."+Group, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("version of DWS: %w", err)
	}
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		return "", fmt.Errorf("version of DWS: %w", err)
	}
	for _, version := range versions {
		if fields, ok := version.(map[string]any); ok && fields["storage"] == true {
			name, _ := fields["name"].(string)
			return name, nil
		}
	}
	return "", errors.New("version of DWS: no version is stored")
}
