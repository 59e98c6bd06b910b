package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"slurmk8s.io/slurmk8s/bridge/workflow"
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
		err = inventory.Print(ctx, os.Stdout)
	}
	if err != nil {
		return failed(err)
	}
	return exitOK
}
