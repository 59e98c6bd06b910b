package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// realSlurm is a Slurm of one node in a container, which shares the host's network and with it
// the API server; see harness/slurm.
type realSlurm struct {
	b         *bench
	container string
}

// startSlurm starts it; pluginLine is what comes between the stopwatches in the variant "with".
func (b *bench) startSlurm(ctx context.Context, pluginLine string) (*realSlurm, error) {
	if b.slurmImage == "" {
		return nil, fmt.Errorf("no image with Slurm (-slurm-image)")
	}
	for variant, line := range map[string]string{"without": "", "with": pluginLine} {
		text := fmt.Sprintf("required %s/bench/before.so %s %s\n%srequired %s/bench/after.so %s %s\n",
			b.build, variant, b.path("slurm"), line, b.build, variant, b.path("slurm"))
		if err := os.MkdirAll(b.path("slurm"), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(b.path("slurm/plugstack."+variant), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	s := &realSlurm{b: b, container: fmt.Sprintf("slurmk8s-bench-%d", os.Getpid())}
	_, err := docker(ctx, "run", "--detach", "--rm", "--init", "--network", "host", "--hostname", "bench", "--name", s.container,
		"--volume", b.dir+":"+b.dir, "--volume", b.server.Dir+":"+b.server.Dir+":ro", "--volume", b.build+":"+b.build+":ro", "--volume", b.harness+":/harness:ro",
		"--entrypoint", "/harness/slurm", b.slurmImage, b.path("slurm"))
	return s, err
}

func (s *realSlurm) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, _ = docker(ctx, "rm", "--force", s.container)
}

func docker(ctx context.Context, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	command := exec.CommandContext(ctx, "docker", args...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// launched is what launches of a variant took, in ms.
type launched struct {
	wall []float64            // srun, from its start to its end
	own  map[string][]float64 // between the stopwatches, by process: "srun", "slurmstepd", "task", "slurmd"; and "before tasks"
	maps map[string]mapped    // by process
}

// mapped is what a process has mapped: KB of memory by file.
type mapped map[string]float64

// launch runs harness/launches.
func (s *realSlurm) launch(ctx context.Context, rounds, launches int, options ...string) (map[string]*launched, error) {
	_ = os.Remove(s.b.path("slurm/times"))
	out, err := docker(ctx, append([]string{"exec", s.container, "/harness/launches", s.b.path("slurm"),
		strconv.Itoa(rounds), strconv.Itoa(launches)}, options...)...)
	if err != nil {
		return nil, err
	}
	result := map[string]*launched{}
	for _, variant := range []string{"without", "with"} {
		l := &launched{own: map[string][]float64{}, maps: map[string]mapped{}}
		for _, process := range []string{"srun", "slurmstepd", "slurmd"} {
			if l.maps[process], err = readMaps(s.b.path("slurm/maps." + variant + "." + process)); err != nil {
				return nil, err
			}
		}
		result[variant] = l
	}
	for line := range strings.Lines(string(out)) {
		var variant string
		var microseconds float64
		if _, err := fmt.Sscan(line, &variant, &microseconds); err != nil || result[variant] == nil {
			return nil, fmt.Errorf("launches: cannot read %q", line)
		}
		result[variant].wall = append(result[variant].wall, microseconds/1000)
	}
	times, err := os.ReadFile(s.b.path("slurm/times"))
	if err != nil {
		return nil, err
	}
	return result, addTimes(result, string(times))
}

// addTimes reads what the stopwatches told. Of each process it adds up how much later `after`
// was called than `before`.
func addTimes(result map[string]*launched, text string) error {
	type process struct {
		variant, context string
		loaded           bool // it is the one that loaded the plugins, not a task
		ns               map[string]int64
	}
	processes := map[string]*process{}
	var order []string
	for line := range strings.Lines(text) {
		var variant, context, pid, place, callback string
		var ns int64
		if _, err := fmt.Sscan(line, &variant, &context, &pid, &place, &callback, &ns); err != nil || result[variant] == nil {
			return fmt.Errorf("stopwatch: cannot read %q", line)
		}
		p := processes[variant+pid]
		if p == nil {
			p = &process{variant: variant, context: context, ns: map[string]int64{}}
			processes[variant+pid], order = p, append(order, variant+pid)
		}
		p.loaded = p.loaded || callback == "load"
		if place == "before" {
			ns = -ns
		}
		p.ns[callback] += ns
	}
	for _, key := range order {
		p := processes[key]
		own := result[p.variant].own
		var all, beforeTasks float64
		for callback, ns := range p.ns {
			if ns < 0 || ns > int64(time.Minute) {
				return fmt.Errorf("stopwatch: process %s was called for %s by one stopwatch only", key, callback)
			}
			all += float64(ns) / 1e6
			if callback != "task_exit" && callback != "exit" {
				beforeTasks += float64(ns) / 1e6
			}
		}
		switch {
		case !p.loaded:
			own["task"] = append(own["task"], all)
		case p.context == "slurmstepd":
			own["before tasks"] = append(own["before tasks"], beforeTasks)
			fallthrough
		default:
			own[p.context] = append(own[p.context], all)
		}
	}
	return nil
}

// readMaps reads a copy of /proc/PID/smaps.
func readMaps(path string) (mapped, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files, file := mapped{}, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) >= 5 && strings.Contains(words[0], "-"):
			file = ""
			if len(words) > 5 && strings.HasPrefix(words[5], "/") {
				file = words[5]
				files[file] += 0
			}
		case len(words) > 1 && words[0] == "Rss:" && file != "":
			kb, _ := strconv.ParseFloat(words[1], 64)
			files[file] += kb
		}
	}
	return files, nil
}

// beyond is what is mapped here and not there.
func (m mapped) beyond(other mapped) (files []string, kb float64) {
	for file, size := range m {
		if _, both := other[file]; !both {
			files, kb = append(files, file), kb+size
		}
	}
	return files, kb
}
