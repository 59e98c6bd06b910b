// Package mirror lets Slurm and Kubernetes say the same about a machine that both use: a
// node that Slurm drains is closed to new pods, and one that Kubernetes closes, or that is
// ill there, is drained in Slurm.
//
// Each side is told only what began on the other one. What slurmk8s did itself bears its
// mark, is no reason for anything, and is the only thing that it undoes.
package mirror

import (
	"fmt"
	"strings"
	"time"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Verb is what is done to one side.
type Verb int

// The verbs.
const (
	Drain   Verb = iota // Slurm's node
	Undrain             // Slurm's node, if the drain is still ours
	Close               // the Node
	Note                // why the Node is closed, or close it again
	Open                // the Node, unless somebody else keeps it closed
)

// Action is one change of a node.
type Action struct {
	Verb Verb
	Why  string // in the other side's words: "cordoned", "drained: bad DIMM"
}

// policy is what nodes.mirror... of slurmk8s.toml asks for.
type policy struct {
	toKubernetes, toSlurm bool
	after                 time.Duration
	conditions            []string // of a Node, that drain its Slurm node while they are True
	stopsKubelet          bool     // a job that has a node to itself
}

// kubeNode is a Node as far as it is of interest to Slurm.
type kubeNode struct {
	node.Closure
	ills ills
	off  bool // the site leaves it out: annotationMirror
}

// decide compares the two sides of one machine.
func (p policy) decide(s slurm.NodeRecord, k kubeNode) (actions []Action) {
	if !s.Known() || k.off {
		return nil
	}
	why := ""
	if p.toKubernetes {
		why = slurmsWhy(s)
	}
	switch {
	case why != "" && k.Drained && (k.Why != why && !k.Other || k.Undone):
		actions = append(actions, Action{Note, why})
	case why != "" && !k.Drained && !k.Cordoned: // otherwise each keeps its own
		actions = append(actions, Action{Close, why})
	case why == "" && k.Drained:
		actions = append(actions, Action{Open, "resumed"})
	}
	words, settled := []string(nil), true
	if p.toSlurm {
		words, settled = p.kubernetesWhy(s, k)
	}
	switch {
	case len(words) > 0 && !s.Drain() && !s.Down(): // a node that is down is closed, and its reason is needed to bring it up
		actions = append(actions, Action{Drain, strings.Join(words, ",")})
	case len(words) == 0 && settled && s.Drain() && isOurs(s.Reason):
		actions = append(actions, Action{Undrain, "open"})
	}
	return actions
}

// slurmsWhy is what keeps a node from work for Slurm, of its own accord: "drained: bad
// DIMM"; "" if nothing.
func slurmsWhy(s slurm.NodeRecord) string {
	reason := s.Reason
	if isOurs(reason) {
		reason = ""
	}
	state := ""
	switch {
	case s.Drain() && !isOurs(s.Reason):
		state = "drained"
		if s.Busy() { // its jobs go on
			state = "draining"
		}
	case s.Has("FAIL"):
		state = "failing"
	case s.Down() && !s.Powered():
		state = "down"
	case s.Has("MAINTENANCE"):
		return "in a maintenance reservation"
	default:
		return ""
	}
	if reason == "" {
		return state
	}
	return state + ": " + shortened(reason)
}

// maxWhy bounds a reason; a person's may be long.
const maxWhy = 200

func shortened(text string) string {
	text = wire.OneLine(text)
	if len(text) > maxWhy {
		text = strings.ToValidUTF8(text[:maxWhy-3], "") + "..."
	}
	return text
}

// kubernetesWhy is what keeps a Node from work for Kubernetes, of its own accord. settled is
// false while that may have changed a moment ago.
func (p policy) kubernetesWhy(s slurm.NodeRecord, k kubeNode) (words []string, settled bool) {
	if k.Cordoned {
		words = append(words, "cordoned")
	}
	words = append(words, k.ills.lasting...)
	settled = len(k.ills.recent) == 0
	// Of a machine that Slurm has switched off, or whose kubelet a job has stopped, Kubernetes
	// hears nothing.
	silent := s.Powered() || k.Reclaimed && p.stopsKubelet
	if !silent {
		if k.ills.notReady.word != "" {
			words = append(words, k.ills.notReady.word)
		}
		settled = settled && !k.ills.notReady.recent
	}
	return words, settled
}

// A reason of ours in Slurm is "slurmk8s: WORDS in Kubernetes", where WORDS are names
// separated by commas and have no space. So a reason that a person has added to is theirs.
const (
	reasonPrefix = "slurmk8s: "
	reasonSuffix = " in Kubernetes"
)

func reasonFor(words string) string { return reasonPrefix + words + reasonSuffix }

// isOurs tells whether a drain with this reason was made here, and by nobody since.
func isOurs(reason string) bool {
	words, prefix := strings.CutPrefix(reason, reasonPrefix)
	words, suffix := strings.CutSuffix(words, reasonSuffix)
	return prefix && suffix && words != "" && !strings.ContainsAny(words, " \t\n")
}

// String is the action as a log and a dry run have it.
func (a Action) String() string {
	switch a.Verb {
	case Drain:
		return fmt.Sprintf("drain in Slurm (%s in Kubernetes)", a.Why)
	case Undrain:
		return fmt.Sprintf("undrain in Slurm (%s in Kubernetes)", a.Why)
	case Close:
		return fmt.Sprintf("close in Kubernetes (%s in Slurm)", a.Why)
	case Note:
		return fmt.Sprintf("keep closed in Kubernetes (%s in Slurm)", a.Why)
	}
	return "open in Kubernetes (resumed in Slurm)"
}
