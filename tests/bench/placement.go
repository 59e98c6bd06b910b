package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

// placements measures the choice of storage for one job on all 16,000 nodes of a machine
// with 1,000 rabbits and 1,000 other jobs, without requests.
func placements(_ context.Context, b *bench) error {
	machine := newMachine(1000, 16)
	job := []placement.Breakdown{{Sets: []placement.Set{
		{Label: "xfs", Strategy: "AllocatePerCompute", Minimum: 50_000_000_000},
		{Label: "ost", Strategy: "AllocateAcrossServers", Minimum: 1_000_000_000_000_000},
	}}}
	var read, placed []float64
	for range b.samples.calls {
		begin := time.Now()
		system := placement.ReadSystem(&machine.system)
		rabbits := placement.ReadAll(machine.storages, placement.ReadRabbit)
		servers := placement.ReadAll(machine.servers, placement.ReadServers)
		read, begin = append(read, milliseconds(time.Since(begin))), time.Now()
		if _, err := placement.Place(job, placement.NewTopology(system, rabbits, servers, nil), machine.nodes); err != nil {
			return err
		}
		placed = append(placed, milliseconds(time.Since(begin)))
	}
	b.report.add("place_16000_nodes_ms", "ms", median(placed), placed).within(50)
	b.report.add("read_1000_rabbits_ms", "ms", median(read), read)
	return nil
}

// machine is what the API server has of rabbits, each with a job's storage.
type machine struct {
	system            unstructured.Unstructured
	storages, servers []unstructured.Unstructured
	nodes             []string
}

func newMachine(rabbits, nodesEach int) *machine {
	m := &machine{}
	drives := make([]any, 18)
	for i := range drives {
		drives[i] = map[string]any{"status": "Ready", "capacity": int64(2 << 40)}
	}
	var storageNodes []any
	for i := range rabbits {
		name := fmt.Sprintf("rabbit%04d", i)
		var computes, links []any
		for range nodesEach {
			node := fmt.Sprintf("node%05d", len(m.nodes))
			m.nodes = append(m.nodes, node)
			computes = append(computes, map[string]any{"name": node})
			links = append(links, map[string]any{"name": node, "status": "Ready"})
		}
		storageNodes = append(storageNodes, map[string]any{"name": name, "computesAccess": computes})
		m.storages = append(m.storages, unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": "default", "name": name},
			"spec":     map[string]any{"state": "Enabled"},
			"status":   map[string]any{"status": "Ready", "devices": drives, "access": map[string]any{"computes": links}},
		}})
		m.servers = append(m.servers, unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": "default", "name": fmt.Sprintf("bb%d-0", i)},
			"spec": map[string]any{"allocationSets": []any{map[string]any{"label": "xfs", "allocationSize": int64(i) << 30,
				"storage": []any{map[string]any{"name": name, "allocationCount": int64(nodesEach)}}}}},
		}})
	}
	m.system.Object = map[string]any{"spec": map[string]any{"storageNodes": storageNodes}}
	return m
}
