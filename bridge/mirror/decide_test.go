package mirror

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"slurmk8s.io/slurmk8s/bridge/node"
	"slurmk8s.io/slurmk8s/bridge/slurm"
)

var bothWays = policy{toKubernetes: true, toSlurm: true, after: time.Minute, conditions: []string{"KernelDeadlock"}}

const (
	theirs = "bad DIMM"
	ours   = "slurmk8s: cordoned in Kubernetes"
)

// state is a Slurm node as in "State=MIXED+DRAIN Reason=...".
func state(text, reason string) slurm.NodeRecord {
	words := strings.Split(text, "+")
	return slurm.NodeRecord{Name: "c1", Base: words[0], Flags: words[1:], Reason: reason}
}

func well() (i ills) { return i }

func notReady(recent bool) (i ills) {
	if i.notReady.recent = recent; !recent {
		i.notReady.word = "NotReady"
	}
	return i
}

func ill(names ...string) ills { return ills{lasting: names} }

func TestDecide(t *testing.T) {
	open := kubeNode{}
	cordoned := kubeNode{Closure: node.Closure{Cordoned: true}}
	forJob := kubeNode{Closure: node.Closure{Reclaimed: true}}
	closedFor := func(why string) kubeNode { return kubeNode{Closure: node.Closure{Drained: true, Why: why}} }
	drained := closedFor("drained: " + theirs)
	others := kubeNode{Closure: node.Closure{Drained: true, Why: "piz: down", Other: true}}
	undone, drainedAndCordoned, drainedForJob := drained, drained, drained
	undone.Undone, drainedAndCordoned.Cordoned, drainedForJob.Reclaimed = true, true, true
	with := func(i ills) kubeNode { return kubeNode{ills: i} }
	reclaimedAndSilent := forJob
	reclaimedAndSilent.ills = notReady(false)
	left := cordoned
	left.off = true

	toKubernetes, toSlurm, stopping := bothWays, bothWays, bothWays
	toKubernetes.toSlurm, toSlurm.toKubernetes, stopping.stopsKubelet = false, false, true

	tests := []struct {
		name   string
		slurm  slurm.NodeRecord
		kube   kubeNode
		policy policy
		want   string
	}{
		{"open on both sides", state("IDLE", ""), open, bothWays, ""},
		{"a job's cordon is no reason to drain", state("ALLOCATED", ""), forJob, bothWays, ""},

		{"drained by a person", state("IDLE+DRAIN", theirs), open, bothWays, "close in Kubernetes (drained: bad DIMM in Slurm)"},
		{"drained by a person, and another cluster has said why", state("IDLE+DRAIN", theirs), others, bothWays, ""},
		{"draining: DRAIN is not DRAINED", state("MIXED+DRAIN", theirs), open, bothWays, "close in Kubernetes (draining: bad DIMM in Slurm)"},
		{"nor is it while the last job is not gone", state("IDLE+COMPLETING+DRAIN", theirs), open, bothWays, "close in Kubernetes (draining: bad DIMM in Slurm)"},
		{"the last job has ended", state("IDLE+DRAIN", theirs), closedFor("draining: " + theirs), bothWays, "keep closed in Kubernetes (drained: bad DIMM in Slurm)"},
		{"drained without a reason", state("IDLE+DRAIN", ""), open, bothWays, "close in Kubernetes (drained in Slurm)"},
		{"failing", state("IDLE+FAIL", theirs), open, bothWays, "close in Kubernetes (failing: bad DIMM in Slurm)"},
		{"down", state("DOWN+NOT_RESPONDING", "Not responding"), open, bothWays, "close in Kubernetes (down: Not responding in Slurm)"},
		{"down and drained", state("DOWN+DRAIN", theirs), open, bothWays, "close in Kubernetes (drained: bad DIMM in Slurm)"},
		{"in maintenance", state("IDLE+MAINTENANCE+RESERVED", ""), open, bothWays, "close in Kubernetes (in a maintenance reservation in Slurm)"},
		{"drained while a job has the node", state("ALLOCATED+DRAIN", theirs), forJob, bothWays, "close in Kubernetes (draining: bad DIMM in Slurm)"},
		{"a reason of many lines", state("IDLE+DRAIN", "a\nb"+strings.Repeat("x", 300)), open, bothWays,
			"close in Kubernetes (drained: a b" + strings.Repeat("x", 194) + "... in Slurm)"},
		{"closed already", state("IDLE+DRAIN", theirs), drained, bothWays, ""},
		{"closed already, and opened by kubectl", state("IDLE+DRAIN", theirs), undone, bothWays, "keep closed in Kubernetes (drained: bad DIMM in Slurm)"},
		{"closed already, and the person gives another reason", state("IDLE+DRAIN", "new DIMM"), drained, bothWays, "keep closed in Kubernetes (drained: new DIMM in Slurm)"},
		{"resumed", state("IDLE", ""), drained, bothWays, "open in Kubernetes (resumed in Slurm)"},
		{"resumed while a job has the node", state("ALLOCATED", ""), drainedForJob, bothWays, "open in Kubernetes (resumed in Slurm)"},
		{"resumed, and cordoned by a person since", state("IDLE", ""), drainedAndCordoned, bothWays,
			"drain in Slurm (cordoned in Kubernetes); open in Kubernetes (resumed in Slurm)"},

		{"cordoned by a person", state("MIXED", ""), cordoned, bothWays, "drain in Slurm (cordoned in Kubernetes)"},
		{"not ready for a moment", state("IDLE", ""), with(notReady(true)), bothWays, ""},
		{"not ready", state("IDLE", ""), with(notReady(false)), bothWays, "drain in Slurm (NotReady in Kubernetes)"},
		{"several reasons", state("IDLE", ""), with(ill("DiskPressure", "KernelDeadlock")), bothWays, "drain in Slurm (DiskPressure,KernelDeadlock in Kubernetes)"},
		{"drained already", state("IDLE+DRAIN", ours), cordoned, bothWays, ""},
		{"uncordoned", state("IDLE+DRAIN", ours), open, bothWays, "undrain in Slurm (open in Kubernetes)"},
		{"uncordoned, and down", state("DOWN+DRAIN", ours), open, bothWays, "undrain in Slurm (open in Kubernetes); close in Kubernetes (down in Slurm)"},
		{"uncordoned, but not ready", state("IDLE+DRAIN", ours), with(notReady(false)), bothWays, ""},
		{"uncordoned, but ready for a moment only", state("IDLE+DRAIN", ours), with(notReady(true)), bothWays, ""},
		{"uncordoned, but without pressure for a moment only", state("IDLE+DRAIN", ours), with(ills{recent: []string{"DiskPressure"}}), bothWays, ""},
		{"resumed by a person while cordoned", state("IDLE", ""), cordoned, bothWays, "drain in Slurm (cordoned in Kubernetes)"},

		{"closed by persons on both sides: each keeps its own", state("IDLE+DRAIN", theirs), cordoned, bothWays, ""},
		{"our reason with a person's words after it is theirs", state("IDLE+DRAIN", ours+" (Bob: wait for me)"), open, bothWays,
			"close in Kubernetes (drained: " + ours + " (Bob: wait for me) in Slurm)"},
		{"so is one within it", state("IDLE+DRAIN", "slurmk8s: cordoned and burnt in Kubernetes"), open, bothWays,
			"close in Kubernetes (drained: slurmk8s: cordoned and burnt in Kubernetes in Slurm)"},
		{"our words without DRAIN are no mark", state("DOWN", ours), open, bothWays, "close in Kubernetes (down in Slurm)"},
		{"a node that is down is closed, and keeps its reason", state("DOWN+NOT_RESPONDING", "Not responding"), cordoned, bothWays, ""},

		{"switched off by Slurm: Kubernetes hears nothing", state("IDLE+CLOUD+POWERED_DOWN", ""), with(notReady(false)), bothWays, ""},
		{"switched off and cordoned", state("IDLE+POWERED_DOWN", ""), cordoned, bothWays, "drain in Slurm (cordoned in Kubernetes)"},
		{"down while it is switched off", state("DOWN+POWERING_DOWN", ""), open, bothWays, ""},
		{"a job stopped the kubelet", state("ALLOCATED", ""), reclaimedAndSilent, stopping, ""},
		{"a job did not stop the kubelet", state("ALLOCATED", ""), reclaimedAndSilent, bothWays, "drain in Slurm (NotReady in Kubernetes)"},
		{"slurmctld does not know the node's state", state("UNKNOWN+DRAIN", theirs), open, bothWays, ""},
		{"a node of the future", state("FUTURE", ""), drained, bothWays, ""},
		{"left out by the site", state("IDLE", ""), left, bothWays, ""},

		{"to Kubernetes only", state("IDLE", ""), cordoned, toKubernetes, ""},
		{"to Kubernetes only: what was the other way's is lifted", state("IDLE+DRAIN", ours), cordoned, toKubernetes, "undrain in Slurm (open in Kubernetes)"},
		{"to Slurm only", state("IDLE+DRAIN", theirs), open, toSlurm, ""},
		{"to Slurm only: what was the other way's is lifted", state("IDLE+DRAIN", theirs), drained, toSlurm, "open in Kubernetes (resumed in Slurm)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.ElementsMatch(t, words(tt.want), texts(tt.policy.decide(tt.slurm, tt.kube)))
		})
	}
}

