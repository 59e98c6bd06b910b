// Package job says who a job is: its number, user and run, the labels and annotations
// that mark an object as the job's, and the Lease that the job's other objects belong to,
// so that one DELETE removes them when their maker died half way.
package job

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// Labels and annotations of every object of a job.
const (
	LabelManagedBy = "slurmk8s.io/managed-by"
	LabelCluster   = "slurmk8s.io/cluster"
	LabelJobID     = "slurmk8s.io/job-id"
	ManagedBy      = "slurmk8s"
	// LabelBundle is the name of the bundle that an object belongs to. Objects of bundles
	// live and end by other rules than all others of a job.
	LabelBundle = "slurmk8s.io/bundle"

	AnnotationUser       = "slurmk8s.io/user"
	AnnotationUID        = "slurmk8s.io/uid"
	AnnotationRestart    = "slurmk8s.io/restart-count"
	AnnotationSubmitTime = "slurmk8s.io/submit-time"
)

// Job is one run of a Slurm job: ids repeat, and a requeued job keeps its own.
type Job struct {
	Cluster    string
	ID         uint32
	Restarts   uint32
	UID        uint32
	User       string
	SubmitTime string // Unix seconds; empty where Slurm does not tell
}

// AnyRun is the Restarts of a job of which Slurm does not tell the run: it stands for all up
// to now.
const AnyRun = math.MaxUint32

// LeaseName is the name of the job's anchor in each namespace.
func (j Job) LeaseName() string { return j.LeasePrefix() + strconv.FormatUint(uint64(j.ID), 10) }

// LeasePrefix is what the names of all anchors of the cluster begin with, before the job's id.
func (j Job) LeasePrefix() string { return "slurm-" + j.Cluster + "-" }

// Holder is the Lease's holderIdentity.
func (j Job) Holder() string { return fmt.Sprintf("%s/%d/%d", j.Cluster, j.ID, j.Restarts) }

// Labels are those of every object of the job.
func (j Job) Labels() map[string]any {
	return map[string]any{
		LabelManagedBy: ManagedBy,
		LabelCluster:   j.Cluster,
		LabelJobID:     strconv.FormatUint(uint64(j.ID), 10),
	}
}

// Annotations are those of every object of the job, as far as Slurm tells them.
func (j Job) Annotations() map[string]any {
	annotations := map[string]any{AnnotationUID: strconv.FormatUint(uint64(j.UID), 10)}
	if j.User != "" {
		annotations[AnnotationUser] = j.User
	}
	if j.Restarts != AnyRun {
		annotations[AnnotationRestart] = strconv.FormatUint(uint64(j.Restarts), 10)
	}
	if j.SubmitTime != "" {
		annotations[AnnotationSubmitTime] = j.SubmitTime
	}
	return annotations
}

// Selector selects the objects of the job but those of its bundles. Earlier runs of the
// job are included.
func (j Job) Selector() string { return j.selector() + ",!" + LabelBundle }

// BundleSelector selects the objects of the job's bundles, those of its earlier runs
// included.
func (j Job) BundleSelector() string { return j.selector() + "," + LabelBundle }

func (j Job) selector() string {
	set := labels.Set{}
	for key, value := range j.Labels() {
		set[key] = value.(string)
	}
	return set.String()
}

// ClusterSelector selects the objects of all jobs of a cluster but those of bundles.
func ClusterSelector(cluster string) string { return clusterSelector(cluster) + ",!" + LabelBundle }

// ClusterBundleSelector selects the objects of the bundles of all jobs of a cluster.
func ClusterBundleSelector(cluster string) string {
	return clusterSelector(cluster) + "," + LabelBundle + "," + LabelJobID
}

func clusterSelector(cluster string) string {
	return labels.Set{LabelManagedBy: ManagedBy, LabelCluster: cluster}.String()
}

