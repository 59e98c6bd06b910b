package faults

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/address"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// serviceResources are what services are made of, in the order of their removal.
var serviceResources = []schema.GroupVersionResource{
	service.EndpointSlices, service.Endpoints, service.Services, job.Leases,
}

// foreignPrefix begins the names of the bystanders that each job gets for itself.
const foreignPrefix = "foreign-"

func objectKey(namespace string, gvr schema.GroupVersionResource, name string) string {
	return namespace + "/" + gvr.Resource + "/" + name
}

// nodeAddress is an IPv4 address of this host that may be published.
func nodeAddress(t *testing.T) netip.Addr {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range all {
		cfg := slurmconf.Default()
		cfg.Services.Address = slurmconf.AddressInterface + i.Name
		if a, err := (address.Finder{}).Find(t.Context(), cfg, "c1"); err == nil && a.Is4() {
			return a
		}
	}
	require.Fail(t, "this host has no network interface but loopback: a service needs an address that pods reach")
	return netip.Addr{}
}

// addForeignServices makes the bystanders of a place that stay: objects that look
// like the bridge's, or like those of its jobs, and are not.
func (w *world) addForeignServices(ctx context.Context, p Site) error {
	living, elsewhere := ourLabels(p.Cluster, livingJob), ourLabels("other", 77)
	halfOurs := map[string]any{"slurmk8s.io/cluster": p.Cluster, "slurmk8s.io/job-id": "78"}
	noJob := map[string]any{"slurmk8s.io/cluster": p.Cluster, "slurmk8s.io/managed-by": "slurmk8s"}
	for name, labels := range map[string]map[string]any{
		"web-2": nil, "living": living, "elsewhere": elsewhere, "half-ours": halfOurs, "no-job": noJob,
	} {
		slice := map[string]any{"kubernetes.io/service-name": name}
		for k, v := range labels {
			slice[k] = v
		}
		for _, o := range []*unstructured.Unstructured{
			newService(name, labels), newSlice(name+".c1", slice), newLease("slurm-"+p.Cluster+"-"+name, labels),
		} {
			if err := w.byHand(ctx, p.Namespace, o); err != nil {
				return err
			}
			w.permanent[objectKey(p.Namespace, resourceOf(o), o.GetName())] = true
		}
	}
	return nil
}

// addNeighbours makes neighbours of the job: its number in another
// cluster, its labels by another hand, an administrator's slice of its Service.
func (w *world) addNeighbours(ctx context.Context, c *Job) error {
	another := ourLabels(c.Cluster, c.JobID)
	another["slurmk8s.io/managed-by"] = "kubectl"
	for _, o := range []*unstructured.Unstructured{
		newService(foreignPrefix+"cluster", ourLabels("other", c.JobID)),
		newLease(foreignPrefix+"cluster", ourLabels("other", c.JobID)),
		newService(foreignPrefix+"hand", another),
		newSlice(foreignPrefix+"hand", another),
		newLease(foreignPrefix+"hand", another),
		newSlice(foreignPrefix+"slice", map[string]any{"kubernetes.io/service-name": serviceName}),
	} {
		if err := w.byHand(ctx, c.Namespace, o); err != nil {
			return err
		}
	}
	return nil
}

// byHand makes an object as an administrator does; a Node is in no namespace.
func (w *world) byHand(ctx context.Context, namespace string, o *unstructured.Unstructured) error {
	_, err := w.client.Resource(resourceOf(o)).Namespace(namespace).Create(ctx, o, metav1.CreateOptions{FieldManager: "kubectl"})
	return err
}

func resourceOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	return map[string]schema.GroupVersionResource{
		"Service": service.Services, "EndpointSlice": service.EndpointSlices, "Endpoints": service.Endpoints,
		"Lease": job.Leases, "Node": node.Nodes, "Pod": node.Pods, "ConfigMap": configMaps,
	}[o.GetKind()]
}

func newObject(apiVersion, kind, name string, labels map[string]any, more map[string]any) *unstructured.Unstructured {
	more["apiVersion"], more["kind"] = apiVersion, kind
	more["metadata"] = map[string]any{"name": name, "labels": labels}
	return &unstructured.Unstructured{Object: more}
}

func newService(name string, labels map[string]any) *unstructured.Unstructured {
	ports := []any{map[string]any{"port": int64(80), "protocol": "TCP"}}
	return newObject("v1", "Service", name, labels, map[string]any{"spec": map[string]any{"ports": ports}})
}

func newSlice(name string, labels map[string]any) *unstructured.Unstructured {
	return newObject("discovery.k8s.io/v1", "EndpointSlice", name, labels, map[string]any{
		"addressType": "IPv4", "endpoints": []any{map[string]any{"addresses": []any{"10.9.9.9"}}}, "ports": []any{}})
}

func newLease(name string, labels map[string]any) *unstructured.Unstructured {
	return newObject("coordination.k8s.io/v1", "Lease", name, labels, map[string]any{
		"spec": map[string]any{"holderIdentity": "somebody"}})
}

