package job

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAnObjectSaysWhoseItIs(t *testing.T) {
	for name, want := range map[string]Job{
		"all that Slurm tells":   {Cluster: "alps", ID: 12, Restarts: 2, UID: 1000, User: "alice", SubmitTime: "1700000000"},
		"what Slurm 22.05 tells": {Cluster: "alps", ID: 12, UID: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"labels": want.Labels(), "annotations": want.Annotations()}}}
			got, ours := Of(u, "alps")
			require.True(t, ours)
			assert.Equal(t, want, got)
			_, ours = Of(u, "other")
			assert.False(t, ours, "of another cluster")
		})
	}
}

func TestWhatSlurmDoesNotTellIsNotAnnotated(t *testing.T) {
	assert.Equal(t, map[string]any{AnnotationUID: "1000"}, Job{UID: 1000, Restarts: AnyRun}.Annotations())
}

func TestALeaseIsFreshForItsRunAndItsDuration(t *testing.T) {
	run := Job{Cluster: "alps", ID: 12, Restarts: 1}
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bounded := (&Keeper{Job: run, Duration: time.Minute}).Lease("jobs", begin)
	unbounded := (&Keeper{Job: run}).Lease("jobs", begin)
	earlier := run
	earlier.Restarts = 0
	for _, tt := range []struct {
		name  string
		lease *unstructured.Unstructured
		job   Job
		after time.Duration
		fresh bool
	}{
		{"just renewed", bounded, run, time.Second, true},
		{"run out", bounded, run, 2 * time.Minute, false},
		{"without an end", unbounded, run, time.Hour, true},
		{"of another run", bounded, earlier, time.Second, false},
		{"not there", nil, run, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, fresh := Renewed(tt.lease, tt.job, begin.Add(tt.after))
			assert.Equal(t, tt.fresh, fresh)
		})
	}
}
