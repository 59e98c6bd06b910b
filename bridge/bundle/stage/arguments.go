package stage

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
)

// checkArguments refuses a Workflow whose template is not there, or has other parameters:
// Argo itself ignores what it does not know. Of an object for the end only those arguments
// are left that its template declares. Other kinds are left as they are.
func (d *Driver) checkArguments(ctx context.Context, set Set, u *unstructured.Unstructured, atEnd bool) error {
	resource, namespace, name, ok := bundle.WorkflowTemplate(u)
	if !ok {
		return nil
	}
	template, err := d.Kube.Objects(resource, namespace).Get(ctx, name)
	switch {
	case kube.Is(err, kube.Denied) && namespace == "": // a role in a namespace does not reach it
		return job.Refusef("%s: the controller may not read %s, so that the arguments for it cannot be checked: a ClusterRole must allow it",
			set, kube.ObjectName(resource.Resource, "", name))
	case kube.Is(err, kube.Denied):
		d.Log.Warnf("%s: the arguments of workflow %s are not checked: %v", set, u.GetName(), err)
		return nil
	case kube.Is(err, kube.Unserved):
		return fmt.Errorf("%s: Kubernetes does not serve %s (%w)", set, u.GetAPIVersion(), err)
	case err != nil:
		return fmt.Errorf("%s: %w", set, err)
	case template == nil:
		return job.Refusef("%s: %s does not exist", set, kube.ObjectName(resource.Resource, namespace, name))
	}
	if atEnd {
		bundle.KeepArguments(u, template)
	}
	var refused *job.Refused
	if err = bundle.CheckArguments(u, template); errors.As(err, &refused) {
		return &job.Refused{Text: fmt.Sprintf("%s: %s", set, refused.Text), Err: err}
	}
	return err
}
