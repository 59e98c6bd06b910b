package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

// A provider with servers waits for each node of a job that is to mount or unmount storage,
// and so for a dead one without end. Two things release it:
//
//   - A node that is taken out of the Workflow's Computes is not waited for in PreRun and
//     PostRun.
//   - A node that SystemStatus default/default has as Disabled is not waited for in PostRun and
//     Teardown, unless it died before it saw the mount.
//
// Which nodes are dead, Slurm says: a node that is only slow may still write to its storage.

// deadAfter is how long a state may take before Slurm is asked for dead nodes, and how long
// after that it is asked again.
const deadAfter = 30 * time.Second

// disabled is how SystemStatus says that a node is not to be waited for.
const disabled = "Disabled"

// annotationDisabled begins the annotation of SystemStatus that has the nodes, separated by
// commas, which we have disabled. The name of the Slurm cluster follows.
const annotationDisabled = "slurmk8s.io/disabled-nodes."

// waitsForNodes reports whether the provider waits for the job's nodes in a state.
func (o *object) waitsForNodes(state State) bool {
	return len(o.Breakdowns) > 0 && o.ComputesName != "" && (state == PreRun || state == PostRun || state == Teardown)
}

// leaveOutDead lets the provider go on without the job's nodes that are dead. Best effort: if
// nothing is known now, the state goes on waiting.
func (d *Driver) leaveOutDead(ctx context.Context, o *object, state State) {
	err := d.releaseDead(ctx, o, state)
	if err != nil && ctx.Err() == nil {
		d.log.Warnf("%s: whether it waits for dead nodes is not known: %v", o, err)
	}
}

func (d *Driver) releaseDead(ctx context.Context, o *object, state State) error {
	u, err := d.computes.Get(ctx, o.ComputesName)
	if err != nil || u == nil {
		return err
	}
	nodes := readComputes(u)
	if len(nodes) == 0 {
		return nil
	}
	states, err := d.statesOf(ctx, nodes)
	if err != nil {
		return err
	}
	var dead, alive []string
	for _, node := range nodes {
		if states[node].Dead() {
			dead = append(dead, node)
		} else {
			alive = append(alive, node)
		}
	}
	if len(dead) == 0 {
		return nil
	}
	d.log.Warnf("%s: Slurm has %s as down: %s goes on without", o, comma(dead), state)
	if state != PreRun {
		if err := d.disable(ctx, dead); err != nil {
			return err
		}
	}
	if state == Teardown { // Computes is read no more
		return nil
	}
	body, err := computesOf(alive, u.GetResourceVersion())
	if err == nil {
		_, err = d.computes.Patch(ctx, o.ComputesName, body)
	}
	if kube.Is(err, kube.Conflict) {
		return nil // the next look does it
	}
	return err
}

// slurm are the commands of this host's Slurm.
func (d *Driver) slurm() slurm.Commands {
	return slurm.Commands{Dir: d.cfg.SlurmBinDir, Conf: d.cfg.SlurmConf}
}

// readComputes are the nodes that a Computes names.
func readComputes(u *unstructured.Unstructured) (nodes []string) {
	data, _, _ := unstructured.NestedSlice(u.Object, "data")
	for _, entry := range data {
		if entry, ok := entry.(map[string]any); ok {
			if name, _ := entry["name"].(string); name != "" {
				nodes = append(nodes, name)
			}
		}
	}
	return nodes
}

// computesOf is the patch that makes a Computes name these nodes; version is the one that was
// read, "" is any.
func computesOf(nodes []string, version string) ([]byte, error) {
	data := make([]map[string]string, len(nodes))
	for i, node := range nodes {
		data[i] = map[string]string{"name": node}
	}
	patch := map[string]any{"data": data}
	if version != "" {
		patch["metadata"] = map[string]any{"resourceVersion": version}
	}
	return json.Marshal(patch)
}

// disable tells the provider not to wait for nodes. It keeps which of them were not Disabled
// before, so that only these are enabled again.
func (d *Driver) disable(ctx context.Context, nodes []string) error {
	return d.changeSystemStatus(ctx, true, func(is map[string]string, ours map[string]bool) map[string]any {
		change := map[string]any{}
		for _, node := range nodes {
			if is[node] != disabled {
				change[node], ours[node] = disabled, true
			}
		}
		return change
	})
}

