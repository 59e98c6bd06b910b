package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"slurmk8s.io/slurmk8s/tests/dwssim"
)

// waitEverywhere are directives that make each state wait for an external driver.
func waitEverywhere() []string {
	var directives []string
	for _, state := range dwssim.States {
		directives = append(directives, state+" action=wait")
	}
	return directives
}

// waitNowhere are directives that make a driver work in each state.
func waitNowhere() []string {
	var directives []string
	for _, state := range dwssim.States {
		directives = append(directives, state+" action=complete")
	}
	return directives
}

func TestHappyPathWithoutWaiting(t *testing.T) {
	parallel(t)
	j := submit(t, script{directives: []string{"jobdw type=xfs capacity=1GiB pool=dws name=scratch"}, body: "env"})
	j.ends("COMPLETED")
	j.gone()
}

func TestEachStateWaitsForItsDriver(t *testing.T) {
	parallel(t)
	j := submit(t, script{
		directives: append(waitEverywhere(), "Setup action=complete env=E2E_EARLY:known", "PreRun action=complete env=E2E_LATE:known"),
		body:       "env",
	})
	for _, state := range dwssim.States {
		j.reaches(state)
		words := j.status(user)
		require.Equal(t, state, words["desiredState"])
		require.Equal(t, state, words["currentState"])
		require.Equal(t, dwssim.DriverWait, words["status"])
		j.complete(state)
	}
	j.ends("COMPLETED")
	j.gone()
	output := strings.Split(j.output(), "\n")
	require.Contains(t, output, "DW_WORKFLOW_NAME="+j.workflow)
	require.Contains(t, output, "DW_WORKFLOW_NAMESPACE="+cluster.Namespace)
	require.Contains(t, output, "E2E_EARLY=known", "a variable that DWS gives in Setup")
	require.Contains(t, output, "E2E_LATE=known", "one that it gives in PreRun, which the node asks for")
}

// parseStatus reads bbstat's answer: words of one "=" each, the three that scripts read first.
func parseStatus(t *testing.T, text string) map[string]string {
	t.Helper()
	words := map[string]string{}
	all := strings.Fields(text)
	require.GreaterOrEqual(t, len(all), 3, "bbstat: %q", text)
	for i, name := range []string{"desiredState", "currentState", "status"} {
		require.True(t, strings.HasPrefix(all[i], name+"="), "bbstat: %q", text)
	}
	for _, word := range all {
		require.Equal(t, 1, strings.Count(word, "="), "bbstat: %q", text)
		key, value, _ := strings.Cut(word, "=")
		words[key] = value
	}
	return words
}
