package bundle

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// facts are what every bundle may refer to besides its own parameters. Those of a job are
// missing in a bundle that an administrator keeps without one.
var facts = map[string]struct{ atStart, number bool }{
	"job": {number: true}, "cluster": {}, "user": {}, "uid": {number: true}, "account": {}, "partition": {},
	"namespace": {}, "bundle": {}, "instance": {}, "submit_time": {number: true}, "timeout_seconds": {number: true},
	"nodes": {atStart: true, number: true}, "batch_host": {atStart: true},
}

// reserved are names that no parameter may have: Slurm reads the last two in a directive.
func isReserved(name string) bool {
	_, isFact := facts[name]
	_, isCommon := common[name]
	return isFact || isCommon || name == "capacity" || name == "pool"
}

// usualKinds may be in any bundle; kinds of bundle.toml adds others.
var usualKinds = map[schema.GroupKind]bool{
	{Kind: "ConfigMap"}: true, {Kind: "Service"}: true, {Kind: "Pod"}: true, {Kind: "PersistentVolumeClaim"}: true,
	{Group: "apps", Kind: "Deployment"}: true, {Group: "apps", Kind: "StatefulSet"}: true,
	{Group: "batch", Kind: "Job"}:                            true,
	{Group: "networking.k8s.io", Kind: "Ingress"}:            true,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:      true,
	{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}:  true,
	{Group: "policy", Kind: "PodDisruptionBudget"}:           true,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:  true,
	{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}: true,
	{Group: "monitoring.coreos.com", Kind: "PodMonitor"}:     true,
	{Group: "argoproj.io", Kind: "Workflow"}:                 true,
	{Group: "argoproj.io", Kind: "CronWorkflow"}:             true,
}

// refusedKinds are in no bundle, whatever bundle.toml says: an administrator makes secrets
// and authority once, and a bundle refers to them. Other cluster-scoped kinds are refused
// when the API server tells that they are.
var refusedKinds = map[schema.GroupKind]bool{
	{Kind: "Secret"}: true, {Kind: "ServiceAccount"}: true, {Kind: "Namespace"}: true, {Kind: "Node"}: true, {Kind: "PersistentVolume"}: true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:               true,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:        true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:        true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: true,
}

// checker is the visitor that tells at load whether a template can be expanded.
type checker struct {
	bundle *Bundle
	phase  *PhaseTemplate
}

// checkTemplate refuses what no value of a parameter could make right.
func (c checker) checkTemplate(t Template, kinds []schema.GroupVersionKind) error {
	kind := t.Kind()
	at := place{file: t.File, path: kind.Kind, kind: kind.Kind}
	switch {
	case kind.Kind == "" || kind.Version == "":
		return fmt.Errorf("%s: an object without apiVersion and kind", t.File)
	case refusedKinds[kind.GroupKind()]:
		return at.errorf("not allowed in a bundle: create it once and refer to it")
	case !usualKinds[kind.GroupKind()] && !slices.Contains(kinds, kind):
		return at.errorf("not a usual kind: add \"%s %s\" to kinds", kind.GroupVersion(), kind.Kind)
	}
	if _, ok := t.Object["status"]; ok {
		return at.errorf("status is written by Kubernetes")
	}
	metadata, ok := t.Object["metadata"].(map[string]any)
	if !ok {
		return at.errorf("metadata is missing")
	}
	for key := range metadata {
		if key != "name" && key != "labels" && key != "annotations" {
			return at.errorf("metadata.%s is not for templates: only name, labels and annotations", key)
		}
	}
	if name, _ := metadata["name"].(string); name == "" {
		return at.errorf("metadata.name is missing")
	}
	if err := checkClaims(t.Object, at); err != nil {
		return err
	}
	_, err := walk(t.Object, at, c)
	return err
}

// checkClaims refuses a StatefulSet whose volumes outlive it: Kubernetes gives their claims
// no owner.
func checkClaims(object map[string]any, at place) error {
	spec, _ := object["spec"].(map[string]any)
	if _, claims := spec["volumeClaimTemplates"]; at.kind != "StatefulSet" || !claims {
		return nil
	}
	retention, _ := spec["persistentVolumeClaimRetentionPolicy"].(map[string]any)
	if retention["whenDeleted"] != "Delete" {
		return at.errorf("its claims would outlive the job: set spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Delete")
	}
	return nil
}

func (c checker) key(key string, at place) error {
	if len(refs(key)) > 0 {
		return at.errorf("a key cannot have ${...}")
	}
	if at.role == inLabels && inDomain(key, "slurmk8s.io") && (strings.Contains(at.path, ".labels.") || strings.Contains(at.path, ".annotations.")) {
		return at.errorf("labels and annotations of slurmk8s.io are not for templates")
	}
	return nil
}