func words(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(text, "; ")
}

func texts(actions []Action) []string {
	all := []string{}
	for _, a := range actions {
		all = append(all, a.String())
	}
	return all
}

func TestTheIllsOfANode(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	condition := func(name, status string, age time.Duration) any {
		return map[string]any{"type": name, "status": status, "lastTransitionTime": now.Add(-age).Format(time.RFC3339)}
	}
	ready := condition("Ready", "True", time.Hour)
	taint := func(key string) map[string]any {
		return map[string]any{"taints": []any{map[string]any{"key": key, "effect": "NoSchedule"}}}
	}
	tests := []struct {
		name       string
		metadata   map[string]any
		spec       map[string]any
		conditions []any
		want       ills
	}{
		{"none", nil, nil, []any{ready, condition("DiskPressure", "False", time.Hour)}, well()},
		{"a kubelet that never told", nil, nil, nil, notReady(true)},
		{"not ready for an hour", nil, nil, []any{condition("Ready", "False", time.Hour)}, notReady(false)},
		{"silent for an hour", nil, nil, []any{condition("Ready", "Unknown", time.Hour)}, notReady(false)},
		{"silent for a moment", nil, nil, []any{condition("Ready", "Unknown", time.Second)}, notReady(true)},
		{"ready for a moment", nil, nil, []any{condition("Ready", "True", time.Second)}, notReady(true)},
		{"a condition without a time", nil, nil, []any{map[string]any{"type": "Ready", "status": "False"}}, notReady(true)},
		{"pressures", nil, nil, []any{ready, condition("PIDPressure", "True", time.Hour), condition("MemoryPressure", "True", time.Hour), condition("DiskPressure", "True", time.Hour)},
			ill("DiskPressure", "MemoryPressure", "PIDPressure")},
		{"a pressure that is unknown", nil, nil, []any{ready, condition("DiskPressure", "Unknown", time.Hour)}, well()},
		{"pressure for a moment", nil, nil, []any{ready, condition("DiskPressure", "True", time.Second)}, ills{recent: []string{"DiskPressure"}}},
		{"a condition that the site names", nil, nil, []any{ready, condition("KernelDeadlock", "True", time.Hour)}, ill("KernelDeadlock")},
		{"one that it does not", nil, nil, []any{ready, condition("FrequentKubeletRestart", "True", time.Hour)}, well()},
		{"being deleted", map[string]any{"deletionTimestamp": "2026-11-29T11:00:00Z"}, nil, []any{ready}, ill("deleted")},
		{"about to be deleted by the autoscaler", nil, taint("ToBeDeletedByClusterAutoscaler"), []any{ready}, ill("ToBeDeletedByClusterAutoscaler")},
		{"a mere candidate", nil, taint("DeletionCandidateOfClusterAutoscaler"), []any{ready}, well()},
		{"our own taint", nil, taint("slurmk8s.io/reclaimed"), []any{ready}, well()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			object := map[string]any{"metadata": tt.metadata, "status": map[string]any{"conditions": tt.conditions}}
			if tt.spec != nil {
				object["spec"] = tt.spec
			}
			got := bothWays.illsOf(&unstructured.Unstructured{Object: object}, now)
			assert.Equal(t, tt.want, got)
			for _, word := range got.lasting {
				assert.True(t, isOurs(reasonFor(word)), word)
			}
		})
	}
}

