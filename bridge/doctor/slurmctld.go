package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"slurmk8s.io/slurmk8s/slurmconf"
)

// slurmctldProgram is a setting of slurm.conf, and what slurmk8s does by it.
type slurmctldProgram struct{ key, command, does string }

var (
	prologSlurmctld = slurmctldProgram{"PrologSlurmctld", "prolog-slurmctld", "reclaims nodes"}
	epilogSlurmctld = slurmctldProgram{"EpilogSlurmctld", "epilog-slurmctld", "gives nodes back"}
)

// slurmctldRuns tells whether slurmctld runs slurmk8s by a setting. slurmk8s without
// arguments goes by what Slurm calls the program. The error is that of a program that
// could not be judged, when none of the others runs slurmk8s.
func (h *host) slurmctldRuns(p slurmctldProgram) (runs bool, err error) {
	for _, program := range slurmconf.Several(h.cfg.SlurmConf, p.key) { // newer releases run several
		starts, problem := programs(program)
		if problem != nil {
			err = fmt.Errorf("%s=%s: %w", p.key, program, problem)
		}
		if slices.ContainsFunc(starts, func(i invocation) bool { return len(i) == 0 || i.wants(p.command) }) {
			return true, nil
		}
	}
	return false, err
}

// controllerTakes tells whether the controller takes the nodes of jobs from Kubernetes.
func (h *host) controllerTakes() bool {
	takes, _ := h.slurmctldRuns(prologSlurmctld)
	return h.cfg.Nodes.Reclaims() && takes
}

// takesNode tells whether jobs take this node from Kubernetes by a hook that runs here.
func (h *host) takesNode() bool { return h.cfg.Nodes.Reclaims() && !h.controllerTakes() }

// lookSlurmctld wants both programs or neither.
func lookSlurmctld(_ context.Context, h *host, r *report) {
	if !h.cfg.Nodes.Reclaims() {
		r.ok("not used: jobs do not reclaim nodes (nodes.reclaim)")
		return
	}
	var found, missing []slurmctldProgram
	for _, p := range []slurmctldProgram{prologSlurmctld, epilogSlurmctld} {
		runs, err := h.slurmctldRuns(p)
		switch {
		case runs:
			found = append(found, p)
		case errors.Is(err, errUnknown):
			r.warn("make sure that it runs slurmk8s "+p.command+", if it should reclaim or give back nodes", "%v: doctor cannot tell what it runs", err)
		case err != nil:
			r.fail("make it a program that slurmctld can run, and restart slurmctld", "%v", err)
		default:
			missing = append(missing, p)
		}
	}
	if len(found) == 0 {
		r.good("not used: the SPANK plugin reclaims nodes")
	}
	if len(found) > 0 && len(missing) > 0 {
		r.fail("set "+missing[0].key+" to slurmk8s too, and restart slurmctld",
			"%s runs slurmk8s, %s does not: nothing %s", found[0].key, missing[0].key, missing[0].does)
	}
	r.good("slurmctld reclaims nodes and gives them back")
}

// lookMirror wants a ReturnToService that is no matter of a node's reason: Slurm keeps that of a
// drain when the node goes down.
func lookMirror(_ context.Context, h *host, r *report) {
	mirror := h.cfg.Nodes.Mirror
	switch returns := h.values["returntoservice"]; {
	case mirror == slurmconf.MirrorOff:
		r.ok("not used: Slurm and Kubernetes decide separately whether a node takes new work (nodes.mirror)")
	case returns == "1" && mirror != slurmconf.MirrorToKubernetes:
		r.warn("set ReturnToService=2 in slurm.conf, or resume such nodes by hand",
			"ReturnToService=1: a node that is drained by slurmk8s when it goes DOWN stays DOWN when it is back")
	default:
		r.ok("nodes.mirror = %q", mirror)
	}
}
