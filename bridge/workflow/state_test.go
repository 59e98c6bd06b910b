package workflow

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestReached(t *testing.T) {
	tests := []struct {
		name           string
		desired, state State
		ready, want    bool
	}{
		{"done", Setup, Setup, true, true},
		{"DWS is at work", Setup, Setup, false, false},
		{"directly after the change, all of it still of the former state", Setup, Proposal, true, false},
		{"another state is asked for", DataIn, Setup, true, false},
		{"past it", DataIn, DataIn, true, false},
		{"DWS has not looked at it yet", Setup, "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &object{Desired: tt.desired, State: tt.state, Ready: tt.ready, Status: "Completed"}
			assert.Equal(t, tt.want, o.reached(Setup))
		})
	}
}

func TestWorstIsAboutThePresentStateOnly(t *testing.T) {
	assert.Equal(t, "Error", (&object{Desired: Setup, State: Setup, Status: "Error"}).worst())
	assert.Empty(t, (&object{Desired: DataIn, State: Setup, Status: "Error"}).worst(), "of the former state")
}

func TestFailureIsDWSsMessageFirstThenTheDirective(t *testing.T) {
	directives := []string{"#DW jobdw name=a", "#DW copy_in source=b"}
	tests := []struct {
		name string
		o    object
		want string
	}{
		{"message and directive", object{Message: "DW Directive 1: no space", Drivers: []driver{
			{Directive: 0, Watch: Setup, Status: "Completed"}, {Directive: 1, Watch: Setup, Status: "Error", Error: "internal"}}},
			"Setup failed: DW Directive 1: no space (internal) [#DW copy_in source=b]"},
		{"an error that the message ends in", object{Message: "DW Directive 0: user error: ", Drivers: []driver{{Status: "Error", Watch: Setup, Error: "no space"}}},
			"Setup failed: DW Directive 0: user error: no space [#DW jobdw name=a]"},
		{"an error that the message has already", object{Message: "DW Directive 0: no space", Drivers: []driver{{Status: "Error", Watch: Setup, Error: "no space"}}},
			"Setup failed: DW Directive 0: no space [#DW jobdw name=a]"},
		{"of two drivers the one that the message is about", object{Message: "DW Directive 1: no space", Drivers: []driver{
			{Directive: 0, Watch: Setup, Status: "Error", Error: "x"}, {Directive: 1, Watch: Setup, Status: "Error", Error: "y"}}},
			"Setup failed: DW Directive 1: no space (y) [#DW copy_in source=b]"},
		{"without a message the driver's", object{Drivers: []driver{{Directive: 0, Watch: Setup, Status: "Error", Message: "m", Error: "e"}}},
			"Setup failed: m (e) [#DW jobdw name=a]"},
		{"without the driver's message its error", object{Drivers: []driver{{Directive: 0, Watch: Setup, Status: "Error", Error: "e"}}},
			"Setup failed: e [#DW jobdw name=a]"},
		{"no word at all", object{}, "Setup failed: DWS gives no reason"},
		{"a driver of another state is not it", object{Message: "m", Drivers: []driver{{Directive: 0, Watch: DataIn, Status: "Error"}}}, "Setup failed: m"},
		{"an index that is wrong", object{Message: "m", Drivers: []driver{{Directive: 7, Watch: Setup, Status: "Error"}, {Directive: -1, Watch: Setup, Status: "Error"}}}, "Setup failed: m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.o
			o.Desired, o.State, o.Status, o.Directives = Setup, Setup, "Error", directives
			assert.Equal(t, tt.want, o.failure())
		})
	}
}

func TestALongMessageLeavesRoomForTheDirective(t *testing.T) {
	o := &object{State: Setup, Status: "Error", Message: strings.Repeat("ä", 5000), Directives: []string{"#DW " + strings.Repeat("x", 5000)},
		Drivers: []driver{{Watch: Setup, Status: "Error"}}}
	text := o.failure()
	assert.Contains(t, text, "[#DW xxx")
	assert.LessOrEqual(t, len(text), 800)
	assert.True(t, utf8.ValidString(text))
}

func TestARefusalNamesTheDirectiveThatItIsAbout(t *testing.T) {
	const jobdw, setup = "#DW jobdw type=ext4 capacity=1GB", "#DW Setup action=wait colour=red"
	tests := []struct {
		name, text string
		directives []string
		want       string
	}{
		{"the only one", "missing required argument '^name$'", []string{jobdw}, "missing required argument 'name' [" + jobdw + "]"},
		{"by the argument", "unsupported argument 'colour'", []string{jobdw, setup}, "unsupported argument 'colour' [" + setup + "]"},
		{"by argument and value", "argument 'type' invalid string 'ext4'", []string{"#DW jobdw type=xfs name=ext4x", jobdw},
			"argument 'type' invalid string 'ext4' [" + jobdw + "]"},
		{"the one that lacks the argument", "missing required argument '^name$'", []string{"#DW jobdw name=a", jobdw}, "missing required argument 'name' [" + jobdw + "]"},
		{"two lack the argument", "missing required argument '^name$'", []string{jobdw, setup}, "missing required argument 'name'"},
		{"both have it", "argument 'type' is wrong", []string{jobdw, jobdw}, "argument 'type' is wrong"},
		{"it is in the text", "invalid directive '" + setup + "'", []string{jobdw, setup}, "invalid directive '" + setup + "'"},
		{"nothing is quoted", "no ruleset", []string{jobdw}, "no ruleset"},
		{"there are none", "invalid", nil, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, refusal(tt.text, tt.directives))
		})
	}
}

