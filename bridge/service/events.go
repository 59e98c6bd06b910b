package service

import (
	"fmt"
	"time"

	"slurmk8s.io/slurmk8s/bridge/kube"
)

// What "kubectl describe service" shows of a job's service. All is told beside the work
// and by the node's own credential. Nothing is told of the end, since the Service goes, and
// nothing on a Service of somebody else that has the name: it is not ours to write about,
// and its owner learns nothing from it. The error says it to the user.
const (
	eventRegistered = "Registered"
	eventTakenOver  = "TakenOver"
	eventRestored   = "Restored"
	eventReady      = "Ready"
	eventNotReady   = "NotReady"
)

func (r *Registrar) tell(reg *Registration, eventType, reason, format string, args ...any) {
	if reg.lost { // somebody else has the name by now
		return
	}
	r.Events.TellBeside(kube.Object{
		APIVersion: "v1", Kind: "Service", Namespace: reg.Namespace, Name: reg.Name, UID: reg.uid,
	}, eventType, reason, fmt.Sprintf(format, args...))
}

func (r *Registrar) job() string {
	return fmt.Sprintf("Slurm job %d of cluster %s", r.Job.ID, r.Job.Cluster)
}

// Announce tells what Register made. It is a call of its own, for who has an answer to
// give first.
func (r *Registrar) Announce(regs []*Registration) {
	for _, reg := range regs {
		if reg.Shared || reg.uid == "" {
			continue
		}
		if reg.leftBy != 0 && reg.leftBy != r.Job.ID {
			r.tell(reg, kube.EventNormal, eventTakenOver, "Slurm job %d of cluster %s, which is over, left it behind", reg.leftBy, r.Job.Cluster)
		} else if reg.leftBy != 0 {
			r.tell(reg, kube.EventNormal, eventTakenOver, "an earlier run or step of %s left it behind", r.job())
		}
		r.tell(reg, kube.EventNormal, eventRegistered, "by %s on node %s (user ID %d)", r.job(), r.Node, r.Job.UID)
	}
}

// Late tells why a service is not ready, if timeout is not 0 after that time. It is still
// asked.
func (r *Registrar) Late(reg *Registration, timeout time.Duration, cause error) {
	after := ""
	if timeout > 0 {
		after = fmt.Sprintf(" after %s", timeout)
	}
	r.tell(reg, kube.EventWarning, eventNotReady, "not ready on node %s%s: %v", r.Node, after, cause)
}

// became tells of a change that is published.
func (r *Registrar) became(reg *Registration, before Condition) {
	switch {
	case reg.condition == Ready:
		r.tell(reg, kube.EventNormal, eventReady, "it answers at %s (node %s)", r.Addresses(reg)[0], r.Node)
	case reg.condition == NotReady && before == Ready:
		r.tell(reg, kube.EventWarning, eventNotReady, "it no longer answers at %s (node %s): no traffic until it does", r.Addresses(reg)[0], r.Node)
	}
}
