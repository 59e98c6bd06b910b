package node

import (
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// pod is what of a Pod decides what becomes of it.
type pod struct {
	Namespace, Name string
	UID             types.UID
	grace           time.Duration // its own, or what is left to it of one that is terminating
	terminating     bool
	kind            kind
}

func (p pod) String() string { return "pod " + p.Namespace + "/" + p.Name }

// kind is what readPod finds a pod to be.
type kind string

const (
	finished   kind = "finished"
	mirror     kind = "static"
	daemonSet  kind = "of a DaemonSet"
	tolerating kind = "tolerating"
	unmanaged  kind = "without a controller"
	emptyDir   kind = "with an emptyDir"
	plain      kind = "plain"
)

const (
	annotationMirror   = "kubernetes.io/config.mirror"
	taintUnschedulable = "node.kubernetes.io/unschedulable"
	defaultGrace       = 30 * time.Second
	// longestGraceSeconds keeps what a pod's author may write from overflowing.
	longestGraceSeconds = math.MaxInt32
)

// fate is what the configuration says becomes of a pod.
func (p pod) fate(cfg *slurmconf.NodeSettings) string {
	fate := slurmconf.PodEvict
	switch p.kind {
	case finished, mirror:
		fate = slurmconf.PodKeep
	case daemonSet:
		fate = cfg.DaemonSets
	case tolerating:
		fate = cfg.Tolerating
	case unmanaged:
		fate = cfg.Unmanaged
	case emptyDir:
		fate = cfg.EmptyDir
	}
	if p.terminating && fate == slurmconf.PodFail {
		return slurmconf.PodEvict // it is on its way, whoever sent it
	}
	return fate
}

// readPod reads a Pod. Of the later kinds, one whose policy is to evict is passed over,
// so that the next with another policy counts: a tolerating pod may have an emptyDir
// too. A DaemonSet's pods are all that and nothing else.
func readPod(u *unstructured.Unstructured, cfg *slurmconf.NodeSettings) pod {
	p := pod{Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), grace: defaultGrace, kind: plain}
	if seconds, found, _ := unstructured.NestedInt64(u.Object, "spec", "terminationGracePeriodSeconds"); found {
		p.grace = time.Duration(min(seconds, longestGraceSeconds)) * time.Second
	}
	if deleted := u.GetDeletionTimestamp(); deleted != nil {
		p.terminating = true
		p.grace = max(time.Until(deleted.Time), 0) // it lies at the end of its grace period
	}
	for _, k := range []struct {
		kind kind
		is   func(*unstructured.Unstructured, *slurmconf.NodeSettings) bool
	}{
		{finished, isFinished}, {mirror, isMirror}, {daemonSet, isDaemonSet}, {tolerating, isTolerating},
		{unmanaged, isUnmanaged}, {emptyDir, hasEmptyDir},
	} {
		if !k.is(u, cfg) {
			continue
		}
		if p.kind = k.kind; k.kind == daemonSet || p.fate(cfg) != slurmconf.PodEvict {
			return p
		}
	}
	return p
}

func isFinished(u *unstructured.Unstructured, _ *slurmconf.NodeSettings) bool {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	return phase == "Succeeded" || phase == "Failed"
}

func isMirror(u *unstructured.Unstructured, _ *slurmconf.NodeSettings) bool {
	_, found := u.GetAnnotations()[annotationMirror]
	return found
}

// isDaemonSet goes by the owner's kind: the kubelet's credential may not read
// DaemonSets.
func isDaemonSet(u *unstructured.Unstructured, _ *slurmconf.NodeSettings) bool {
	owner := controllerOf(u)
	return owner != nil && owner["kind"] == "DaemonSet" && strings.HasPrefix(text(owner["apiVersion"]), "apps/")
}

func isUnmanaged(u *unstructured.Unstructured, _ *slurmconf.NodeSettings) bool {
	return controllerOf(u) == nil
}

func controllerOf(u *unstructured.Unstructured) map[string]any {
	owners, _, _ := unstructured.NestedSlice(u.Object, "metadata", "ownerReferences")
	for _, o := range owners {
		if owner, ok := o.(map[string]any); ok && owner["controller"] == true {
			return owner
		}
	}
	return nil
}

func hasEmptyDir(u *unstructured.Unstructured, _ *slurmconf.NodeSettings) bool {
	volumes, _, _ := unstructured.NestedSlice(u.Object, "spec", "volumes")
	for _, v := range volumes {
		if volume, ok := v.(map[string]any); ok && volume["emptyDir"] != nil {
			return true
		}
	}
	return false
}

// isTolerating tells whether a pod may come to a closed node.
func isTolerating(u *unstructured.Unstructured, cfg *slurmconf.NodeSettings) bool {
	key, value, _ := strings.Cut(cfg.Taint, "=")
	switch cfg.Block {
	case slurmconf.BlockCordon:
		return tolerates(u, taintUnschedulable, "")
	case slurmconf.BlockTaint:
		return tolerates(u, key, value)
	}
	return tolerates(u, taintUnschedulable, "") && tolerates(u, key, value)
}

// tolerates is v1.Toleration.ToleratesTaint for a taint with effect NoSchedule.
func tolerates(u *unstructured.Unstructured, key, value string) bool {
	all, _, _ := unstructured.NestedSlice(u.Object, "spec", "tolerations")
	for _, one := range all {
		t, _ := one.(map[string]any)
		if effect := text(t["effect"]); effect != "" && effect != noSchedule {
			continue
		}
		exists := text(t["operator"]) == "Exists"
		if k := text(t["key"]); k != key && (k != "" || !exists) {
			continue
		}
		if exists || text(t["value"]) == value {
			return true
		}
	}
	return false
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
