package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lookReconcile wants something that runs "slurmk8s reconcile" again and again: any
// hook can be lost.
func lookReconcile(_ context.Context, h *host, r *report) {
	onController := h.is([]Role{Controller})
	for _, of := range []func(bool) string{h.timer, h.cron} {
		if file := of(!onController); file != "" {
			r.ok("%s", file)
			return
		}
	}
	if onController {
		r.fail("systemctl enable --now slurmk8s-reconcile.timer, or a line in /etc/cron.d: * * * * * "+h.slurm.SlurmUser+" slurmk8s reconcile",
			"nothing runs slurmk8s reconcile for all nodes: objects of jobs whose hooks did not run stay in Kubernetes")
		return
	}
	if !h.services() && !h.takesNode() {
		r.ok("not needed: no job has services or reclaims nodes here")
		return
	}
	h.healthCheck(r)
}

// healthCheck judges HealthCheckProgram as slurmd runs it: without arguments.
func (h *host) healthCheck(r *report) {
	program := h.values["healthcheckprogram"]
	if program == "" {
		r.warn("enable slurmk8s-node-reconcile.timer, or set HealthCheckProgram and HealthCheckInterval in slurm.conf (slurmd also runs it at boot)",
			"slurm.conf has no HealthCheckProgram that runs slurmk8s reconcile: if a node crashes during a job, only the controller gives it back")
		return
	}
	runs, err := programs(program)
	switch {
	case errors.Is(err, errUnknown):
		r.warn("make sure that it runs slurmk8s reconcile, or enable slurmk8s-node-reconcile.timer", "HealthCheckProgram=%s %v: doctor cannot tell what it runs", program, err)
	case err != nil:
		r.fail("set it to a script that runs slurmk8s reconcile", "HealthCheckProgram=%s: %v", program, err)
	case len(runs) == 1 && len(runs[0]) == 0:
		r.fail("set it to a script with two lines: \"#!/bin/sh\" and \"exec slurmk8s reconcile\", with slurmk8s's absolute path",
			"HealthCheckProgram=%s runs slurmk8s without arguments (slurmd passes none), which only prints help", program)
	case !slices.ContainsFunc(runs, func(i invocation) bool { return i.reconciles(true) }):
		r.warn("add \"slurmk8s reconcile\" to "+program, "HealthCheckProgram=%s does not run slurmk8s reconcile", program)
	case h.values["healthcheckinterval"] == "" || h.values["healthcheckinterval"] == "0":
		r.warn("set HealthCheckInterval=60 or so in slurm.conf", "HealthCheckInterval is 0: HealthCheckProgram runs only when slurmd starts")
	}
	r.good("HealthCheckProgram=%s", program)
}

// timer is an enabled systemd timer whose service reconciles.
func (h *host) timer(oneNode bool) string {
	for _, pattern := range h.o.Paths.TimerWants {
		timers, _ := filepath.Glob(filepath.Join(pattern, "*.timer"))
		for _, timer := range timers {
			if slices.ContainsFunc(serviceOf(timer), func(i invocation) bool { return i.reconciles(oneNode) }) {
				return timer
			}
		}
	}
	return ""
}

// serviceOf are the starts of slurmk8s by the service of a timer, which is beside the
// timer or in the directory above that of the enabled ones.
func serviceOf(timer string) []invocation {
	text, _ := os.ReadFile(timer)
	name := strings.TrimSuffix(filepath.Base(timer), ".timer") + ".service"
	for _, unit := range unitValues(string(text), "Unit") {
		name = unit
	}
	target, err := filepath.EvalSymlinks(timer)
	if err != nil {
		return nil
	}
	for _, dir := range []string{filepath.Dir(filepath.Dir(timer)), filepath.Dir(target)} {
		service, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		var all []invocation
		for _, command := range unitValues(string(service), "ExecStart") {
			command = strings.ReplaceAll(strings.TrimLeft(command, "-@:+!|"), "$$", "$")
			all = append(all, shell(command, 0)...)
		}
		return all
	}
	return nil
}

// unitValues are the values of a key of a systemd unit.
func unitValues(text, key string) []string {
	var values []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if k, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == key {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// cron is a file of cron with a line that reconciles.
func (h *host) cron(oneNode bool) string {
	for _, pattern := range h.o.Paths.CronFiles {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, _ := os.ReadFile(file) // one that this user may not read is not theirs to judge
			for line := range strings.Lines(string(text)) {
				if slices.ContainsFunc(cronCommand(line), func(i invocation) bool { return i.reconciles(oneNode) }) {
					return file
				}
			}
		}
	}
	return ""
}

// cronCommand are the starts of slurmk8s by a line of a crontab, which has a user before
// the command or, in a user's own, has not.
func cronCommand(line string) []invocation {
	words := strings.Fields(line)
	times := 5
	if strings.HasPrefix(line, "@") {
		times = 1
	}
	if len(words) <= times || strings.HasPrefix(line, "#") {
		return nil
	}
	command := words[times:]
	return append(shell(strings.Join(command, " "), 0), shell(strings.Join(command[1:], " "), 0)...)
}
