package slurm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNodeStates(t *testing.T) {
	c := Commands{Dir: t.TempDir()}
	script(t, c.Dir, "sinfo", `echo "c1   down*+drain+not_responding disk is  broken"; echo "c1   down*+drain+not_responding disk is broken"; echo "c2   IDLE+CLOUD+POWERED_DOWN none "; echo "c3  mixed+not_responding"; echo "c4 idle+cloud"; echo "c6 allocated+powered_down+power_up"`)
	states, err := c.NodeStates(t.Context(), []string{"c1", "c2", "c3", "c4", "c5"})
	require.NoError(t, err)
	dead := map[string]bool{}
	for node, state := range states {
		dead[node] = state.Dead()
	}
	assert.Equal(t, map[string]bool{"c1": true, "c2": true, "c3": false, "c4": false, "c6": false}, dead)
	assert.Equal(t, NodeState{[]string{"down", "drain", "not_responding"}, "disk is broken"}, states["c1"])
	assert.True(t, states["c1"].Drained())
	assert.False(t, states["c4"].Drained())
	assert.Empty(t, states["c2"].Reason)
}

func TestAnAnswerOfSinfoThatCannotBeReadIsAnError(t *testing.T) {
	c := Commands{Dir: t.TempDir()}
	script(t, c.Dir, "sinfo", "echo hello")
	_, err := c.NodeStates(t.Context(), []string{"c1"})
	require.EqualError(t, err, `sinfo: cannot read "hello"`)
}
