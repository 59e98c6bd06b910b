package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Prober asks Slurm for its nodes all the time, as users do, and remembers the worst answer.
type Prober struct {
	mu      sync.Mutex
	probes  []Probe
	excused []excuse
}

// Probe is one question.
type Probe struct {
	At      time.Time
	Took    time.Duration
	Failed  bool
	Drained string // nodes that take no jobs
}

type excuse struct {
	from, to time.Time
	drains   bool // of nodes out of service, otherwise of late answers
}

// Each line asks once. sinfo itself fails when slurmctld does not answer within MessageTimeout (10 s):
// less than an outage in these tests takes, and more than a busy machine needs.
const probeScript = `
while read -r _; do
	a=$EPOCHREALTIME
	out=$(timeout 30 sinfo --noheader --Node --format="%N:%T" 2>&1); status=$?
	echo "$a $EPOCHREALTIME $status" $out
done`

// Probe begins to ask, every 200 ms, until ctx ends.
func (b *Cluster) Probe(ctx context.Context) *Prober {
	p := &Prober{}
	go func() {
		for ctx.Err() == nil {
			_ = p.ask(ctx, b)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return p
}

func (p *Prober) ask(ctx context.Context, b *Cluster) error {
	cmd := exec.CommandContext(ctx, "docker", "exec", "-i", b.Slurmctld, "bash", "-c", probeScript)
	ask, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = ask.Close(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(answers)
	for {
		if _, err := io.WriteString(ask, "\n"); err != nil {
			return err
		}
		if !lines.Scan() {
			return lines.Err()
		}
		probe, err := parseProbe(lines.Text())
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.probes = append(p.probes, probe)
		p.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
	}
}

func parseProbe(line string) (Probe, error) {
	words := strings.Fields(line)
	if len(words) < 3 {
		return Probe{}, fmt.Errorf("probe: cannot read %q", line)
	}
	var times [2]time.Duration
	for i := range times {
		micros, err := strconv.ParseInt(strings.Replace(words[i], ".", "", 1), 10, 64)
		if err != nil {
			return Probe{}, fmt.Errorf("probe: cannot read %q", line)
		}
		times[i] = time.Duration(micros) * time.Microsecond
	}
	probe := Probe{
		At:     time.UnixMicro(times[0].Microseconds()),
		Took:   times[1] - times[0],
		Failed: words[2] != "0",
	}
	for _, node := range words[3:] {
		if probe.Failed {
			break
		}
		// "drain" is also part of "drained", "draining" and of "idle+drain".
		if strings.Contains(node, "drain") || strings.Contains(node, "fail") {
			probe.Drained = strings.TrimSpace(probe.Drained + " " + node)
		}
	}
	return probe, nil
}

// Excuse tolerates that Slurm does not answer, from now until the returned function is called.
func (p *Prober) Excuse() (end func()) { return p.excuse(false) }

// ExcuseDrains tolerates that nodes are out of service. Slurm must answer all the same.
func (p *Prober) ExcuseDrains() (end func()) { return p.excuse(true) }

func (p *Prober) excuse(drains bool) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.excused)
	p.excused = append(p.excused, excuse{drains: drains, from: time.Now()})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.excused[at].to = time.Now()
	}
}

// Faults returns what was wrong since a time, and the worst answer that nothing excuses.
func (p *Prober) Faults(since time.Time) (faults []string, worst time.Duration, count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, probe := range p.probes {
		if probe.At.Before(since) {
			continue
		}
		count++
		excused := func(drains bool) bool {
			return slices.ContainsFunc(p.excused, func(e excuse) bool { return e.drains == drains && probe.within(e) })
		}
		if probe.Drained != "" && !excused(true) {
			faults = append(faults, fmt.Sprintf("%s: node out of service: %s", probe.At.Format("15:04:05"), probe.Drained))
		}
		if excused(false) {
			continue
		}
		worst = max(worst, probe.Took)
		if probe.Failed {
			faults = append(faults, fmt.Sprintf("%s: sinfo failed after %v", probe.At.Format("15:04:05"), probe.Took))
		}
	}
	return faults, worst, count
}

// within tells whether any of the probe's time was excused.
func (p Probe) within(e excuse) bool {
	return p.At.Add(p.Took).After(e.from) && (e.to.IsZero() || p.At.Before(e.to))
}
