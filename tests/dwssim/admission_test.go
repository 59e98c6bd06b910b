package dwssim

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var normal = policy{rulesetNamespace: "dws-system", hasRuleset: true}

// newWorkflow is what a workload manager creates, after the mutating webhook.
func newWorkflow(t *testing.T, directives ...string) *Workflow {
	t.Helper()
	w := &Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: "bb7", Namespace: "slurm", UID: "u1"},
		Spec: WorkflowSpec{
			DesiredState: Proposal, WLMID: "slurm", JobID: intstr.FromInt32(7),
			UserID: 1001, GroupID: 100, DWDirectives: directives,
		},
	}
	require.NoError(t, normal.mutateCreate(w))
	return w
}

// in puts a Workflow into a state, ready or not.
func in(w *Workflow, state string, ready bool) *Workflow {
	w = w.deepCopy()
	w.Spec.DesiredState, w.Status.State, w.Status.Ready = state, state, ready
	return w
}

func TestCreationRegistersDriversAndEnvironment(t *testing.T) {
	w := newWorkflow(t, "#DW destroy_persistent name=data", "#DW Setup action=wait")
	assert.Equal(t, []Driver{
		{DriverID: "nnf", DWDIndex: 0, WatchState: Proposal, Status: Pending},
		{DriverID: "nnf", DWDIndex: 0, WatchState: Teardown, Status: Pending},
		{DriverID: "tester", DWDIndex: 1, WatchState: Setup, Status: Pending},
	}, w.Status.Drivers)
	assert.Equal(t, map[string]string{"DW_WORKFLOW_NAME": "bb7", "DW_WORKFLOW_NAMESPACE": "slurm"}, w.Status.Env)
}

func TestAWorkflowWithoutDirectivesNeedsNoRules(t *testing.T) {
	w := &Workflow{Spec: WorkflowSpec{DesiredState: Proposal}}
	require.NoError(t, policy{}.mutateCreate(w))
	require.NoError(t, policy{}.validateCreate(w))
	status, err := json.Marshal(w.Status)
	require.NoError(t, err)
	assert.JSONEq(t, `{"computes": {}, "env": {"DW_WORKFLOW_NAME": "", "DW_WORKFLOW_NAMESPACE": ""}, "ready": false}`, string(status))
}

func TestABlankDirectiveFailsBothWebhooks(t *testing.T) {
	w := newWorkflow(t)
	w.Spec.DWDirectives = []string{"#DW Setup action=wait", "#DW "}
	require.ErrorIs(t, normal.mutateCreate(w), errBlankDirective)
	require.ErrorIs(t, normal.validateCreate(w), errBlankDirective)
}

func TestCreationRules(t *testing.T) {
	tests := []struct {
		name    string
		policy  policy
		change  func(*Workflow)
		refusal string
	}{
		{"in Proposal", normal, func(*Workflow) {}, ""},
		{"without directives", normal, func(w *Workflow) { w.Spec.DWDirectives = nil }, ""},
		{"in Setup", normal, func(w *Workflow) { w.Spec.DesiredState = Setup }, `Spec.DesiredState: Invalid value: "Setup": desired state must start in Proposal`},
		{"in a hurry", normal, func(w *Workflow) { w.Spec.Hurry = true }, "Spec.Hurry: Forbidden: the hurry flag may not be set on creation"},
		{"with a state", normal, func(w *Workflow) { w.Status.State = Proposal }, "Status.State: Forbidden: the status state may not be set on creation"},
		{"with a wrong directive", normal, func(w *Workflow) { w.Spec.DWDirectives = []string{"#DW x"} }, "invalid directive '#DW x'"},
		{"without rules", policy{rulesetNamespace: "dws-system"}, func(*Workflow) {}, "unable to find ruleset in namespace: dws-system"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorkflow(t, "#DW Setup action=wait")
			test.change(w)
			checkRefusal(t, test.refusal, test.policy.validateCreate(w))
		})
	}
}

func TestTransitionRules(t *testing.T) {
	const (
		backwards = "DesiredState cannot progress backwards"
		skipped   = "states cannot be skipped"
		notYet    = `Status.State: Invalid value: "Setup": current desired state not yet achieved`
	)
	const hurry = "Spec.Hurry: Invalid value: true: the hurry flag may be set only in Teardown"
	fresh := newWorkflow(t)
	leaving := in(fresh, PreRun, true)
	leaving.Spec.DesiredState = Teardown
	hurried := leaving.deepCopy()
	hurried.Spec.Hurry = true
	asked := in(fresh, Proposal, true)
	asked.Spec.DesiredState = Setup
	tests := []struct {
		name    string
		old     *Workflow
		desired string
		refusal string
	}{
		{"ready, to the next", in(fresh, Proposal, true), Setup, ""},
		{"ready, to the last but one", in(fresh, PostRun, true), DataOut, ""},
		{"ready, to the last", in(fresh, DataOut, true), Teardown, ""},
		{"not ready, to the same", in(fresh, Setup, false), Setup, ""},
		{"not ready, to the next", in(fresh, Setup, false), DataIn, notYet},
		{"to the one before", in(fresh, DataIn, true), Setup, backwards},
		{"over one", in(fresh, Proposal, true), DataIn, skipped},
		{"over one, not ready", in(fresh, Proposal, false), DataIn, skipped},
		{"the next is asked for already, to the one after", asked, DataIn, skipped},
		{"the next is asked for already, and again", asked, Setup, ""},
		{"Teardown, ready", in(fresh, Proposal, true), Teardown, ""},
		{"Teardown, not ready", in(fresh, DataIn, false), Teardown, ""},
		{"Teardown before the controller has seen it", fresh, Teardown, ""},
		{"the next before the controller has seen it", fresh, Setup, `Spec.DesiredState: Invalid value: "Setup": states cannot be skipped`},
		{"the same before the controller has seen it", fresh, Proposal, ""},
		{"out of Teardown", in(fresh, Teardown, true), Setup, backwards},
		{"out of Teardown before it is entered", leaving, PostRun, ""},
		{"out of Teardown before it is entered, to an earlier state", leaving, DataIn, backwards},
		{"out of a hurried Teardown before it is entered", hurried, PostRun, hurry},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := test.old.deepCopy()
			w.Spec.DesiredState = test.desired
			checkRefusal(t, test.refusal, normal.validateUpdate(test.old, w))
		})
	}
}

