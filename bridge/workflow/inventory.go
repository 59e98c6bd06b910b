package workflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sirupsen/logrus"

	"slurmk8s.io/slurmk8s/bridge/kube"
	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
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
		state := firstOf(p.state, "not made yet")
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

// Print writes the inventory for a person.
func (i *Inventory) Print(ctx context.Context, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(i.Rabbits) > 0 {
		fmt.Fprintln(table, "RABBIT\tFREE\tTOTAL\tNODES\tSTATE")
	}
	for _, r := range i.Rabbits {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", r.Rabbit, placement.Size(r.Free), placement.Size(r.Total), len(r.Nodes),
			wire.OneLine(firstOf(r.Fault, "Ready")))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(i.Persistent) > 0 {
		fmt.Fprintln(table, "PERSISTENT\tTYPE\tUSER\tSTATE\tRABBITS\tUSED BY")
	}
	for _, p := range i.Persistent {
		name, err := users.Name(ctx, uint32(p.UID))
		if err != nil {
			name = fmt.Sprint(p.UID)
		}
		if p.Open {
			name += " (open to all)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Type, wire.OneLine(name), p.State,
			firstOf(strings.Join(p.Rabbits, ","), "-"), firstOf(strings.Join(p.UsedBy, ","), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(i.Rabbits)+len(i.Persistent) == 0 {
		return errors.New("there is no storage: SystemConfiguration default/default names none")
	}
	return nil
}
