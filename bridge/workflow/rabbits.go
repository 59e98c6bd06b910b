package workflow

import (
	"maps"
	"slices"
	"strings"

	"slurmk8s.io/slurmk8s/bridge/workflow/placement"
	"slurmk8s.io/slurmk8s/slurmconf"
)

// annotationRabbits has the rabbits of the job's nodes, by Slurm's names: "r1=c[01-04];r2=c05". The
// controller, which reads SystemConfiguration anyway, writes it with the request for PreRun, so
// that nodes need no right to read that, and no request.
const annotationRabbits = "slurmk8s.io/rabbits"

// readOnce is what a hook reads once, however long it runs.
type readOnce struct{ system *placement.System }

// readingOnce is a driver for one hook.
func (d *Driver) readingOnce() *Driver {
	copied := *d
	copied.once = &readOnce{}
	return &copied
}

// rabbitsOf is annotationRabbits for a job's nodes, given by Slurm's names and by DWS's; "" if
// SystemConfiguration was not read, since the storage has no servers.
func (d *Driver) rabbitsOf(inSlurm, inDWS []string) string {
	if d.once == nil || d.once.system == nil {
		return ""
	}
	rabbitOf := map[string]string{}
	for rabbit, nodes := range d.once.system.Rabbits {
		for _, node := range nodes {
			rabbitOf[node] = rabbit
		}
	}
	nodes := map[string][]string{}
	for i, node := range inDWS {
		if rabbit := rabbitOf[node]; rabbit != "" {
			nodes[rabbit] = append(nodes[rabbit], inSlurm[i])
		}
	}
	parts := []string{}
	for _, rabbit := range slices.Sorted(maps.Keys(nodes)) {
		parts = append(parts, rabbit+"="+slurmconf.Hostlist(nodes[rabbit]))
	}
	return strings.Join(parts, ";")
}

// rabbit is that of a node, by Slurm's name; "": it has none.
func (o *object) rabbit(node string) string {
	for part := range strings.SplitSeq(o.Annotations[annotationRabbits], ";") {
		rabbit, list, _ := strings.Cut(part, "=")
		if nodes, err := slurmconf.ExpandHostlist(list); err == nil && slices.Contains(nodes, node) {
			return rabbit
		}
	}
	return ""
}

// requires are the words of requires= in the directives, each once.
func (o *object) requires() (words []string) {
	for _, directive := range o.Directives {
		for word := range strings.SplitSeq(argument(directive, "requires"), ",") {
			if word != "" && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

// aboutServers tells the tasks on a node which rabbit it has, and what the job's storage needs.
// A node without a rabbit is told that: its tasks may have inherited another node's.
func (o *object) aboutServers(node string, env map[string]string) {
	if o.Annotations[annotationRabbits] != "" {
		env[variableRabbit] = o.rabbit(node)
	}
	if words := o.requires(); len(words) > 0 {
		env[variableRequires] = strings.Join(words, ",")
	}
}
