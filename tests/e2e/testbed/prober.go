package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
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
	Control time.Duration // what the machine needs for a sinfo that asks nobody
	Failed  bool
	Drained string // nodes that take no jobs
}

type excuse struct {
	from, to time.Time
	limit    time.Duration // 0: Slurm may be down
	why      string
}

// Each line asks once. The first time is that of the same program when it asks nobody.
const probeScript = `
while read -r _; do
	a=$EPOCHREALTIME
	sinfo --version >/dev/null
	b=$EPOCHREALTIME
	out=$(timeout 30 sinfo --noheader --Node --format="%N:%T" 2>&1); status=$?
	echo "$a $b $EPOCHREALTIME $status" $out
done`

// Probe begins to ask, every 200 ms, until ctx ends.
func (b *Bed) Probe(ctx context.Context) *Prober {
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

func (p *Prober) ask(ctx context.Context, b *Bed) error {
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
	if len(words) < 4 {
		return Probe{}, fmt.Errorf("probe: cannot read %q", line)
	}
	var times [3]time.Duration
	for i := range times {
		micros, err := strconv.ParseInt(strings.Replace(words[i], ".", "", 1), 10, 64)
		if err != nil {
			return Probe{}, fmt.Errorf("probe: cannot read %q", line)
		}
		times[i] = time.Duration(micros) * time.Microsecond
	}
	probe := Probe{
		At:      time.UnixMicro(times[1].Microseconds()),
		Took:    times[2] - times[1],
		Control: times[1] - times[0],
		Failed:  words[3] != "0",
	}
	for _, node := range words[4:] {
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

// Excuse tolerates slow answers from now until the returned function is called: up to limit, or,
// with limit 0, any, and none.
func (p *Prober) Excuse(limit time.Duration, why string) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.excused)
	p.excused = append(p.excused, excuse{from: time.Now(), limit: limit, why: why})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.excused[at].to = time.Now()
	}
}

const (
	// atRest is what the control takes, at most, on a machine that is not busy.
	atRest = 50 * time.Millisecond
	// hops is how many processes must get the processor, one after the other, for an answer:
	// sinfo, munged, three threads of slurmctld, munged, sinfo.
	hops = 8
)

// allowance is what a machine that is busy otherwise adds to an answer.
func (p Probe) allowance() time.Duration { return max(0, hops*(p.Control-atRest)) }

// Faults returns what was wrong since a time, and the worst answer that nothing excuses.
func (p *Prober) Faults(since time.Time, limit time.Duration) (faults []string, worst time.Duration, count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, probe := range p.probes {
		if probe.At.Before(since) {
			continue
		}
		count++
		if probe.Drained != "" {
			faults = append(faults, fmt.Sprintf("%s: node out of service: %s", probe.At.Format("15:04:05"), probe.Drained))
		}
		allowed, down := limit, false
		for _, e := range p.excused {
			if probe.At.Add(probe.Took).After(e.from) && (e.to.IsZero() || probe.At.Before(e.to)) {
				allowed, down = max(allowed, e.limit), down || e.limit == 0
			}
		}
		if down {
			continue
		}
		if allowed == limit {
			worst = max(worst, probe.Took)
		}
		switch {
		case probe.Failed:
			faults = append(faults, fmt.Sprintf("%s: sinfo failed after %v", probe.At.Format("15:04:05"), probe.Took))
		case probe.Took > allowed+probe.allowance():
			faults = append(faults, fmt.Sprintf("%s: sinfo took %v, more than %v (%v without asking Slurm)",
				probe.At.Format("15:04:05"), probe.Took, allowed, probe.Control))
		}
	}
	return faults, worst, count
}