// objects are those of the site, apart: what jobs of the job have, and what they
// have not.
func (w *world) objects(ctx context.Context, p Site) (own, foreign []unstructured.Unstructured, err error) {
	for _, gvr := range serviceResources {
		list, err := w.client.Resource(gvr).Namespace(p.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, nil, err
		}
		for _, o := range list.Items {
			o.SetKind(strings.TrimSuffix(list.GetKind(), "List")) // a list's items do not say
			if strings.HasPrefix(o.GetName(), foreignPrefix) || w.permanent[objectKey(p.Namespace, gvr, o.GetName())] {
				foreign = append(foreign, o)
			} else {
				own = append(own, o)
			}
		}
	}
	return own, foreign, nil
}

func (w *world) foreignServices(ctx context.Context, c *Job) (string, error) {
	_, foreign, err := w.objects(ctx, c.Site)
	if err != nil {
		return "", err
	}
	var all []string
	for _, o := range foreign {
		all = append(all, string(mustJSON(o.Object)))
	}
	workflows, err := w.foreign(ctx, c)
	return strings.Join(append(all, workflows), "\n"), err
}

// clearServices removes what the job made and was given.
func (w *world) clearServices(ctx context.Context, c *Job) error {
	own, foreign, err := w.objects(ctx, c.Site)
	if err != nil {
		return err
	}
	return w.remove(ctx, c.Site, append(own, foreign...))
}

// remove deletes objects, but for the place's own.
func (w *world) remove(ctx context.Context, p Site, objects []unstructured.Unstructured) error {
	for i := range objects {
		o := &objects[i]
		if w.permanent[objectKey(p.Namespace, resourceOf(o), o.GetName())] {
			continue
		}
		err := w.client.Resource(resourceOf(o)).Namespace(p.Namespace).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) { // Endpoints go with their Service
			return err
		}
	}
	return nil
}

// serviceEnd is what is there of the job's jobs, without what differs from run to
// run.
type serviceEnd struct {
	Objects []string
	Marks   []string // of the node: job, step, service
}

func (w *world) serviceEnd(ctx context.Context, c *Job) (any, error) {
	own, _, err := w.objects(ctx, c.Site)
	if err != nil {
		return nil, err
	}
	leases := map[string]string{}
	for _, o := range own {
		leases[string(o.GetUID())] = o.GetName()
	}
	anonymous := strings.NewReplacer(c.Namespace, "NAMESPACE", c.Cluster, "CLUSTER",
		fmt.Sprint(deadJob(c)), "DEAD", fmt.Sprint(portOf(c)), "PORT", fmt.Sprint(c.JobID), "JOB").Replace
	var end serviceEnd
	for _, o := range own {
		owner := ""
		for _, reference := range o.GetOwnerReferences() {
			owner += " of " + leases[string(reference.UID)] // of nothing: an object that nobody collects
		}
		end.Objects = append(end.Objects, anonymous(fmt.Sprintf("%s %s%s %s labels=%v notes=%v",
			o.GetKind(), o.GetName(), owner, substance(&o), keys(o.GetLabels()), keys(o.GetAnnotations()))))
	}
	slices.Sort(end.Objects)
	end.Marks, err = marks(c, anonymous)
	return end, err
}

// substance is what an object says, beyond its metadata.
func substance(o *unstructured.Unstructured) string {
	field := func(path ...string) any {
		v, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
		return v
	}
	switch o.GetKind() {
	case "Service":
		return fmt.Sprintf("type=%v ports=%s", field("spec", "type"), mustJSON(field("spec", "ports")))
	case "EndpointSlice":
		endpoints, _ := field("endpoints").([]any)
		ready := "?"
		for _, e := range endpoints {
			if v, ok, _ := unstructured.NestedBool(e.(map[string]any), "conditions", "ready"); ok {
				ready = fmt.Sprint(v)
			}
		}
		return fmt.Sprintf("ready=%s endpoints=%s ports=%s", ready, mustJSON(endpoints), mustJSON(field("ports")))
	case "Endpoints":
		return fmt.Sprintf("subsets=%s", mustJSON(field("subsets")))
	}
	return fmt.Sprintf("holder=%v", field("spec", "holderIdentity"))
}

// specDigest is what a program adds to its line once the service is registered: one that was killed
// before leaves its line without.
var specDigest = regexp.MustCompile(`=[0-9a-f]{32}$`)

// marks are the node's, each once: two programs of one step leave two lines.
func marks(c *Job, anonymous func(string) string) ([]string, error) {
	var all []string
	for _, dir := range []string{runDir, otherRunDir} {
		files, err := filepath.Glob(c.Path(dir) + "/job.*")
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(text)) {
				words := strings.Fields(line) // pid, start, step, service
				mark := strings.Join(append([]string{dir, filepath.Base(path)}, words[min(2, len(words)):]...), " ")
				all = append(all, anonymous(specDigest.ReplaceAllString(mark, "")))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
