package status

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// notedDuty has nothing for jobs.
type notedDuty struct{ err error }

func (notedDuty) Used(*slurmconf.Config) bool                            { return true }
func (notedDuty) Rights(*slurmconf.Config) []duty.Rights                 { return nil }
func (notedDuty) List(context.Context, duty.Host) ([]duty.Object, error) { return nil, nil }
func (d notedDuty) Notes(context.Context, duty.Host) ([]string, error) {
	return []string{"node c1 is closed"}, d.err
}

func TestWhatADutyTellsOfNoJobIsNotedUnlessOneJobIsAskedFor(t *testing.T) {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	o := Options{Config: slurmconf.Default(), Slurm: slurm.Commands{Dir: t.TempDir()}, Log: logrus.NewEntry(silent),
		Duties: []duty.Duty{notedDuty{errors.New("some cannot be seen")}}}
	report, err := Collect(t.Context(), o)
	require.NoError(t, err)
	require.Subset(t, report.Notes, []string{"some cannot be seen", "node c1 is closed"})
	o.Job = 12
	report, err = Collect(t.Context(), o)
	require.NoError(t, err)
	require.NotContains(t, report.Notes, "node c1 is closed")
}
