package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/users"
	"slurmk8s.io/slurmk8s/bridge/wire"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func storageCommand() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "storage [NAME]", Short: "show what storage there is, and what is free of it",
		Long: `Shows the storage of a DWS provider that has servers of its own (HPE NNF): how much of each
rabbit is neither used nor promised to a job, and which persistent instances there are, whose
they are, where they are and which Workflows use them. NAME is a rabbit or a persistent
instance. Run it on the controller as root or SlurmUser.

Exit status: 0 shown, 1 failed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s takes one name", cmd.Name())
			}
			return end(runStorage(cmd.Context(), config, asJSON, args))
		},
	}
	withConfig(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runStorage(ctx context.Context, config string, asJSON bool, names []string) int {
	cfg, err := slurmconf.Load(config)
	if err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	client, err := operatorClient(ctx, cfg, "storage", quiet())
	if err != nil {
		return failed(err)
	}
	inventory, err := workflow.TakeInventory(ctx, cfg, client, quiet())
	if err == nil && len(names) > 0 {
		inventory, err = inventory.Find(names[0])
	}
	if err == nil && asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(inventory)
	} else if err == nil {
		err = printInventory(ctx, os.Stdout, inventory)
	}
	if err != nil {
		return failed(err)
	}
	return exitOK
}

// printInventory writes it for a person.
func printInventory(ctx context.Context, out io.Writer, i *workflow.Inventory) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(i.Rabbits) > 0 {
		fmt.Fprintln(table, "RABBIT\tFREE\tTOTAL\tNODES\tSTATE")
	}
	for _, r := range i.Rabbits {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", r.Rabbit, placement.Size(r.Free), placement.Size(r.Total), len(r.Nodes),
			wire.OneLine(cmp.Or(r.Fault, "Ready")))
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
			cmp.Or(strings.Join(p.Rabbits, ","), "-"), cmp.Or(strings.Join(p.UsedBy, ","), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(i.Rabbits)+len(i.Persistent) == 0 {
		return errors.New("there is no storage: SystemConfiguration default/default names none")
	}
	return nil
}
