package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// evict asks for a pod's eviction until it is granted, refused for good, or ctx ends.
// A granted one still has its grace period before it. The pod is named by its UID:
// one recreated under its name is another one, and not on this node, or is told by
// the watch.
//
// note is told why an attempt failed, whether or not it is made again.
func (b *Driver) evict(ctx context.Context, p pod, grace time.Duration, note func(error)) error {
	eviction := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1",
		"kind":       "Eviction",
		"metadata":   map[string]any{"name": p.Name, "namespace": p.Namespace},
		"deleteOptions": map[string]any{
			"preconditions":      map[string]any{"uid": string(p.UID)},
			"gracePeriodSeconds": graceSeconds(p, grace),
		},
	}}
	var pauses kube.Pauses
	begun := time.Now()
	for {
		var final error
		err := b.Kube.Do(ctx, fmt.Sprintf("evict %s", p), func(attempt context.Context) error {
			if !b.slot(ctx) {
				return ctx.Err()
			}
			defer b.free()
			_, err := b.Kube.Dynamic.Resource(Pods).Namespace(p.Namespace).Create(attempt, eviction, metav1.CreateOptions{}, "eviction")
			if err != nil {
				note(fmt.Errorf("evict %s: %s", p, reason(err)))
			}
			if severalBudgets(err) { // Do would take it for a server that is down
				final = fmt.Errorf("evict %s: %s", p, kube.Reason(err))
				return nil
			}
			return err
		})
		if final != nil {
			return final
		}
		err = leaves(err)
		// 409: another pod has its name now; the watch will say so, and end ctx. An admission
		// webhook or policy may allow later what it refuses now, as a disruption budget does.
		again := kube.Is(err, kube.Conflict) || kube.Is(err, kube.Refusal) || kube.Is(err, kube.Denied) && time.Since(begun) < bindingLag
		if !again || pauses.Wait(ctx) != nil {
			return err
		}
	}
}

// graceSeconds is the pod's own grace period within the budget. It is never 0: then the
// API server would forget the pod at once, while its kubelet still ends it.
func graceSeconds(p pod, budget time.Duration) int64 {
	return max(int64(min(budget, p.grace)/time.Second), 1)
}

// bindingLag is for how long after a pod was bound the API server may not know that it
// is the kubelet's own, and refuse: NodeRestriction goes by a cache.
const bindingLag = 3 * time.Second

// reason is the disruption budget's name and numbers where it was one that refused.
func reason(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == disruptionBudget {
				return cause.Message
			}
		}
	}
	return kube.Reason(err)
}

// disruptionBudget is policyv1.DisruptionBudgetCause.
const disruptionBudget metav1.CauseType = "DisruptionBudget"

// remove deletes a pod without asking its disruption budgets.
func (b *Driver) remove(ctx context.Context, p pod, grace time.Duration, note func(error)) error {
	seconds := graceSeconds(p, grace)
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}, GracePeriodSeconds: &seconds}
	err := b.Kube.Do(ctx, fmt.Sprintf("delete %s", p), func(attempt context.Context) error {
		if !b.slot(ctx) {
			return ctx.Err()
		}
		defer b.free()
		err := b.Kube.Dynamic.Resource(Pods).Namespace(p.Namespace).Delete(attempt, p.Name, options)
		if err != nil {
			note(fmt.Errorf("delete %s: %s", p, kube.Reason(err)))
		}
		return err
	})
	if kube.Is(err, kube.Conflict) {
		return nil // another pod has its name now
	}
	return leaves(err)
}

// leaves is nil for the errors after which a pod goes by itself or is gone already:
// there is none of this name (404), or its whole namespace is being deleted (403).
func leaves(err error) error {
	var request *kube.RequestError
	switch {
	case kube.Is(err, kube.NotFound):
		return nil
	case errors.As(err, &request) && apierrors.HasStatusCause(request.Err, namespaceTerminating):
		return nil
	}
	return err
}

// namespaceTerminating is corev1.NamespaceTerminatingCause.
const namespaceTerminating metav1.CauseType = "NamespaceTerminating"

// severalBudgets recognizes the API server's answer when more than one disruption
// budget covers a pod: it evicts no such pod, however long it is asked.
func severalBudgets(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusInternalServerError &&
		strings.Contains(status.Status().Message, "more than one PodDisruptionBudget")
}

// slot waits for one of the places of requests at once; false: ctx ended.
func (b *Driver) slot(ctx context.Context) bool {
	select {
	case b.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Driver) free() { <-b.slots }
