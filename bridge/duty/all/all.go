// Package all lists the duties. It stands above them; package duty, which says what they
// have in common, below.
package all

import (
	"slices"

	"slurmk8s.io/slurmk8s/bridge/bundle/stage"
	"slurmk8s.io/slurmk8s/bridge/duty"
	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/service"
	"slurmk8s.io/slurmk8s/bridge/workflow"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// Duties are all that slurmk8s has.
var Duties = []duty.Duty{workflow.Duty{}, service.Duty{}, stage.Duty{}, node.Duty{}}

// Used are those that slurmk8s.toml asks for.
func Used(cfg *slurmconf.Config) []duty.Duty {
	return slices.DeleteFunc(slices.Clone(Duties), func(d duty.Duty) bool { return !d.Used(cfg) })
}
