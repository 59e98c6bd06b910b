package reconcile

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
)

func TestRunRemovesWhatIsOver(t *testing.T) {
	t.Parallel()
	s, gone := newSlurm(t), newRemoved()
	s.jobs("1|RUNNING|a|c1")
	results, failed := Run(t.Context(), options(t, s, keeps(gone.object(1, "a1"), gone.object(2, "a2")),
		keeps(gone.object(2, "b2"), gone.object(1, "b1"))))
	require.Empty(t, failed)
	assert.Len(t, results, 2)
	assert.ElementsMatch(t, []string{"a2", "b2"}, gone.all())
}

// An answer with nothing in it, which a slurmctld gives that lost its state, or one
// that slurm_conf should not name.
func TestAnEmptyAnswerRemovesNothing(t *testing.T) {
	t.Parallel()
	s, gone := newSlurm(t), newRemoved()
	s.controller(time.Hour, 1)
	for _, force := range []bool{false, true} {
		o := options(t, s, keeps(gone.object(1, "a1"), gone.object(2, "a2")))
		o.Force = force
		results, failed := Run(t.Context(), o)
		assert.Empty(t, results)
		require.Len(t, failed, 1)
		require.ErrorContains(t, failed[0], "slurmctld lost its state")
	}
	assert.Empty(t, gone.all())
}

func TestMuchAtOnceIsRemovedByTheSecondRunOrByForce(t *testing.T) {
	t.Parallel()
	s, gone := newSlurm(t), newRemoved()
	var objects []duty.Object
	for id := uint32(1); id <= 6; id++ {
		objects = append(objects, gone.object(id, fmt.Sprint(id)))
	}
	o := options(t, s, keeps(objects...))
	o.DryRun = true
	results, failed := Run(t.Context(), o)
	assert.Len(t, results, 6)
	require.Len(t, failed, 1)

	o.DryRun = false
	results, failed = Run(t.Context(), o)
	assert.Empty(t, results)
	require.Len(t, failed, 1)
	require.ErrorContains(t, failed[0], "held back: 6 of the 6 jobs")
	assert.Empty(t, gone.all())
	_, failed = Run(t.Context(), o)
	require.Empty(t, failed)
	assert.Len(t, gone.all(), 6)

	o = options(t, s, keeps(objects...))
	o.Force = true
	_, failed = Run(t.Context(), o)
	require.Empty(t, failed)
	assert.Len(t, gone.all(), 6)
}

func TestADutyThatCannotListDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	s, gone := newSlurm(t), newRemoved()
	broken := errors.New("list workflows: no")
	_, failed := Run(t.Context(), options(t, s, fails(broken), keeps(gone.object(2, "b2"))))
	assert.Equal(t, []error{broken}, failed)
	assert.Equal(t, []string{"b2"}, gone.all())
}

func TestADutyThatHangsInItsListCostsItsOwnShare(t *testing.T) {
	t.Parallel()
	s, gone := newSlurm(t), newRemoved()
	hangs := func(ctx context.Context) ([]duty.Object, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	o := options(t, s, hangs, keeps(gone.object(2, "b2")))
	o.Limit = 10 * time.Second // for Slurm's three commands as well
	_, failed := Run(t.Context(), o)
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[0], context.DeadlineExceeded)
	assert.Equal(t, []string{"b2"}, gone.all())
}

// hanging is an object whose removal takes all the time that it gets.
func hanging(id uint32) duty.Object {
	return duty.Object{Name: fmt.Sprintf("stuck %d", id), JobID: id, Remove: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
}

func TestObjectsThatHangDoNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	gone := newRemoved()
	var objects []duty.Object
	for id := uint32(1); id <= 2*atOnce; id++ {
		objects = append(objects, hanging(id)) // they take every place, twice
	}
	objects = append(objects, gone.object(1000, "same duty"))
	o := Options{Limit: 3 * time.Second}
	results := o.remove(t.Context(), [][]duty.Object{objects, {gone.object(1001, "other duty")}})
	assert.ElementsMatch(t, []string{"same duty", "other duty"}, gone.all())
	for _, r := range results[:2*atOnce] {
		require.ErrorIs(t, r.Err, context.DeadlineExceeded)
	}
}

func TestAChainIsRemovedInItsOrder(t *testing.T) {
	t.Parallel()
	gone := newRemoved()
	chain := func(name string, err error, last bool) duty.Object {
		o := gone.object(1, name)
		remove := o.Remove
		o.Chain, o.Last = "ns/1", last
		o.Remove = func(ctx context.Context) error {
			if err != nil {
				return err
			}
			return remove(ctx)
		}
		return o
	}
	o := Options{Limit: time.Minute}
	results := o.remove(t.Context(), [][]duty.Object{{chain("slice", nil, false), chain("service", nil, false), chain("lease", nil, true)}})
	assert.Equal(t, []string{"slice", "service", "lease"}, gone.all())
	for _, r := range results {
		require.NoError(t, r.Err)
	}
	results = o.remove(t.Context(), [][]duty.Object{{chain("slice", errors.New("no"), false), chain("service", nil, false), chain("lease", nil, true)}})
	assert.Equal(t, []string{"service"}, gone.all())
	require.ErrorContains(t, results[2].Err, "left with what belongs to it")
	assert.True(t, results[2].Failed())
	results = o.remove(t.Context(), [][]duty.Object{{chain("slice", duty.ErrChanged, false), chain("service", nil, false), chain("lease", nil, true)}})
	assert.Equal(t, []string{"service"}, gone.all())
	assert.False(t, results[0].Failed(), "the next run judges it again")
	require.ErrorIs(t, results[2].Err, duty.ErrChanged)
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		squeue string
		change func(*Options)
		want   []string
		fails  string
	}{
		{"a job that is over", "12|COMPLETED|a|c1", func(*Options) {}, []string{"a12", "b12"}, ""},
		{"a job that runs", "12|RUNNING|a|c1", func(*Options) {}, []string{}, "nothing was touched: job 12 is RUNNING (--force"},
		{"a job that runs, by force", "12|RUNNING|a|c1", func(o *Options) { o.Force = true }, []string{"a12", "b12"}, ""},
		{"a dry run", "12|RUNNING|a|c1", func(o *Options) { o.DryRun = true }, []string{}, ""},
		{"Slurm does not answer", "12", func(*Options) {}, []string{}, "Slurm's jobs are unknown"},
		{"Slurm does not answer, by force", "12", func(o *Options) { o.Force = true }, []string{"a12", "b12"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, gone := newSlurm(t), newRemoved()
			s.jobs(tt.squeue)
			o := options(t, s, keeps(gone.object(12, "a12")), keeps(gone.object(12, "b12")))
			tt.change(&o)
			_, failed := Cleanup(t.Context(), o)
			assert.ElementsMatch(t, tt.want, gone.all())
			if tt.fails == "" {
				assert.Empty(t, failed)
				return
			}
			require.Len(t, failed, 1)
			require.ErrorContains(t, failed[0], tt.fails)
		})
	}
}
