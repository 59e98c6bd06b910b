package setup

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/packaging/manifests"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// givenAnnotation is where the list of nodes says which of a cluster's addresses are from
// --node-addresses: slurm.conf cannot tell them.
func givenAnnotation(cluster string) string { return "slurmk8s.io/given-" + cluster }

// given are the addresses of --node-addresses. Those of an earlier run count where this
// one gives none, and what is dropped is named. slurm are the nodes of slurm.conf.
func (o *Options) given(ctx context.Context, p *printer, slurm []string) (map[string]string, error) {
	if o.Admin == nil {
		return o.NodeAddresses, nil
	}
	list, err := o.Admin.Objects(configMaps, manifests.Namespace).Get(ctx, manifests.Nodes)
	if err != nil && !kube.Is(err, kube.NotFound) {
		return nil, err
	}
	if list == nil {
		return o.NodeAddresses, nil
	}
	data, _, _ := unstructured.NestedStringMap(list.Object, "data")
	text, told := list.GetAnnotations()[givenAnnotation(o.Config.Cluster)]
	before := strings.Split(text, ",")
	kept := map[string]string{}
	for _, name := range ownedNodes(list, (&Plan{Cluster: o.Config.Cluster}).manager(list)) {
		// Setup before 0.2 did not tell: then it is what slurm.conf does not have.
		wasGiven := slices.Contains(before, name) || !told && !slices.Contains(slurm, name)
		_, isGiven := o.NodeAddresses[name]
		switch {
		case isGiven:
		case wasGiven && o.NodeAddresses == nil:
			kept[name] = data[name]
			p.note("node %s: %s of an earlier --node-addresses is kept; give a file without it to drop it", name, data[name])
		case wasGiven:
			p.note("node %s: %s is dropped: the file of --node-addresses no longer gives it", name, data[name])
		case !slices.Contains(slurm, name):
			p.note("node %s: %s is dropped: slurm.conf no longer has this node", name, data[name])
		}
	}
	if o.NodeAddresses == nil {
		return kept, nil
	}
	return o.NodeAddresses, nil
}

// ownedNodes are the keys of the list of nodes that a manager wrote.
func ownedNodes(list *unstructured.Unstructured, manager string) []string {
	var names []string
	for _, entry := range list.GetManagedFields() {
		if entry.Manager != manager || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Data map[string]any `json:"f:data"`
		}
		if json.Unmarshal(entry.FieldsV1.Raw, &fields) != nil {
			continue
		}
		for key := range maps.Keys(fields.Data) {
			if name, ok := strings.CutPrefix(key, "f:"); ok {
				names = append(names, name)
			}
		}
	}
	return unique(names)
}