func TestUpdateRules(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Workflow)
		refusal string
	}{
		{"nothing", func(*Workflow) {}, ""},
		{"labels", func(w *Workflow) { w.Labels = map[string]string{"a": "b"} }, ""},
		{"hurry with Teardown", func(w *Workflow) { w.Spec.Hurry, w.Spec.DesiredState = true, Teardown }, ""},
		{"hurry alone", func(w *Workflow) { w.Spec.Hurry = true }, `Spec.Hurry: Invalid value: true: the hurry flag may be set only in Teardown`},
		{"hurry with the next state", func(w *Workflow) { w.Spec.Hurry, w.Spec.DesiredState = true, DataIn }, "the hurry flag may be set only in Teardown"},
		{"forceReady", func(w *Workflow) { w.Spec.ForceReady = true }, ""},
		{"wlmID", func(w *Workflow) { w.Spec.WLMID = "flux" }, "Spec.WLMID: Forbidden: field is immutable"},
		{"jobID", func(w *Workflow) { w.Spec.JobID = intstr.FromString("7") }, "Spec.JobID: Forbidden: field is immutable"},
		{"userID", func(w *Workflow) { w.Spec.UserID = 0 }, "Spec.UserID: Forbidden: field is immutable"},
		{"groupID", func(w *Workflow) { w.Spec.GroupID = 0 }, "Spec.GroupID: Forbidden: field is immutable"},
		{"dwDirectives", func(w *Workflow) { w.Spec.DWDirectives[0] = "#DW Setup action=complete" }, "Spec.DWDirectives: Forbidden: field is immutable"},
		{"a driver of the state works", func(w *Workflow) { w.Status.Drivers[0].Status = Running }, ""},
		{"a driver of the state fails", func(w *Workflow) { w.Status.Drivers[0].Status, w.Status.Drivers[0].Error = Error, "e" }, ""},
		{"a driver of the state completes", func(w *Workflow) { w.Status.Drivers[0].Status, w.Status.Drivers[0].Completed = Completed, true }, ""},
		{"a driver says Completed but has not", func(w *Workflow) { w.Status.Drivers[0].Status = Completed }, ""},
		{"a driver completes without saying so", func(w *Workflow) { w.Status.Drivers[0].Completed = true }, "Status.Drivers[0]: Internal error: driver cannot be completed without status=Completed"},
		{"a driver completes with an error", func(w *Workflow) {
			w.Status.Drivers[0] = Driver{DriverID: "tester", WatchState: Setup, Completed: true, Status: Completed, Error: "e"}
		}, "Status.Drivers[0]: Internal error: driver cannot be completed when error is present"},
		{"a driver of the state takes its completion back", func(w *Workflow) { w.Status.Drivers[1].Completed = false }, "Status.Drivers[1]: Internal error: driver cannot change from completed state"},
		{"a driver of another state", func(w *Workflow) { w.Status.Drivers[2].Status = Running }, "Status.Drivers[2]: Internal error: driver entry for non-current state cannot be changed"},
		{"a driver moves to another state", func(w *Workflow) { w.Status.Drivers[0].WatchState = DataIn }, "Status.Drivers[0]: Internal error: driver entry for non-current state cannot be changed"},
		{"the last drivers vanish", func(w *Workflow) { w.Status.Drivers = w.Status.Drivers[:1] }, ""},
		{"all drivers vanish", func(w *Workflow) { w.Status.Drivers = nil }, ""},
		{"a driver of another state takes the place of one that vanishes", func(w *Workflow) { w.Status.Drivers = w.Status.Drivers[1:] }, "driver entry for non-current state cannot be changed"},
		{"a driver is added", func(w *Workflow) { w.Status.Drivers = append(w.Status.Drivers, w.Status.Drivers[2]) }, errDriverAdded.Error()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			old := in(newWorkflow(t, "#DW Setup action=wait", "#DW Setup action=wait", "#DW DataIn action=wait"), Setup, false)
			old.Status.Drivers[1].Status, old.Status.Drivers[1].Completed = Completed, true
			w := old.deepCopy()
			test.change(w)
			checkRefusal(t, test.refusal, normal.validateUpdate(old, w))
		})
	}
}

func checkRefusal(t *testing.T, refusal string, err error) {
	t.Helper()
	if refusal == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, refusal)
}
