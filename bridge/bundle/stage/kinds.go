package stage

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// kind is what the driver knows of a kind of objects.
type kind struct {
	resource string
	// makes: Kubernetes makes other objects for one of this kind, and these have to end
	// before it.
	makes bool
	// readyAtOnce: there is nothing to wait for once it exists.
	readyAtOnce bool
	// ends: one of this kind is ready when it has done its work, and may then be removed by
	// its own time-to-live.
	ends bool
}

// kinds are those that a bundle may have without naming them, by apiVersion and kind. For
// any other the API server is asked.
var kinds = map[string]kind{
	"v1 ConfigMap":             {resource: "configmaps", readyAtOnce: true},
	"v1 Service":               {resource: "services"},
	"v1 Pod":                   {resource: "pods"},
	"v1 PersistentVolumeClaim": {resource: "persistentvolumeclaims"},

	"apps/v1 Deployment":  {resource: "deployments", makes: true},
	"apps/v1 StatefulSet": {resource: "statefulsets", makes: true},
	"batch/v1 Job":        {resource: "jobs", makes: true, ends: true},

	"networking.k8s.io/v1 Ingress":           {resource: "ingresses", readyAtOnce: true},
	"networking.k8s.io/v1 NetworkPolicy":     {resource: "networkpolicies", readyAtOnce: true},
	"gateway.networking.k8s.io/v1 HTTPRoute": {resource: "httproutes"},

	"policy/v1 PodDisruptionBudget":          {resource: "poddisruptionbudgets", readyAtOnce: true},
	"autoscaling/v2 HorizontalPodAutoscaler": {resource: "horizontalpodautoscalers", readyAtOnce: true},

	"monitoring.coreos.com/v1 ServiceMonitor": {resource: "servicemonitors", readyAtOnce: true},
	"monitoring.coreos.com/v1 PodMonitor":     {resource: "podmonitors", readyAtOnce: true},

	"argoproj.io/v1alpha1 Workflow":     {resource: "workflows", makes: true, ends: true},
	"argoproj.io/v1alpha1 CronWorkflow": {resource: "cronworkflows", makes: true},
}

// kindOf is what is known of an object's kind; the zero value if nothing is.
func kindOf(apiVersion, name string) kind { return kinds[apiVersion+" "+name] }

// Resource is where the API has objects of a kind that a bundle may have without naming
// it; ok is false for any other.
func Resource(apiVersion, name string) (resource schema.GroupVersionResource, ok bool) {
	k := kindOf(apiVersion, name)
	version, err := schema.ParseGroupVersion(apiVersion)
	if k.resource == "" || err != nil {
		return schema.GroupVersionResource{}, false
	}
	return version.WithResource(k.resource), true
}

// resourceOf is where the API has an object.
func (d *Driver) resourceOf(ctx context.Context, u *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	if resource, known := Resource(u.GetAPIVersion(), u.GetKind()); known {
		return resource, nil
	}
	resource, namespaced, err := d.Kube.Resource(ctx, u.GroupVersionKind())
	if kube.Is(err, kube.Unserved) || kube.Is(err, kube.NotFound) {
		return schema.GroupVersionResource{}, fmt.Errorf("%s is not served by Kubernetes", u.GetAPIVersion())
	}
	if err == nil && !namespaced {
		return schema.GroupVersionResource{}, fmt.Errorf("%s of %s is in no namespace: a bundle cannot have it", u.GetKind(), u.GetAPIVersion())
	}
	return resource, err
}
