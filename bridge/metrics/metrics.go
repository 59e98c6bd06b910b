// Package metrics counts what hooks do, for node_exporter's textfile collector.
//
// Hooks are short processes that run in parallel, some under Slurm's locks: a hook only
// appends a line to a file. `slurmk8s reconcile` adds up the lines.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slurmk8s.io/slurmk8s/bridge/hostfile"
)

// Dir holds the samples and the sums: state_dir on the controller, run_dir on a node.
// "": nothing is counted.
type Dir string

// In returns dir if the site has configured a textfile for its metrics, else "".
func In(textfile, dir string) Dir {
	if textfile == "" {
		return ""
	}
	return Dir(dir)
}

const (
	samplesFile = "metrics.samples"
	foldingFile = "metrics.folding"
	sumsFile    = "metrics.json"

	// maxSamplesBytes ends the growth where no reconcile runs: some 100,000 hooks.
	maxSamplesBytes = 4 << 20
)

// Record records one run of a hook. Errors are ignored: nothing depends on it.
func (d Dir) Record(hook string, code int, took time.Duration) {
	if d == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(string(d), samplesFile),
		os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxSamplesBytes {
		return
	}
	// One write: lines of hooks beside each other do not mix.
	_, _ = fmt.Fprintf(f, "%s %d %d\n", hook, code, took.Microseconds())
}

// Fold adds the samples to the sums and writes them to a textfile for Prometheus, which
// is replaced atomically. One process folds at a time; a second one does nothing. Neither
// does a user who does not own the directory, such as root at a prompt, because the owner
// could not read the files. left is the number of objects that reconcile could not remove.
func (d Dir) Fold(textfile string, removed, left int, now time.Time) error {
	var info unix.Stat_t
	if err := unix.Stat(string(d), &info); err != nil || int(info.Uid) != os.Geteuid() {
		return nil
	}
	once, cancel := context.WithCancel(context.Background())
	cancel() // not waited for
	unlock, err := hostfile.Lock(once, filepath.Join(string(d), foldingFile+".lock"))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	defer unlock()
	sums, err := d.readSums()
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	samples, err := d.takeSamples()
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	for line := range strings.Lines(samples) {
		sums.add(line)
	}
	sums.Removed += removed
	sums.Left, sums.Reconciled = left, now.Unix()
	if err := d.writeSums(sums); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	// After the sums: who dies in between has counted these samples twice at most.
	if err := os.Remove(filepath.Join(string(d), foldingFile)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("metrics: %w", err)
	}
	if err := hostfile.Write(textfile, sums.text(), 0o644); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// takeSamples moves the samples out of the way of the hooks and reads them, or those
// that a fold left which did not come to its end.
func (d Dir) takeSamples() (string, error) {
	folding := filepath.Join(string(d), foldingFile)
	if _, err := os.Lstat(folding); os.IsNotExist(err) {
		err := os.Rename(filepath.Join(string(d), samplesFile), folding)
		if os.IsNotExist(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
	text, err := os.ReadFile(folding)
	return string(text), err
}
