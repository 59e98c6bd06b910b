package workflow

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/slurm/slurmtest"
	"slurmk8s.io/slurmk8s/slurmconf"
)

func TestWhereAJobsStorageIsMounted(t *testing.T) {
	files := NodeFiles(t.TempDir())
	none, err := files.Paths(7)
	require.NoError(t, err)
	assert.Empty(t, none)
	require.NoError(t, files.Keep(7, 1000, 1000, &Delivery{Of: "bb7:u1", Env: map[string]string{
		"DW_JOB_a": "/mnt/nnf/u1-0", "DW_JOB_XFS": "/mnt/nnf/u1-0", "DW_PERSISTENT_p": "/mnt/nnf/u1-1/", "DW_JOBS": "a:/mnt/nnf/u1-0", "HOME": "/root", "DW_JOB_n": "1"}}))
	paths, err := files.Paths(7)
	require.NoError(t, err)
	assert.Equal(t, []string{"/mnt/nnf/u1-0", "/mnt/nnf/u1-1"}, paths)
}

func TestAnEpilogWaitsForItsOwnMounts(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	write := func(lines string) {
		require.NoError(t, os.WriteFile(table+".new", []byte(lines), 0o600))
		require.NoError(t, os.Rename(table+".new", table))
	}
	const other = "36 35 98:0 / / rw - ext4 /dev/root rw\n40 36 0:9 / /mnt/nnf/u1-01 rw - xfs /dev/x rw\n"
	write(other + "37 36 0:7 / /mnt/nnf/u1-0 rw,noatime shared:1 - xfs /dev/dm-1 rw\n38 36 0:8 / /mnt/a\\040b rw - lustre x rw\n")
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	left, err := awaitUnmounted(short, table, []string{"/mnt/nnf/u1-0", "/mnt/a b", "/mnt/gone"})
	require.NoError(t, err)
	assert.Equal(t, []string{"/mnt/nnf/u1-0", "/mnt/a b"}, left)

	done := make(chan []string)
	go func() {
		left, err := awaitUnmounted(t.Context(), table, []string{"/mnt/nnf/u1-0"})
		assert.NoError(t, err)
		done <- left
	}()
	write(other)
	assert.Empty(t, <-done)
	left, err = AwaitUnmounted(t.Context(), []string{"/mnt/nnf/nowhere"})
	require.NoError(t, err)
	assert.Empty(t, left, "the kernel's own list is read")
}

func TestANodeUndrainsItselfWhenNothingIsMountedAnyMore(t *testing.T) {
	gone := []string{"/mnt/nnf/gone", "/mnt/nnf/too"}
	stays := []string{"/mnt/nnf/gone", "/proc"}
	for name, test := range map[string]struct {
		paths           []string
		state, reason   string
		undrained, away bool
		left            string
	}{
		"it is unmounted":                  {paths: gone, state: "IDLE+DRAIN", reason: StillMounted(12, gone), undrained: true},
		"it is still mounted":              {paths: stays, state: "IDLE+DRAIN", reason: StillMounted(12, stays), left: "/proc is still mounted"},
		"a person has added to the reason": {paths: gone, state: "IDLE+DRAIN", reason: StillMounted(12, gone) + ", see ticket 12"},
		"another job's mount":              {paths: gone, state: "IDLE+DRAIN", reason: StillMounted(13, gone)},
		"a person has undrained it":        {paths: gone, state: "IDLE"},
		"Slurm does not answer":            {paths: gone, state: "IDLE+DRAIN", reason: StillMounted(12, gone), away: true, left: "Unable to contact slurm controller"},
	} {
		t.Run(name, func(t *testing.T) {
			slurmctld := slurmtest.NewNodes(t, t.TempDir())
			slurmctld.Set("c1", test.state, test.reason)
			slurmctld.Away(test.away)
			cfg := slurmconf.Default()
			cfg.SlurmBinDir, cfg.Services.RunDir = slurmctld.Dir, t.TempDir()
			require.NoError(t, NodeFiles(cfg.Services.RunDir).Hold(12, test.paths))
			objects, err := Duty{}.ListHere(t.Context(), duty.Host{Config: cfg, Node: "c1"})
			require.NoError(t, err)
			require.Len(t, objects, 1)
			assert.Equal(t, "drain of node c1 for the mounts of job 12", objects[0].Name)
			assert.True(t, objects[0].Needed(slurm.Job{State: "RUNNING", Nodes: []string{"c1"}}))
			err = objects[0].Remove(t.Context())
			want := test.state
			if test.undrained {
				want = "IDLE"
			}
			state, _ := slurmctld.Get("c1")
			assert.Equal(t, want, state)
			after, listErr := Duty{}.ListHere(t.Context(), duty.Host{Config: cfg, Node: "c1"})
			require.NoError(t, listErr)
			if test.left != "" {
				require.ErrorContains(t, err, test.left)
				assert.Len(t, after, 1, "the next run tries again")
				return
			}
			require.NoError(t, err)
			assert.Empty(t, after)
		})
	}
}

// Its mount outlives the job: NNF would wait for it without end.
func TestANodeThatHoldsAMountIsNotWaitedForUntilItIsUndrained(t *testing.T) {
	held := "c02 IDLE+DRAIN " + StillMounted(12, []string{"/mnt/nnf/u1-0"})
	p := newProvider(t)
	_, _, err := p.tend(t, "drain", "", "c01 IDLE", held)
	require.NoError(t, err)
	assert.Equal(t, "computes= disabled=c02 ours=c02", p.told())
	asked, _, err := p.tend(t, "drain", "", "c01 IDLE", held)
	require.NoError(t, err)
	assert.Empty(t, asked, "the node undrains itself")
	assert.Equal(t, "computes= disabled=c02 ours=c02", p.told())
	_, _, err = p.tend(t, "drain", "", "c01 IDLE", "c02 IDLE")
	require.NoError(t, err)
	assert.Equal(t, "computes= disabled= ours=<nil>", p.told())
	assert.NotNil(t, p.objects["systemstatuses/default/default"], kubetest.Group)
}
