package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/bundle"
	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duty is what is kept for bundles: their Leases, with all that belongs to them.
type Duty struct{}

// Used tells whether a rule allows anybody a bundle.
func (Duty) Used(cfg *slurmconf.Config) bool { return len(cfg.Bundles.Allow) > 0 }

// Role is the ClusterRole of packaging/manifests/bundles.yaml. A RoleBinding binds it in
// each namespace that is open to bundles.
const Role = "slurmk8s-bundles"

// RoleList is what List needs where rules describe namespaces by a pattern. A
// ClusterRoleBinding binds it.
const RoleList = "slurmk8s-bundles-list"

// Rights are those of the credential that makes and removes the objects.
func (Duty) Rights(cfg *slurmconf.Config) []duty.Rights {
	var rights []duty.Rights
	needed := resources(cfg.Bundles.Dirs)
	for _, namespace := range cfg.Bundles.Named() {
		rights = append(rights, duty.Rights{Role: Role, Namespace: namespace, Kubeconfig: cfg.Bundles.Kubeconfig, Only: needed})
	}
	if cfg.Bundles.HasPatterns() {
		rights = append(rights, duty.Rights{Role: RoleList, Kubeconfig: cfg.Bundles.Kubeconfig, Only: needed})
	}
	return rights
}

// resources are those of all installed bundles, and what every bundle needs. nil: this host
// has no bundle, or one that cannot be read, so that nobody knows.
func resources(dirs []string) map[schema.GroupResource]bool {
	needed := map[schema.GroupResource]bool{
		job.Leases.GroupResource(): true, podsGVR.GroupResource(): true, slicesGVR.GroupResource(): true,
	}
	names, err := bundle.Names(dirs)
	if err != nil || len(names) == 0 {
		return nil
	}
	for _, name := range names {
		b, err := bundle.Find(dirs, name)
		if err != nil {
			return nil
		}
		for _, kind := range b.Kinds() {
			if resource, known := Resource(kind.GroupVersion().String(), kind.Kind); known {
				needed[resource.GroupResource()] = true
			}
			if kind.Group == argoGroup { // the arguments are compared with the template's parameters
				needed[schema.GroupResource{Group: argoGroup, Resource: "workflowtemplates"}] = true
			}
		}
	}
	return needed
}

// Client reaches Kubernetes with the credential for bundles.
func Client(cfg *slurmconf.Config, purpose string, log *logrus.Entry, change ...func(*kube.Options)) (*kube.Client, error) {
	return kube.For(cfg, cmp.Or(cfg.Bundles.Kubeconfig, cfg.Kubernetes.Kubeconfig), purpose, log, change...)
}

// List returns the bundles of jobs, each with all its objects as one. A job that waits
// needs its bundle too: it was staged for it.
func (Duty) List(ctx context.Context, h duty.Host) ([]duty.Object, error) {
	client := h.Kube
	if h.Config.Bundles.Kubeconfig != "" {
		var err error
		if client, err = Client(h.Config, "bundles", h.Log); err != nil {
			return nil, err
		}
	}
	selector := job.ClusterBundleSelector(h.Config.Cluster)
	if h.Job != 0 {
		selector = job.Job{Cluster: h.Config.Cluster, ID: h.Job}.BundleSelector()
	}
	var objects []duty.Object
	var failed []error
	namespaces := h.Config.Bundles.Searched()
	for n := 0; n < len(namespaces); n++ {
		found, err := client.Objects(job.Leases, namespaces[n]).List(ctx, kube.Selection{Labels: selector, Trim: kube.Lean})
		if err != nil {
			failed = append(failed, err)
			if namespaces[n] == "" && kube.Is(err, kube.Denied) {
				namespaces = append(namespaces, h.Config.Bundles.Named()...) // at least these
			}
			continue
		}
		for i := range found {
			o, ours := duty.FromKubernetes(&found[i], h.Config.Cluster, "")
			if !ours {
				continue
			}
			of, _ := job.Of(&found[i], h.Config.Cluster)
			d := &Driver{Kube: client, Job: of, Log: h.Log}
			o.Remove = func(ctx context.Context) error { return d.end(ctx, &found[i]) }
			l, damaged := read(&found[i])
			o.Name = "bundle " + l.Namespace + "/" + l.Instance
			o.Detail = fmt.Sprintf("%s, %d objects", cmp.Or(string(l.State), "claimed"), len(l.Items)) + o.Detail
			if damaged != nil {
				o.Wrong = damaged.Error()
			}
			if l.State == StateFailed {
				o.Wrong = l.GetAnnotations()[annotationReason]
			}
			if h.Job != 0 && l.State == StateStaging { // one job is worth a look at its objects
				o.Detail = d.progress(ctx, l).String()
			}
			objects = append(objects, o)
		}
	}
	return objects, errors.Join(failed...)
}

// String is "phase 2 of 4 (locales), 1 of 2 ready: deployment x: 0 of 2 available".
func (p Progress) String() string {
	if p.State == StateReady {
		return "ready"
	}
	return join(fmt.Sprintf("phase %d of %d (%s), %d of %d ready", p.N, p.Of, p.Phase, p.Ready, p.All), p.Reason)
}
