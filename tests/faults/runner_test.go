package faults

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/eventually"
)

// fakeSites lets jobs run side by side; the fake hook knows one namespace.
func fakeSites(n int) []Site {
	sites := make([]Site, n)
	for i := range sites {
		sites[i] = Site{Namespace: ns, Cluster: "c"}
	}
	return sites
}

func TestRunnerPassesASoundHook(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole matrix of the fake hook takes seconds, left out by -short")
	}
	api := startFakeAPI(t)
	runner := NewRunner(api.config(), Faults(), fakeSites(12), fakeSites(4))
	go runner.Watch(t.Context(), nil)
	report, err := runner.Run(t.Context(), fakeHookScenario(t, api, sound))
	require.NoError(t, err)
	t.Logf("\n%s%s", report, legend)
	passed, failed, _ := report.Count()
	assert.Zero(t, failed)
	assert.Greater(t, passed, 80)
	assert.Equal(t, `{"exists":true,"state":"Setup"}`, report.EndState)
	assert.Equal(t, []string{"create", "patch", "get", "watch", "get"}, verbs(report.Requests))
}

func TestRunnerFindsADefect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		defect, faults, problem string
	}{
		{notAgain, "kill-after", "run again: exit status 3"},
		{noDeadline, "hang", "deadline 6s"},
		{talkative, "403", "MESSAGE is not one line"},
		{panics, "403", "crash text"},
		{vandal, "403", "changed a foreign object"},
		{impatient, "503", "did not get over it"},
		{blames, "403", "blames the user"},
	}
	for _, tt := range tests {
		t.Run(tt.defect, func(t *testing.T) {
			api := startFakeAPI(t)
			selected, err := Select(tt.faults)
			require.NoError(t, err)
			report, err := NewRunner(api.config(), selected, fakeSites(12), fakeSites(2)).Run(t.Context(), fakeHookScenario(t, api, tt.defect))
			require.NoError(t, err)
			_, failed, _ := report.Count()
			assert.Positive(t, failed)
			assert.Contains(t, report.String(), tt.problem)
		})
	}
}

func TestRunnerTriesAgainWhatFailedOnAnOverrunMachine(t *testing.T) {
	api := startFakeAPI(t)
	selected, err := Select("503")
	require.NoError(t, err)
	runner := NewRunner(api.config(), selected, fakeSites(6), fakeSites(6))
	go runner.Watch(t.Context(), func(context.Context) error { return errors.New("starved") })
	eventually.True(t, "the machine is overloaded", func() bool { return runner.machine.overloaded(time.Now()) })
	report, err := runner.Run(t.Context(), fakeHookScenario(t, api, impatient))
	require.NoError(t, err)
	assert.Positive(t, report.Voided())
	_, failed, _ := report.Count()
	assert.Positive(t, failed, "a machine that stays overrun proves nothing, and that is no success")
}

func TestRunnerRefusesAnUndisturbedRunThatFails(t *testing.T) {
	api := startFakeAPI(t)
	s := fakeHookScenario(t, api, sound)
	s.Command = func(*Job) Command { return Command{Argv: []string{"/bin/sh", "-c", "printf 'MESSAGE=no\\0'; exit 3"}} }
	_, err := NewRunner(api.config(), Faults(), fakeSites(1), fakeSites(1)).Run(t.Context(), s)
	assert.ErrorContains(t, err, "undisturbed run: exit status 3: no")
}

func TestRunnerRepairsByWhatSlurmRunsNext(t *testing.T) {
	api := startFakeAPI(t)
	s := fakeHookScenario(t, api, notAgain) // it would fail if it were run again
	s.Only = []string{"kill-after"}
	s.Next = func(*Job) Command { return Command{Argv: []string{"/bin/true"}} }
	s.State = func(context.Context, *Job) (any, error) { return "whatever it left", nil }
	left := errors.New("an object is left")
	ended := 0
	s.Finally = func(_ context.Context, c *Job) error {
		if c.Plan.At > 0 {
			ended++
			return left
		}
		return nil
	}
	report, err := NewRunner(api.config(), Faults(), fakeSites(1), fakeSites(1)).Run(t.Context(), s)
	require.NoError(t, err)
	assert.Positive(t, ended)
	for _, r := range report.Results {
		assert.Equal(t, "kill-after", r.Plan.Fault.Name)
		assert.Equal(t, []string{"at the end: an object is left"}, r.Problems)
	}
	assert.Len(t, report.Results, ended)
}

func TestReportMatrix(t *testing.T) {
	reset, hang, kill := fault(t, "reset"), fault(t, "hang"), fault(t, "kill-after")
	r := &Report{
		Scenario: "setup",
		Requests: []Request{
			{Number: 1, Verb: "get", Path: "/apis"},
			{Number: 2, Verb: "create", Path: "/apis/g/v/namespaces/n/workflows", Resource: "workflows", Query: "fieldManager=slurmk8s"},
		},
		Results: []Result{
			{Plan: Plan{Fault: hang, At: 1, Mode: Always}, Struck: true, Code: CodeFailed, Problems: []string{"took 9.1s, deadline 4s"}},
			{Plan: Plan{Fault: hang, At: 2, Mode: Always}, Struck: true, Code: CodeFailed, Problems: []string{"took 8.9s, deadline 4s"}, Voided: 1},
			{Plan: Plan{Fault: hang, At: 1}, Struck: true, Code: CodeOK},
			{Plan: Plan{Fault: reset, At: 1}, Struck: true, Code: CodeOK},
			{Plan: Plan{Fault: reset, At: 2}, Code: CodeOK},
			{Plan: Plan{Fault: reset, At: 1, Mode: Always}, Struck: true, Code: CodeFailed},
			{Plan: Plan{Fault: kill, At: 2}, Struck: true, Code: -1},
		},
	}
	want := []string{
		"setup: 5 passed, 2 failed (1 of the passed had no such request; slowest run 0s)",
		"  the machine was overrun: 1 tries proved nothing and were made again",
		"  1 get /apis",
		"  2 create workflows?fieldManager=slurmk8s",
		"                          1    2",
		"  reset once             ok    ~",
		"  reset always            e    .",
		"  hang always          FAIL FAIL",
		"  hang once              ok    .",
		"  kill-after              .    k",
		"  FAIL hang always at request 1,2: took 9.1s, deadline 4s",
	}
	assert.Equal(t, want, strings.Split(strings.TrimRight(r.String(), "\n"), "\n"))
}

func verbs(requests []Request) []string {
	var v []string
	for _, r := range requests {
		v = append(v, r.Verb)
	}
	return v
}