// enable lets the provider wait again for those of the nodes that we have disabled.
func (d *Driver) enable(ctx context.Context, nodes []string) error {
	return d.changeSystemStatus(ctx, false, func(_ map[string]string, ours map[string]bool) map[string]any {
		change := map[string]any{}
		for _, node := range nodes {
			if ours[node] {
				change[node] = nil
				delete(ours, node)
			}
		}
		return change
	})
}

// disableHolding tells the provider not to wait for nodes that were drained since they hold a
// job's mount.
func (d *Driver) disableHolding(ctx context.Context, nodes []string, states map[string]slurm.NodeRecord) error {
	nodes = slices.DeleteFunc(nodes, func(node string) bool { return !holdsMount(states[node]) })
	if len(nodes) == 0 {
		return nil
	}
	return d.disable(ctx, nodes)
}

// EnableLiving lets the provider wait again for all nodes that we have disabled and that are
// not dead any more, nor drained since they hold a job's mount.
func (d *Driver) EnableLiving(ctx context.Context) error {
	u, err := d.systemStatus().Get(ctx, "default")
	if err != nil || u == nil {
		return err
	}
	ours := slices.Collect(maps.Keys(d.disabledByUs(u)))
	if len(ours) == 0 {
		return nil
	}
	states, err := d.statesOf(ctx, ours)
	if err != nil {
		return err
	}
	return d.enable(ctx, slices.DeleteFunc(ours, func(node string) bool { return states[node].Dead() || holdsMount(states[node]) }))
}

func (d *Driver) systemStatus() *kube.Objects { return d.objects("systemstatuses", systemNamespace) }

// disabledByUs are the nodes that this Slurm cluster has disabled.
func (d *Driver) disabledByUs(u *unstructured.Unstructured) map[string]bool {
	ours := map[string]bool{}
	for _, node := range strings.FieldsFunc(u.GetAnnotations()[annotationDisabled+d.cfg.Cluster], func(r rune) bool { return r == ',' }) {
		ours[node] = true
	}
	return ours
}

// changeSystemStatus changes what SystemStatus says of nodes, as it was read. DWS makes none:
// the first change makes it, if create is set. change gets the states of nodes and those that
// are ours, and alters the latter.
func (d *Driver) changeSystemStatus(ctx context.Context, create bool, change func(is map[string]string, ours map[string]bool) map[string]any) error {
	var pauses kube.Pauses
	for {
		u, err := d.systemStatus().Get(ctx, "default")
		if err != nil || u == nil && !create {
			return err
		}
		made := u == nil
		if made {
			u = &unstructured.Unstructured{}
		}
		is, _, _ := unstructured.NestedStringMap(u.Object, "data", "nodes")
		ours := d.disabledByUs(u)
		nodes := change(is, ours)
		if len(nodes) == 0 {
			return nil
		}
		var kept any // nil takes the annotation away
		if len(ours) > 0 {
			kept = strings.Join(slices.Sorted(maps.Keys(ours)), ",")
		}
		changed := map[string]any{
			"apiVersion": d.version.String(), "kind": "SystemStatus",
			"metadata": map[string]any{"name": "default", "namespace": systemNamespace, "resourceVersion": u.GetResourceVersion(),
				"annotations": map[string]any{annotationDisabled + d.cfg.Cluster: kept}},
			"data": map[string]any{"nodes": nodes},
		}
		if made {
			_, err = d.systemStatus().Create(ctx, &unstructured.Unstructured{Object: changed})
		} else {
			var body []byte
			if body, err = json.Marshal(changed); err == nil {
				_, err = d.systemStatus().Patch(ctx, "default", body)
			}
		}
		if !kube.Is(err, kube.Conflict) && !kube.Is(err, kube.Exists) {
			return err
		}
		if waiting := pauses.Wait(ctx); waiting != nil {
			return errors.Join(err, waiting)
		}
	}
}
