// Package workflow drives DataWorkflowServices (DWS) Workflows through their
// states, one call per Slurm burst buffer hook. Every call may be interrupted at
// any instant and repeated: it first reads the state of the Workflow.
package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/slurmconf"
)

const group = "dataworkflowservices.github.io"

// Job is a job and what Slurm tells the burst buffer's hooks about it besides. An empty
// text is something that this version of Slurm does not tell (22.05 tells little).
type Job struct {
	job.Job
	GID        uint32
	ScriptPath string
	Nodes      []string // allocated, by Slurm's NodeName
	Hurry      bool     // skip what only saves data
	Polls      bool     // this Slurm (24.05 or later) polls staging by test_data_*
}

// Name is the name of the job's Workflow.
func (j *Job) Name() string { return "bb" + strconv.FormatUint(uint64(j.ID), 10) }

// Driver drives the Workflows of one Slurm cluster.
type Driver struct {
	cfg       *slurmconf.Config
	log       *logrus.Entry
	client    *kube.Client
	events    *kube.Events
	workflows *kube.Objects
	computes  *kube.Objects
	objects   func(resource, namespace string) *kube.Objects // of DWS
	version   schema.GroupVersion
	names     func() (*names, error) // of nodes; read when they are needed
	files     Files                  // what hooks keep for each other; "": nothing is
	watch     *follower              // that all waits share; nil: each has its own
	once      *readOnce              // what one hook reads once; nil: it is read each time
	ofNodes   string                 // annotationRabbits of the job that gets its nodes
}

// errNoDWS says that Kubernetes does not serve DWS's API.
var errNoDWS = fmt.Errorf("DWS is %w: no API group %s", duty.ErrAbsent, group)

// New finds the version of DWS that the server prefers.
func New(ctx context.Context, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) (*Driver, error) {
	version, err := preferred(ctx, client)
	if err != nil {
		return nil, err
	}
	return at(version, cfg, client, log), nil
}

func preferred(ctx context.Context, client *kube.Client) (version string, err error) {
	found, err := client.PreferredVersion(ctx, group)
	if kube.Is(err, kube.Unserved) {
		return "", errNoDWS
	}
	return found.Version, err
}

// at is a driver that uses a version of DWS's API.
func at(name string, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) *Driver {
	version := schema.GroupVersion{Group: group, Version: name}
	host, _ := os.Hostname() // "" is a host too that tells
	objects := func(resource, namespace string) *kube.Objects {
		return client.Objects(version.WithResource(resource), namespace)
	}
	return &Driver{
		cfg: cfg, log: log, client: client, version: version, names: sync.OnceValues(func() (*names, error) { return readNames(cfg) }), events: kube.NewEvents(client, host), objects: objects,
		workflows: objects("workflows", cfg.Workflows.Namespace),
		computes:  objects("computes", cfg.Workflows.Namespace),
	}
}

// get reads a Workflow; nil when there is none.
func (d *Driver) get(ctx context.Context, name string) (*object, error) {
	u, err := d.workflows.Get(ctx, name)
	if err != nil || u == nil {
		return nil, err
	}
	return parse(u), nil
}

func (d *Driver) path(name string) string { return d.cfg.Workflows.Namespace + "/" + name }

// ours reports whether this cluster's bridge made the Workflow.
func (d *Driver) ours(o *object) bool {
	return o.Labels[job.LabelManagedBy] == job.ManagedBy && o.Labels[job.LabelCluster] == d.cfg.Cluster
}

// wanted is the Workflow of a job, as it is created.
func (d *Driver) wanted(of *Job, directives []string) *unstructured.Unstructured {
	annotations := of.Annotations()
	annotations[annotationStateSince] = now()
	lines := make([]any, len(directives))
	for i, line := range directives {
		lines[i] = line
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": d.version.String(),
		"kind":       "Workflow",
		"metadata": map[string]any{
			"name":        of.Name(),
			"namespace":   d.cfg.Workflows.Namespace,
			"labels":      of.Labels(),
			"annotations": annotations,
		},
		"spec": map[string]any{
			"desiredState": string(Proposal),
			"wlmID":        d.cfg.Cluster,
			"jobID":        int64(of.ID),
			"userID":       int64(of.UID),
			"groupID":      int64(of.GID),
			"dwDirectives": lines,
		},
	}}
}

// patch asks for a state and returns the Workflow as it is then. A state other than
// Teardown is asked for at the version that was read, since DWS lets it replace a
// Teardown that another hook has asked for meanwhile. Teardown holds at any version.
func (d *Driver) patch(ctx context.Context, o *object, to State, hurry bool) (*object, error) {
	spec := map[string]any{"desiredState": string(to)}
	if hurry {
		spec["hurry"] = true
	}
	annotations := map[string]any{annotationStateSince: now(), annotationTransientSince: nil}
	if o.Annotations[annotationPlacement] != "" {
		annotations[annotationPlacement] = nil
	}
	if to == PreRun && d.ofNodes != "" {
		annotations[annotationRabbits] = d.ofNodes
	}
	metadata := map[string]any{"annotations": annotations}
	if to != Teardown {
		metadata["resourceVersion"] = o.ResourceVersion
	}
	return d.merge(ctx, o, map[string]any{"metadata": metadata, "spec": spec})
}

// merge changes a Workflow. The uid makes the server refuse a change that is meant for an
// earlier Workflow of the same name.
func (d *Driver) merge(ctx context.Context, o *object, change map[string]any) (*object, error) {
	change["metadata"].(map[string]any)["uid"] = string(o.UID)
	body, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	u, err := d.workflows.Patch(ctx, o.Name, body)
	if err != nil {
		return nil, err
	}
	return parse(u), nil
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }
