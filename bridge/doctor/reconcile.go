package doctor

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// command is what a timer, a crontab or a health check runs.
var command = regexp.MustCompile(`slurmk8s\s+(?:--\S+\s+)*reconcile`)

// lookReconcile wants something that runs "slurmk8s reconcile" again and again: any
// hook can be lost.
func lookReconcile(_ context.Context, h *host, r *report) {
	if timer := h.timer(); timer != "" {
		r.ok("%s", timer)
		return
	}
	for _, pattern := range h.o.Paths.CronFiles {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if runs(file, command) {
				r.ok("%s", file)
				return
			}
		}
	}
	if h.is([]Role{Controller}) {
		r.fail("systemctl enable --now slurmk8s-reconcile.timer, or a line in /etc/cron.d: * * * * * "+h.slurm.SlurmUser+" slurmk8s reconcile",
			"nothing runs slurmk8s reconcile: what a lost hook leaves behind stays in Kubernetes")
		return
	}
	if !h.services() && !h.cfg.Nodes.Reclaims() {
		r.ok("not needed: slurmk8s.toml opens neither services nor nodes")
		return
	}
	program := h.values["healthcheckprogram"]
	switch {
	case program == "":
		r.warn("set HealthCheckProgram and HealthCheckInterval in slurm.conf (at boot, too, that gives a node back)",
			"slurm.conf has no HealthCheckProgram that runs slurmk8s reconcile: a node that died in a job is given back by the controller only")
	case !runs(program, command) && filepath.Base(program) != "slurmk8s":
		r.warn("add \"slurmk8s reconcile\" to "+program, "HealthCheckProgram=%s does not run slurmk8s reconcile", program)
	case h.values["healthcheckinterval"] == "" || h.values["healthcheckinterval"] == "0":
		r.warn("set HealthCheckInterval=60 or so in slurm.conf", "HealthCheckInterval is 0: HealthCheckProgram never runs")
	}
	r.good("HealthCheckProgram=%s", program)
}

// timer is an enabled systemd timer of ours.
func (h *host) timer() string {
	for _, pattern := range h.o.Paths.TimerWants {
		files, _ := filepath.Glob(filepath.Join(pattern, "*.timer"))
		if i := slices.IndexFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), "slurmk8s") }); i >= 0 {
			return files[i]
		}
	}
	return ""
}

// maxProgramBytes is more than any script of a site's.
const maxProgramBytes = 1 << 20

// runs tells whether a script has a line with a command of ours.
func runs(path string, command *regexp.Regexp) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxProgramBytes {
		return false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if code, _, _ := strings.Cut(line, "#"); command.MatchString(code) {
			return true
		}
	}
	return false
}
