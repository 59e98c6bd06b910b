package bundle

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/users"
)

// Labels are those of every object of an instance, and of its Lease.
func Labels(of job.Job, instance string) map[string]any {
	labels := map[string]any{job.LabelManagedBy: job.ManagedBy, job.LabelCluster: of.Cluster}
	if of.ID > 0 {
		labels = of.Labels()
	}
	labels[job.LabelBundle] = instance
	return labels
}

// Annotations are those of every object of a bundle, and of its Lease.
func Annotations(of job.Job, name string) map[string]any {
	annotations := map[string]any{}
	if of.ID > 0 {
		annotations = of.Annotations()
	}
	annotations[AnnotationName] = name
	return annotations
}

// PodTemplates are the kinds that describe the pods which they make, in spec.template.
var PodTemplates = map[string]bool{"Deployment": true, "StatefulSet": true, "Job": true}

// Mark gives an object of the bundle name the labels and annotations of the bridge, and its
// pods too. Pods also say in their labels who is to pay for them.
func Mark(u *unstructured.Unstructured, f Facts, name, instance string) {
	mark := func(object map[string]any, isPod bool) {
		labels := Labels(f.Job, instance)
		if isPod {
			for key, name := range map[string]string{LabelUser: f.User, LabelAccount: f.Account} {
				if name != "" {
					labels[key], _ = users.Label(name)
				}
			}
		}
		add(object, "labels", labels)
		add(object, "annotations", Annotations(f.Job, name))
	}
	mark(u.Object, u.GetKind() == "Pod")
	spec, _ := u.Object["spec"].(map[string]any)
	if template, ok := spec["template"].(map[string]any); ok && PodTemplates[u.GetKind()] {
		mark(template, true)
	}
}

// add adds entries to a map in an object's metadata.
func add(object map[string]any, key string, entries map[string]any) {
	metadata, _ := object["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		object["metadata"] = metadata
	}
	has, _ := metadata[key].(map[string]any)
	if has == nil {
		has = map[string]any{}
		metadata[key] = has
	}
	maps.Copy(has, entries)
}