// Of reads whose an object is; ours is false for one that this cluster's
// bridge did not make.
func Of(u *unstructured.Unstructured, cluster string) (job Job, ours bool) {
	set := u.GetLabels()
	id, err := strconv.ParseUint(set[LabelJobID], 10, 32)
	if set[LabelManagedBy] != ManagedBy || set[LabelCluster] != cluster || err != nil {
		return Job{}, false
	}
	notes := u.GetAnnotations()
	uid, _ := strconv.ParseUint(notes[AnnotationUID], 10, 32)
	restarts, _ := strconv.ParseUint(notes[AnnotationRestart], 10, 32)
	return Job{
		Cluster: cluster, ID: uint32(id), UID: uint32(uid), Restarts: uint32(restarts),
		User: notes[AnnotationUser], SubmitTime: notes[AnnotationSubmitTime],
	}, true
}

// Leases is the resource of the anchors.
var Leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

// Keeper makes and renews the anchors of one job.
type Keeper struct {
	Kube *kube.Client
	Job  Job
	// Duration is how long after a renewal the job counts as alive; zero: a Lease
	// that nobody renews and that does not run out.
	Duration time.Duration
	Log      *logrus.Entry
}

// Apply makes the job's Lease in a namespace or renews it, and returns the
// ownerReference for the job's other objects there.
func (k *Keeper) Apply(ctx context.Context, namespace string) (map[string]any, error) {
	got, err := k.apply(ctx, namespace, false)
	if kube.Is(err, kube.Conflict) {
		// Somebody wrote into it. That is undone if it is ours, and else theirs.
		found, getErr := GetLease(ctx, k.Kube, namespace, k.Job)
		if getErr != nil {
			return nil, getErr
		}
		if found != nil {
			if _, ours := Of(found, k.Job.Cluster); !ours {
				return nil, err
			}
		}
		got, err = k.apply(ctx, namespace, true)
	}
	if err != nil {
		return nil, err
	}
	return OwnerReference(k.Job.LeaseName(), got.GetUID()), nil
}

func (k *Keeper) apply(ctx context.Context, namespace string, force bool) (*unstructured.Unstructured, error) {
	return k.Kube.Objects(Leases, namespace).Apply(ctx, k.Lease(namespace, time.Now()), force)
}

// Lease is the anchor as it is applied.
func (k *Keeper) Lease(namespace string, now time.Time) *unstructured.Unstructured {
	spec := map[string]any{
		"holderIdentity": k.Job.Holder(),
		"renewTime":      now.UTC().Format(metav1.RFC3339Micro),
	}
	if k.Duration > 0 {
		spec["leaseDurationSeconds"] = int64(k.Duration / time.Second)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1",
		"kind":       "Lease",
		"metadata": map[string]any{
			"name":        k.Job.LeaseName(),
			"namespace":   namespace,
			"labels":      k.Job.Labels(),
			"annotations": k.Job.Annotations(),
		},
		"spec": spec,
	}}
}

// OwnerReference makes an object belong to the Lease.
func OwnerReference(name string, uid types.UID) map[string]any {
	return map[string]any{
		"apiVersion":         "coordination.k8s.io/v1",
		"kind":               "Lease",
		"name":               name,
		"uid":                string(uid),
		"blockOwnerDeletion": false,
	}
}

// Renewed tells when the Lease of a job was last renewed and whether it has run
// out. One that is not there, or is another run's, has run out.
func Renewed(lease *unstructured.Unstructured, job Job, now time.Time) (at time.Time, fresh bool) {
	if lease == nil {
		return time.Time{}, false
	}
	holder, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	text, _, _ := unstructured.NestedString(lease.Object, "spec", "renewTime")
	seconds, bounded, _ := unstructured.NestedInt64(lease.Object, "spec", "leaseDurationSeconds")
	at, err := time.Parse(time.RFC3339, text)
	if holder != job.Holder() || err != nil {
		return at, false
	}
	return at, !bounded || now.Before(at.Add(time.Duration(seconds)*time.Second))
}

// GetLease reads the Lease of a job; nil when there is none.
func GetLease(ctx context.Context, client *kube.Client, namespace string, job Job) (*unstructured.Unstructured, error) {
	return client.Objects(Leases, namespace).Get(ctx, job.LeaseName())
}
