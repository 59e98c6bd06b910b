package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// Brake keeps one run from removing what is kept for many jobs. What the next run
// comes to as well is removed then. Jobs are counted, not objects: the question is
// whether a job is over.
type Brake struct {
	File string // remembers the jobs of the run that was held back
	Max  int    // jobs in one run
}

// few is how many jobs may be all that there are.
const few = 5

// Hold returns the jobs of which what is kept may be removed now: of those that seem to
// be over, among all that something is kept for. An error tells what is held back.
func (b Brake) Hold(all, over []uint32, dryRun bool) ([]uint32, error) {
	if len(over) <= b.Max && (len(over) <= few || 2*len(over) <= len(all)) {
		if dryRun {
			return over, nil
		}
		return over, hostfile.Remove(b.File)
	}
	before, err := os.ReadFile(b.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	agreed := strings.Fields(string(before))
	held := func(id uint32) bool { return !slices.Contains(agreed, strconv.FormatUint(uint64(id), 10)) }
	if !slices.ContainsFunc(over, held) {
		return over, nil
	}
	err = fmt.Errorf("held back: %d of the %d jobs that something is kept for seem to be over, and one run removes only what is kept for half of them "+
		"and for %d (reconcile.max_removals); the next run removes what it comes to as well, \"slurmk8s reconcile --force\" all of it now",
		len(over), len(all), b.Max)
	if dryRun {
		return over, err
	}
	var text strings.Builder
	for _, id := range over {
		fmt.Fprintln(&text, id)
	}
	failed := os.MkdirAll(filepath.Dir(b.File), 0o755)
	if failed == nil {
		failed = hostfile.Write(b.File, text.String(), 0o644)
	}
	if failed != nil {
		err = fmt.Errorf("%w; the next run will not know of this one: %w", err, failed)
	}
	allowed := slices.DeleteFunc(slices.Clone(over), held)
	return allowed, err
}

// jobsOf are the jobs that objects are kept for, each once.
func jobsOf(objects []duty.Object) []uint32 {
	var ids []uint32
	for _, o := range objects {
		ids = append(ids, o.JobID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
