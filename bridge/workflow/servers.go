package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"slurmk8s.io/slurmk8s/bridge/job"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// servers are those of one Workflow.
type servers struct {
	owner *object
	all   []placement.Servers
}

// mine finds the Servers that are to be filled among all. Filled ones that we did not fill
// are a persistent instance that exists: the provider takes its creation as done, and the
// directive for that of the existing one. That is right only if an earlier run of the job
// made it; then it stays as it is.
func mine(o *object, breakdowns []placement.Breakdown, all []placement.Servers) (*servers, error) {
	mine := &servers{owner: o}
	for _, b := range breakdowns {
		if len(b.Sets) == 0 {
			continue
		}
		i := slices.IndexFunc(all, func(s placement.Servers) bool { return s.ID == b.Servers })
		switch {
		case i < 0:
			return nil, fmt.Errorf("servers %s of %s do not exist", b.Servers, o)
		case len(all[i].Filled) == 0 || all[i].Annotations[annotationPlacedFor] == string(o.UID):
		case b.Persistent && ofEarlierRun(o, all[i].Annotations[annotationPlacedForJob]):
			continue
		case b.Persistent:
			return nil, &placement.Refusal{Never: true,
				Text: fmt.Sprintf("persistent storage %s exists already: use it, or choose another name [%s]", b.Servers.Name, b.Directive)}
		default:
			return nil, fmt.Errorf("servers %s of %s were filled by somebody else", b.Servers, o)
		}
		mine.all = append(mine.all, all[i])
	}
	return mine, nil
}

// asJob is the job of a Workflow as its Servers name it.
func (o *object) asJob() string {
	return fmt.Sprintf("%s/%s/%s", o.Labels[job.LabelCluster], o.Labels[job.LabelJobID], o.Annotations[job.AnnotationSubmitTime])
}

// ofEarlierRun reports whether Servers were filled for a run of the Workflow's job. Slurm
// gives a job that it requeues a new time of submission; a job that has taken over the id of
// an old one has not been restarted.
func ofEarlierRun(o *object, filledFor string) bool {
	mine := o.asJob()
	id := mine[:strings.LastIndex(mine, "/")+1]
	restarts := o.Annotations[job.AnnotationRestart]
	return filledFor == mine || strings.HasPrefix(filledFor, id) && restarts != "" && restarts != "0"
}

func (s *servers) ids() []types.NamespacedName {
	ids := make([]types.NamespacedName, len(s.all))
	for i := range s.all {
		ids[i] = s.all[i].ID
	}
	return ids
}

// on reports whether one of them is filled with one of the rabbits.
func (s *servers) on(rabbits []string) bool {
	return slices.ContainsFunc(s.all, func(of placement.Servers) bool {
		on := of.Rabbits()
		return slices.ContainsFunc(rabbits, func(r string) bool { return on[r] })
	})
}

// filled reports whether all of them are.
func (s *servers) filled() bool {
	return !slices.ContainsFunc(s.all, func(of placement.Servers) bool { return len(of.Filled) == 0 })
}

// right reports whether what they are filled with is for the nodes, if these are known, and
// is on no rabbit on which more is promised than there is.
func (s *servers) right(topology *placement.Topology, breakdowns []placement.Breakdown, nodes []string) bool {
	filled := make([]placement.Filled, len(s.all))
	for i := range s.all {
		of := slices.IndexFunc(breakdowns, func(b placement.Breakdown) bool { return b.Servers == s.all[i].ID })
		if len(nodes) > 0 && !topology.Fits(&breakdowns[of], &s.all[i], nodes) {
			return false
		}
		filled[i] = placement.Filled{Servers: s.all[i].ID, Sets: s.all[i].Filled}
	}
	return topology.Crowded(filled) == ""
}

// fill writes what was placed, each as it was read.
func (d *Driver) fill(ctx context.Context, s *servers, with []placement.Filled) error {
	for i := range s.all {
		of := slices.IndexFunc(with, func(f placement.Filled) bool { return f.Servers == s.all[i].ID })
		if err := d.write(ctx, &s.all[i], with[of].Sets, s.owner); err != nil {
			return err
		}
	}
	return nil
}

// empty takes back what was filled.
func (d *Driver) empty(ctx context.Context, s *servers) error {
	for i := range s.all {
		if len(s.all[i].Filled) == 0 {
			continue
		}
		if err := d.write(ctx, &s.all[i], nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// write fills Servers for a Workflow, or empties them if there is none.
func (d *Driver) write(ctx context.Context, to *placement.Servers, sets []placement.AllocationSet, of *object) error {
	annotations := map[string]any{annotationPlacedFor: nil, annotationPlacedForJob: nil}
	if of != nil {
		annotations = map[string]any{annotationPlacedFor: string(of.UID), annotationPlacedForJob: of.asJob()}
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": to.ResourceVersion, "annotations": annotations},
		"spec":     map[string]any{"allocationSets": sets},
	})
	if err != nil {
		return err
	}
	u, err := d.objects("servers", to.ID.Namespace).Patch(ctx, to.ID.Name, body)
	if err == nil {
		*to = placement.ReadServers(u)
	}
	return err
}
