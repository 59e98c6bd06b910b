package workflow

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Inventory is the storage of a provider that has servers.
type Inventory struct {
	Rabbits    []placement.Room `json:"rabbits"`
	Persistent []Persistent     `json:"persistent"`
}

// Persistent is a persistent instance in the namespace of the Workflows.
type Persistent struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // raw, xfs, gfs2, lustre
	UID     int64    `json:"uid"`  // of its owner
	Open    bool     `json:"open"` // to other users as well
	State   string   `json:"state"`
	Rabbits []string `json:"rabbits"`
	UsedBy  []string `json:"used_by"` // "namespace/workflow-index"
}

// topology is what rabbits there are and what is free of them; nil: the provider has none.
func (d *Driver) topology(ctx context.Context) (*placement.Topology, error) {
	u, err := d.objects("systemconfigurations", systemNamespace).Get(ctx, "default")
	if kube.Is(err, kube.Unserved) {
		return nil, nil
	}
	if err != nil || u == nil {
		return nil, err
	}
	storages, err := d.objects("storages", systemNamespace).List(ctx, cachedList)
	if err != nil {
		return nil, err
	}
	all, _, err := d.promises(ctx, nil)
	if err != nil {
		return nil, err
	}
	return placement.NewTopology(placement.ReadSystem(u), placement.ReadAll(storages, placement.ReadRabbit), all, nil), nil
}

// TakeInventory asks DWS for it. A provider without servers has none: that is an error.
func TakeInventory(ctx context.Context, cfg *slurmconf.Config, client *kube.Client, log *logrus.Entry) (*Inventory, error) {
	d, err := New(ctx, cfg, client, log)
	if err != nil {
		return nil, err
	}
	system, err := d.system(ctx)
	if err != nil {
		return nil, err
	}
	storages, err := d.objects("storages", systemNamespace).List(ctx, kube.Selection{})
	if err != nil {
		return nil, err
	}
	all, _, err := d.promises(ctx, nil)
	if err != nil {
		return nil, err
	}
	instances, err := d.objects("persistentstorageinstances", cfg.Workflows.Namespace).List(ctx, kube.Selection{})
	if err != nil {
		return nil, err
	}
	topology := placement.NewTopology(system, placement.ReadAll(storages, placement.ReadRabbit), all, nil)
	inventory := &Inventory{Rabbits: topology.Rooms(), Persistent: []Persistent{}}
	for i := range instances {
		p := readInstance(&instances[i])
		state := cmp.Or(p.state, "not made yet")
		if p.deleting {
			state = "Destroying"
		}
		on := map[string]bool{}
		if at := slices.IndexFunc(all, func(s placement.Servers) bool { return s.ID == p.servers }); at >= 0 {
			on = all[at].Rabbits()
		}
		inventory.Persistent = append(inventory.Persistent, Persistent{
			Name: instances[i].GetName(), Type: p.fsType, UID: p.owner, Open: p.open, State: state,
			Rabbits: slices.Sorted(maps.Keys(on)), UsedBy: p.consumers,
		})
	}
	return inventory, nil
}

// Find is the part of the inventory that has the name: a rabbit, or a persistent instance.
func (i *Inventory) Find(name string) (*Inventory, error) {
	found := &Inventory{
		Rabbits:    slices.DeleteFunc(slices.Clone(i.Rabbits), func(r placement.Room) bool { return r.Rabbit != name }),
		Persistent: slices.DeleteFunc(slices.Clone(i.Persistent), func(p Persistent) bool { return p.Name != name }),
	}
	if len(found.Rabbits)+len(found.Persistent) == 0 {
		return nil, fmt.Errorf("there is no rabbit and no persistent storage %q", name)
	}
	return found, nil
}