// model is both sides of one machine, and what people want of it.
type model struct {
	drain, down, maint bool
	reason             string
	cordonUs, cordonBy bool // by us, by somebody else
	mark               string
	job, ill           bool

	wantsDrained, wantsCordoned bool
	reasons                     int
}

func (m *model) slurm() slurm.NodeRecord {
	text := "IDLE"
	if m.down {
		text = "DOWN"
	}
	if m.drain {
		text += "+DRAIN"
	}
	if m.maint {
		text += "+MAINTENANCE"
	}
	return state(text, m.reason)
}

func (m *model) kube() kubeNode {
	k := kubeNode{Closure: node.Closure{Cordoned: m.cordonBy, Reclaimed: m.job, Drained: m.mark != "", Why: m.mark,
		Undone: (m.mark != "" || m.job) && !m.cordonUs && !m.cordonBy}}
	if m.ill {
		k.ills = ill("DiskPressure")
	}
	return k
}

// settle closes and opens the Node as the record of its holders does.
func (m *model) settle() {
	m.cordonUs = (m.mark != "" || m.job) && !m.cordonBy
}

// orders are what people, jobs and machines do, each on its own.
var orders = []struct {
	name string
	do   func(*model)
}{
	{"scontrol update State=DRAIN", func(m *model) {
		m.reasons++
		m.drain, m.reason, m.wantsDrained = true, fmt.Sprintf("reason %d", m.reasons), true
	}},
	{"scontrol update State=RESUME", func(m *model) { m.drain, m.down, m.reason, m.wantsDrained = false, false, "", false }},
	{"scontrol update Reason=", func(m *model) {
		if m.drain {
			m.reason, m.wantsDrained = m.reason+" (me)", true
		}
	}},
	{"slurmd dies", func(m *model) { m.down = true }},
	{"slurmd comes back", func(m *model) { m.down = false }},
	{"a maintenance reservation begins", func(m *model) { m.maint = true }},
	{"a maintenance reservation ends", func(m *model) { m.maint = false }},
	// Of two who cordon, Kubernetes does not see the later one: see docs/nodes.md.
	{"kubectl uncordon; kubectl cordon", func(m *model) { m.cordonUs, m.cordonBy, m.wantsCordoned = false, true, true }},
	{"kubectl uncordon", func(m *model) { m.cordonUs, m.cordonBy, m.wantsCordoned = false, false, false }},
	{"DiskPressure", func(m *model) { m.ill = true }},
	{"no DiskPressure", func(m *model) { m.ill = false }},
	{"a job takes the node", func(m *model) { m.job = true; m.settle() }},
	{"a job gives the node back", func(m *model) { m.job = false; m.settle() }},
}

