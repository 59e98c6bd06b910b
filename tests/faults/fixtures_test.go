package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// fixtureUser is the user whom DWS's webhooks do not judge: it may store a Workflow
// that is already in PreRun. To take each of a few thousand jobs there by way of
// DWS would take most of the test's time.
const fixtureUser = "faults:fixtures"

// fixtures puts copies of a Workflow that DWS itself brought to a state into the
// sites of jobs.
type fixtures struct {
	w      *world
	client dynamic.Interface // as fixtureUser

	mu         sync.Mutex
	jobs       int
	prototypes map[string]*prototype // by situation
}

// prototype is a Workflow and its Computes, with the marks where a copy differs.
type prototype struct {
	once               sync.Once
	workflow, computes string
	err                error
}

// prototypeJob is the job id that stands in a prototype for a copy's, as
// prototypeSite does for its site. Nothing else in a Workflow looks like them.
const prototypeJob = 42420100

var prototypeSite = Site{Namespace: "faults-prototype", Cluster: "cluster-prototype"}

func (w *world) newFixtures(ctx context.Context) (*fixtures, error) {
	for kind, name := range map[string]string{
		"mutatingwebhookconfigurations":   "dws-mutating-webhook-configuration",
		"validatingwebhookconfigurations": "dws-validating-webhook-configuration",
	} {
		patch := fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/matchConditions","value":[{"name":"not-the-fixtures","expression":"request.userInfo.username != '%s'"}]}]`, fixtureUser)
		_, err := w.client.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind}).
			Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			return nil, fmt.Errorf("let %s pass %s: %w", fixtureUser, name, err)
		}
	}
	cfg := rest.CopyConfig(w.config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: fixtureUser, Groups: []string{"system:masters"}}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &fixtures{w: w, client: client, prototypes: map[string]*prototype{}}
	return s, s.awaitBypass(ctx)
}

// awaitBypass waits until the API server knows that the webhooks are passed by.
func (s *fixtures) awaitBypass(ctx context.Context) error {
	for {
		err := s.w.dryRun(ctx, s.client, "PreRun")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("webhooks still judge %s: %w", fixtureUser, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dryRun has a Workflow judged by DWS and not stored.
func (w *world) dryRun(ctx context.Context, client dynamic.Interface, state string) error {
	_, err := client.Resource(w.workflows).Namespace("default").Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": w.workflows.GroupVersion().String(), "kind": "Workflow",
		"metadata": map[string]any{"name": "probe"},
		"spec": map[string]any{"desiredState": state, "wlmID": "faults", "jobID": int64(1),
			"userID": int64(1), "groupID": int64(1), "dwDirectives": []any{}},
	}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// probe is the way of a hook's write: API server, webhooks and back.
func (w *world) probe(ctx context.Context) error { return w.dryRun(ctx, w.client, "Proposal") }

// create gives the job the Workflow of its situation, which make makes once.
func (s *fixtures) create(ctx context.Context, c *Job, situation string, make func(context.Context, *Job) error) error {
	s.mu.Lock()
	p := s.prototypes[situation]
	if p == nil {
		p = &prototype{}
		s.prototypes[situation] = p
	}
	s.mu.Unlock()
	p.once.Do(func() { p.err = s.record(ctx, p, make) })
	if p.err != nil {
		return fmt.Errorf("prototype of %s: %w", situation, p.err)
	}
	o, err := s.copy(ctx, s.w.workflows, c, p.workflow, nil)
	if err != nil {
		return err
	}
	_, err = s.copy(ctx, s.w.computes, c, p.computes, o)
	return err
}

// record makes the prototype by way of DWS and keeps what it has become. Each is
// made as a job of its own, since several are made at once.
func (s *fixtures) record(ctx context.Context, p *prototype, make func(context.Context, *Job) error) error {
	s.mu.Lock()
	s.jobs++
	c := &Job{Site: prototypeSite, JobID: prototypeJob + s.jobs}
	s.mu.Unlock()
	if err := make(ctx, c); err != nil {
		return err
	}
	for resource, to := range map[schema.GroupVersionResource]*string{s.w.workflows: &p.workflow, s.w.computes: &p.computes} {
		o, err := s.client.Resource(resource).Namespace(c.Namespace).Get(ctx, c.Name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		*to = strings.ReplaceAll(string(mustJSON(o.Object)), fmt.Sprint(c.JobID), fmt.Sprint(prototypeJob))
	}
	return nil
}

// copy stores a prototype as the job's; owner is the Workflow of a Computes.
func (s *fixtures) copy(ctx context.Context, resource schema.GroupVersionResource, c *Job, text string, owner *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	text = strings.NewReplacer(fmt.Sprint(prototypeJob), fmt.Sprint(c.JobID),
		prototypeSite.Namespace, c.Namespace, prototypeSite.Cluster, c.Cluster).Replace(text)
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		return nil, err
	}
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	if references := o.GetOwnerReferences(); owner != nil && len(references) > 0 {
		references[0].UID = owner.GetUID()
		o.SetOwnerReferences(references)
	}
	return s.client.Resource(resource).Namespace(c.Namespace).Create(ctx, o, metav1.CreateOptions{FieldManager: "slurmk8s"})
}

// clear removes the job's Workflow and Computes, in whatever state. DWS would
// let go of them by itself, at the price of a webhook and two requests.
func (s *fixtures) clear(ctx context.Context, c *Job) error {
	workflow := s.client.Resource(s.w.workflows).Namespace(c.Namespace)
	_, err := s.w.await(ctx, c.Site, c.Name(), func(o *unstructured.Unstructured) bool {
		if o == nil {
			return true
		}
		_, err := workflow.Patch(ctx, c.Name(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err == nil {
			err = workflow.Delete(ctx, c.Name(), metav1.DeleteOptions{})
		}
		return apierrors.IsNotFound(err)
	})
	if err != nil {
		return err
	}
	err = s.client.Resource(s.w.computes).Namespace(c.Namespace).Delete(ctx, c.Name(), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