func TestElapsedIsThatOfThePresentState(t *testing.T) {
	since := map[string]string{annotationStateSince: time.Now().Add(-time.Hour).Format(time.RFC3339)}
	tests := []struct {
		name string
		o    object
		want string // how it begins
	}{
		{"done: as DWS measured it", object{Desired: Setup, State: Setup, Ready: true, Elapsed: "3s", Annotations: since}, "3s"},
		{"at work", object{Desired: Setup, State: Setup, Elapsed: "3s", Annotations: since}, "1h0m"},
		{"not taken up yet", object{Desired: DataIn, State: Setup, Ready: true, Elapsed: "3s", Annotations: since}, "1h0m"},
		{"nobody knows since when", object{Desired: Setup, State: Setup, Elapsed: "3s"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.o.elapsed()
			assert.True(t, strings.HasPrefix(got, tt.want) && (got == "") == (tt.want == ""), got)
		})
	}
}

func TestFailedBeforeRun(t *testing.T) {
	tests := []struct {
		name string
		d    driver
		want bool
	}{
		{"in Proposal", driver{Watch: Proposal, Status: "Error"}, true},
		{"in Setup", driver{Watch: Setup, Status: "Error", Message: "User error: no such thing"}, true},
		{"in Setup without room, which may be elsewhere or later", driver{Watch: Setup, Status: "Error",
			Message: "WLM error: r1: insufficient capacity available"}, false},
		{"in Setup on a rabbit that fails: the hook knows whether the job goes back", driver{Watch: Setup, Status: "Error",
			Error: "internal error: Node: r3: NnfNodeBlockStorage has not been reconciled after 300 seconds"}, true},
		{"in PreRun", driver{Watch: PreRun, Status: "Error"}, true},
		{"in PostRun the job has run", driver{Watch: PostRun, Status: "Error"}, false},
		{"in Teardown", driver{Watch: Teardown, Status: "Error"}, false},
		{"a condition that may pass", driver{Watch: Setup, Status: "TransientCondition"}, false},
		{"in a state of the future", driver{Watch: "Later", Status: "Error"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, (&object{Drivers: []driver{{Watch: Setup, Status: "Completed"}, tt.d}}).failedBeforeRun(time.Minute))
		})
	}
}

func TestStates(t *testing.T) {
	assert.Equal(t, Setup, Proposal.next())
	assert.Equal(t, Teardown, DataOut.next())
	assert.True(t, Proposal.before(Teardown))
	assert.False(t, Setup.before(Setup))
	assert.Equal(t, -1, State("Later").index())
}

func TestParseTakesAnythingWithoutAPanic(t *testing.T) {
	for name, content := range map[string]map[string]any{
		"empty":       {},
		"wrong types": {"metadata": map[string]any{"labels": "x"}, "spec": "x", "status": []any{1}},
		"wrong types further down": {
			"spec":   map[string]any{"desiredState": int64(1), "hurry": "yes", "userID": "x", "dwDirectives": []any{int64(1)}},
			"status": map[string]any{"ready": "true", "env": map[string]any{"A": int64(1)}, "drivers": []any{"x", nil, map[string]any{"dwdIndex": "x"}}, "computes": "x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := parse(&unstructured.Unstructured{Object: content})
			assert.False(t, o.Ready)
		})
	}
}

func TestJobIDAsNumberOrText(t *testing.T) {
	for _, id := range []any{int64(12), "12"} {
		o := parse(&unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"jobID": id}}})
		assert.Equal(t, "12", o.JobID)
	}
}

func TestAWordOfAStatusLineIsOne(t *testing.T) {
	assert.Equal(t, "a_b_c_d_e_f_g_h", word("a b=c\td\ne\u0085f\u00a0g\u2028h"))
	assert.Len(t, strings.Fields(word(strings.Repeat("x y", 1000))), 1)
	assert.LessOrEqual(t, len(word(strings.Repeat("ä", 1000))), 400)
}

func TestATransientConditionEndsTheJobOnlyWhenItHasOutlastedItsGrace(t *testing.T) {
	condition := []driver{{Watch: DataIn, Status: "TransientCondition"}}
	since := func(age time.Duration) map[string]string {
		return map[string]string{annotationTransientSince: time.Now().Add(-age).UTC().Format(time.RFC3339)}
	}
	for name, tt := range map[string]struct {
		o    object
		want bool
	}{
		"never noticed": {object{Drivers: condition}, false},
		"young":         {object{Drivers: condition, Annotations: since(time.Second)}, false},
		"outlasted":     {object{Drivers: condition, Annotations: since(2 * time.Minute)}, true},
		"after the run": {object{Drivers: []driver{{Watch: DataOut, Status: "TransientCondition"}}, Annotations: since(time.Hour)}, false},
		"damaged stamp": {object{Drivers: condition, Annotations: map[string]string{annotationTransientSince: "x"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, tt.o.failedBeforeRun(time.Minute))
		})
	}
}