func (c checker) text(text string, at place) (any, error) {
	pieces := split(text)
	for _, p := range pieces {
		if p.ref == "" {
			continue
		}
		if err := c.reference(p.ref, len(pieces) == 1, at); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// reference tells whether a parameter or fact can stand at a place.
func (c checker) reference(name string, whole bool, at place) error {
	param := c.bundle.Param(name)
	fact, isFact := facts[name]
	if param == nil && !isFact {
		return at.errorf("no parameter %q%s ($${ stands for ${)", name, nearest(name, c.bundle.names()))
	}
	if isFact && fact.atStart && c.bundle.When != WhenStart {
		return at.errorf("${%s} is known to bundles with when = \"start\" only", name)
	}
	isPlain := fact.number || name == "namespace" || name == "bundle" || name == "instance"
	if param != nil {
		if err := c.parameter(param, whole, at); err != nil {
			return err
		}
		isPlain = param.Type.isPlain()
	}
	switch {
	case at.role == inFixed:
		return at.errorf("cannot have ${...}")
	case at.role == inScript:
		return at.errorf("${%s} in a script: pass it as a variable of env", name)
	case at.role == inConfig && !whole:
		return at.errorf("${%s} in a part of a ConfigMap's text: pass it as a variable of env, or let it be the whole value ($${ stands for ${)", name)
	case at.role == inCommand && !whole && !isPlain:
		return at.errorf("${%s} in a part of an argument: let it be the whole argument, or pass it as a variable of env", name)
	}
	return nil
}

// parameter is the part of reference that depends on the parameter's type.
func (c checker) parameter(p *Param, whole bool, at place) error {
	switch {
	case p.Type == Label:
		return at.errorf("${%s} is a label: add it with %s: [\"${%s}\"]", p.Name, mergeKey, p.Name)
	case p.Type == Arguments && (!whole || at.role.isText()):
		return at.errorf("${%s} is a list: it can only be a whole value", p.Name)
	case p.Optional && c.phase.OnlyIf != p.Name && p.Type != Arguments:
		return at.errorf("${%s} is optional: give it a default, or the phase only_if = %q", p.Name, p.Name)
	}
	return nil
}

func (c checker) merge(_ map[string]any, from any, at place) error {
	if at.role != inLabels {
		return at.errorf("only for labels, annotations and selectors")
	}
	for _, name := range mergeRefs(from) {
		if p := c.bundle.Param(name); p == nil || p.Type != Label {
			return at.errorf("want a list of label parameters, such as [\"${match}\"]")
		}
	}
	if len(mergeRefs(from)) == 0 {
		return at.errorf("want a list of label parameters, such as [\"${match}\"]")
	}
	return nil
}

// mergeRefs are the parameters that a value of $merge names; "" stands for what is none.
func mergeRefs(from any) []string {
	list, ok := from.([]any)
	if !ok {
		return nil
	}
	names := make([]string, len(list))
	for i, element := range list {
		text, _ := element.(string)
		names[i] = wholeRef(split(text))
	}
	return names
}

// names are all that a template may refer to.
func (b *Bundle) names() []string {
	var names []string
	for _, p := range b.Params {
		names = append(names, p.Name)
	}
	for name := range facts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// measure finds how long the parameters of type name may be: templates make longer names of
// them, and no name of a Service, a Pod's host or a label has more than 63 bytes.
func (b *Bundle) measure() {
	for _, phase := range b.Phases {
		for _, t := range phase.Objects {
			extra := 0
			if t.Kind().Kind == "StatefulSet" {
				extra = len("-1234567890") // its revisions are labels of its pods
			}
			_, _ = walk(t.Object, place{kind: t.Kind().Kind}, ruler{b, extra})
		}
	}
}

// ruler is the visitor of measure.
type ruler struct {
	bundle *Bundle
	extra  int
}

func (r ruler) key(string, place) error                { return nil }
func (r ruler) merge(map[string]any, any, place) error { return nil }
func (r ruler) text(text string, at place) (any, error) {
	extra := 0
	if at.path == ".metadata.name" {
		extra = r.extra
	}
	pieces := split(text)
	for i, p := range pieces {
		param := r.bundle.Param(p.ref)
		if param == nil || param.Type != Name {
			continue
		}
		added := ""
		if i > 0 {
			before := pieces[i-1].text
			added = before[len(strings.TrimRight(before, labelBytes)):]
		}
		if i+1 < len(pieces) {
			after := pieces[i+1].text
			added += after[:len(after)-len(strings.TrimLeft(after, labelBytes))]
		}
		if room := maxNameBytes - len(added) - extra; room < param.room {
			param.room, param.added = room, added
			if added == "" {
				param.added = "-REVISION"
			}
		}
	}
	return text, nil
}

const labelBytes = "abcdefghijklmnopqrstuvwxyz0123456789-"
