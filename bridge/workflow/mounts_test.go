package workflow

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/kube/kubetest"
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

// Its mount outlives the job: NNF would wait for it without end.
func TestANodeThatHoldsAMountIsNotWaitedForUntilItIsUndrained(t *testing.T) {
	held := "c02 IDLE+DRAIN " + StillMounted(12, []string{"/mnt/nnf/u1-0"})
	p := newProvider(t)
	_, _, err := p.tend(t, "drain", "", "c01 IDLE", held)
	require.NoError(t, err)
	assert.Equal(t, "computes= disabled=c02 ours=c02", p.told())
	asked, _, err := p.tend(t, "drain", "", "c01 IDLE", held)
	require.NoError(t, err)
	assert.Empty(t, asked, "an administrator undrains it")
	assert.Equal(t, "computes= disabled=c02 ours=c02", p.told())
	_, _, err = p.tend(t, "drain", "", "c01 IDLE", "c02 IDLE")
	require.NoError(t, err)
	assert.Equal(t, "computes= disabled= ours=<nil>", p.told())
	assert.NotNil(t, p.objects["systemstatuses/default/default"], kubetest.Group)
}