// pass is a run of slurmk8s that ends after so many changes.
func (m *model) pass(t *testing.T, most int) (changes int) {
	for _, a := range bothWays.decide(m.slurm(), m.kube()) {
		if changes == most {
			break
		}
		changes++
		switch a.Verb {
		case Drain:
			require.False(t, m.drain, "a drain replaced the reason %q", m.reason)
			m.drain, m.reason = true, reasonFor(a.Why)
		case Undrain:
			require.True(t, isOurs(m.reason), "somebody else's drain was undone: %q", m.reason)
			m.drain = false
			if !m.down {
				m.reason = ""
			}
		case Close, Note:
			m.mark = a.Why
			m.settle()
		case Open:
			cordonBy := m.cordonBy
			m.mark = ""
			m.settle()
			require.Equal(t, cordonBy, m.cordonBy)
		}
	}
	return changes
}

func TestInAnyOrderTheEndIsWhatTheLastPersonWanted(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 12))
		m, story := &model{}, []string{}
		for range 40 {
			if random.IntN(3) == 0 {
				most := random.IntN(3) // a run that is killed after as many changes
				m.pass(t, most)
				story = append(story, fmt.Sprintf("pass %d", most))
				continue
			}
			order := orders[random.IntN(len(orders))]
			order.do(m)
			story = append(story, order.name)
		}
		story = append(story, fmt.Sprintf("seed %d", seed))
		m.down = m.down && random.IntN(2) == 0
		m.pass(t, 9)
		m.pass(t, 9)
		require.Zero(t, m.pass(t, 9), "it has not settled: %s", story)
		closedInSlurm := m.wantsDrained || m.wantsCordoned || m.ill
		require.Equal(t, closedInSlurm || m.down, m.drain || m.down, "%s: %+v", story, m)
		if m.wantsDrained {
			require.False(t, isOurs(m.reason), "a person's reason is lost: %s", story)
		}
		closedInKubernetes := m.wantsDrained || m.wantsCordoned || m.down || m.maint
		if !m.job { // kubectl may open a node that only a job has closed
			require.Equal(t, closedInKubernetes, m.cordonUs || m.cordonBy, "%s: %+v", story, m)
		} else if closedInKubernetes {
			require.True(t, m.cordonUs || m.cordonBy, "%s: %+v", story, m)
		}
		require.Equal(t, m.wantsCordoned, m.cordonBy, "%s: %+v", story, m)
	}
}
