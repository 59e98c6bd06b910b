package node

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// The words of AnnotationChanged.
const (
	changedCordon    = "cordon"
	changedTaint     = "taint"
	changedLendTaint = "lend-taint"
	changedLendLabel = "lend-label"
)

// record is a Node object as far as we read and write it.
type record struct {
	node    *unstructured.Unstructured
	claims  []Claim
	drains  []string // Slurm clusters that take no new work on the node, nor may Kubernetes
	drained string   // why: AnnotationDrained
	foreign []string // entries of AnnotationHolders that are not in our words; kept
	changed map[string]bool
}

func readRecord(node *unstructured.Unstructured) *record {
	r := &record{node: node, changed: map[string]bool{}, drained: node.GetAnnotations()[AnnotationDrained]}
	for _, text := range list(node.GetAnnotations()[AnnotationHolders]) {
		cluster, drains := strings.CutSuffix(text, drainHolder)
		if h, ok := parseClaim(text); ok {
			r.claims = append(r.claims, h)
		} else if drains && cluster != "" && !strings.ContainsAny(cluster, "/=") {
			r.drains = append(r.drains, cluster)
		} else {
			r.foreign = append(r.foreign, text)
		}
	}
	for _, word := range list(node.GetAnnotations()[AnnotationChanged]) {
		r.changed[word] = true
	}
	return r
}

// list splits "a,b".
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// with are the claims after a run of a job came: earlier runs of it are over.
func (r *record) with(h Claim) []Claim {
	return append(r.without(func(other Claim) bool { return other.Cluster == h.Cluster && other.JobID == h.JobID }), h)
}

// without are the claims but those that are gone.
func (r *record) without(gone func(Claim) bool) []Claim {
	return slices.DeleteFunc(slices.Clone(r.claims), gone)
}

// patch is the merge patch that makes the Node what it has to be with these claims:
// closed while one of them reclaims it or Slurm drains it, marked while one lends it, and
// otherwise as it was before. nil: it is so already. It holds the version that was read, so that
// a change in between is a Conflict.
//
// What an administrator changed meanwhile stays. Kubernetes tells who set
// spec.unschedulable last: if that was not us, the cordon is no longer ours to lift.
func (r *record) patch(claims []Claim, cfg *slurmconf.NodeSettings) ([]byte, error) {
	spec, labels, annotations := map[string]any{}, map[string]any{}, map[string]any{}
	closed := len(r.drains) > 0 || slices.ContainsFunc(claims, func(h Claim) bool { return h.Mode == Reclaim })
	lent := slices.ContainsFunc(claims, func(h Claim) bool { return h.Mode == Lend })
	changed := maps.Clone(r.changed)
	// What a holder of an unknown kind needs is unknown: what was changed stays.
	keep := func(word string) bool { return len(r.foreign) > 0 && r.changed[word] }

	r.patchCordon(spec, changed, keep(changedCordon) || closed && cfg.Block != slurmconf.BlockTaint)
	r.patchTaints(spec, changed, cfg, keep(changedTaint) || closed && cfg.Block != slurmconf.BlockCordon,
		keep(changedLendTaint) || lent && cfg.Block != slurmconf.BlockCordon)
	lent = lent || keep(changedLendLabel)
	switch value := r.node.GetLabels()[LabelLent]; {
	case lent && value == "":
		labels[LabelLent], changed[changedLendLabel] = "true", true
	case !lent && changed[changedLendLabel]:
		delete(changed, changedLendLabel)
		if value != "" {
			labels[LabelLent] = nil
		}
	}
	words := slices.Clone(r.foreign)
	for _, h := range claims {
		words = append(words, h.String())
	}
	for _, cluster := range r.drains {
		words = append(words, cluster+drainHolder)
	}
	slices.Sort(words)
	set(annotations, r.node.GetAnnotations(), AnnotationHolders, strings.Join(words, ","))
	set(annotations, r.node.GetAnnotations(), AnnotationChanged, strings.Join(slices.Sorted(maps.Keys(changed)), ","))
	set(annotations, r.node.GetAnnotations(), AnnotationDrained, r.drained)
	heldBy := strings.Join(r.drains[:min(len(r.drains), 1)], "")
	if len(claims) > 0 {
		heldBy = claims[0].Cluster
	}
	set(labels, r.node.GetLabels(), LabelHeldBy, heldBy)
	if len(spec)+len(labels)+len(annotations) == 0 {
		return nil, nil
	}
	patch := map[string]any{"metadata": map[string]any{
		"resourceVersion": r.node.GetResourceVersion(), "labels": labels, "annotations": annotations,
	}}
	if len(spec) > 0 {
		patch["spec"] = spec
	}
	return json.Marshal(patch)
}

// set makes a key of a patch: the value "" removes it.
func set(patch map[string]any, is map[string]string, key, value string) {
	old, there := is[key]
	switch {
	case value == "" && there:
		patch[key] = nil
	case value != "" && value != old:
		patch[key] = value
	}
}

func (r *record) patchCordon(spec map[string]any, changed map[string]bool, closed bool) {
	cordoned, _, _ := unstructured.NestedBool(r.node.Object, "spec", "unschedulable")
	switch {
	case closed && !cordoned:
		spec["unschedulable"], changed[changedCordon] = true, true
	case !closed && changed[changedCordon]:
		delete(changed, changedCordon)
		if cordoned && r.cordonIsOurs() {
			spec["unschedulable"] = nil
		}
	}
}

// cordonIsOurs tells whether nobody but us set spec.unschedulable as it is.
func (r *record) cordonIsOurs() bool {
	_, others := r.cordonedBy()
	return !others
}

// cordonedBy tells who set spec.unschedulable as it is, by what Kubernetes notes of the
// writers of each field.
func (r *record) cordonedBy() (us, others bool) {
	for _, entry := range r.node.GetManagedFields() {
		if entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if json.Unmarshal(entry.FieldsV1.Raw, &fields) != nil {
			continue
		}
		if _, wrote := fields.Spec["f:unschedulable"]; wrote {
			us = us || entry.Manager == kube.FieldManager
			others = others || entry.Manager != kube.FieldManager
		}
	}
	return us, others
}

// patchTaints adds and removes our two taints in one list: Kubernetes replaces the
// list as a whole.
func (r *record) patchTaints(spec map[string]any, changed map[string]bool, cfg *slurmconf.NodeSettings, closed, lent bool) {
	before, _, _ := unstructured.NestedSlice(r.node.Object, "spec", "taints")
	taints := slices.Clone(before)
	for _, t := range []struct {
		text, word string
		wanted     bool
	}{{cfg.Taint, changedTaint, closed}, {cfg.LendTaint, changedLendTaint, lent}} {
		key, value, _ := strings.Cut(t.text, "=")
		at := slices.IndexFunc(taints, func(other any) bool {
			taint, _ := other.(map[string]any)
			return taint["key"] == key && taint["effect"] == noSchedule
		})
		switch {
		case t.wanted && at < 0:
			taint := map[string]any{"key": key, "effect": noSchedule}
			if value != "" {
				taint["value"] = value
			}
			taints, changed[t.word] = append(taints, taint), true
		case !t.wanted && changed[t.word]:
			delete(changed, t.word)
			if at >= 0 {
				taints = slices.Delete(taints, at, at+1)
			}
		}
	}
	switch {
	case len(taints) == len(before):
	case len(taints) == 0:
		spec["taints"] = nil
	default:
		spec["taints"] = taints
	}
}

const noSchedule = "NoSchedule"
