package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
)

func TestStorageIsShownInTables(t *testing.T) {
	var out strings.Builder
	require.NoError(t, printInventory(t.Context(), &out, &workflow.Inventory{
		Rabbits: []placement.Room{
			{Rabbit: "r1", Free: 15 << 40, Total: 20 << 40, Nodes: []string{"c01", "c02"}},
			{Rabbit: "r2", Free: 20 << 40, Total: 20 << 40, Fault: "Offline"},
		},
		Persistent: []workflow.Persistent{
			{Name: "data", Type: "xfs", State: "Active", Rabbits: []string{"r1", "r2"}, UsedBy: []string{"slurm/bb7-0"}},
			{Name: "new", Type: "lustre", State: "not made yet", Open: true},
		},
	}))
	assert.Equal(t, `RABBIT  FREE       TOTAL      NODES  STATE
r1      15.00 TiB  20.00 TiB  2      Ready
r2      20.00 TiB  20.00 TiB  0      Offline
PERSISTENT  TYPE    USER                STATE         RABBITS  USED BY
data        xfs     root                Active        r1,r2    slurm/bb7-0
new         lustre  root (open to all)  not made yet  -        -
`, out.String())
	require.EqualError(t, printInventory(t.Context(), &out, &workflow.Inventory{}), "there is no storage: SystemConfiguration default/default names none")
}
